"""ASGI middleware: request id, routing, access control, CORS, and errors before an endpoint is reached."""

from __future__ import annotations

from urllib.parse import quote

from steadyvoice.gateway.access_control import (
    RequestHead,
    RouteClass,
    allowed_origin,
    check_access,
    check_duplicate_headers,
)
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.dialects.base import ErrorDialect, GatewayDialect
from steadyvoice.gateway.dialects.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.dialects.openai import OpenAIDialect
from steadyvoice.gateway.http import HTTPError, Receive, Response, Scope, Send
from steadyvoice.gateway.request_context import RequestContext, current_request_id
from steadyvoice.gateway.router import Route, RouteTable
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech

_EXPOSED_HEADERS = (
    "x-request-id, x-steadyvoice-outcome, x-steadyvoice-provider, request-id, retry-after, character-cost, "
    "current-concurrent-requests, maximum-concurrent-requests"
)


class GatewayMiddleware:
    """ASGI application of the gateway: wraps the routes with request context, access control and CORS."""

    def __init__(self, context: GatewayContext, routes: RouteTable) -> None:
        self._context, self.routes = context, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await _lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._context.record_finished()
        state = scope.setdefault("state", {})
        request = state.get("request_context")
        if request is None:
            request = state["request_context"] = RequestContext(scope, send, clock=self._context.clock)
        current_request_id.set(request.request_id)
        try:
            if request.continued:  # access control has admitted it
                await request.continued.endpoint(scope, receive, request.send)
            else:
                await self._dispatch(scope, receive, request)
        finally:
            # Also after a cancellation, when the client has left: its request appears in the log and in the metrics.
            for observer in self._context.observers:
                observer.request_finished(request)

    async def _dispatch(self, scope: Scope, receive: Receive, request: RequestContext) -> None:
        route, scope["path_params"] = self.routes.find(scope["path"], scope.get("raw_path") or b"")
        request.route_class = route.route_class
        if route.suggestion:
            request.suggested_path = route.suggestion.path
        client = scope.get("client")
        rules = self._context.access_rules
        head = RequestHead(
            scope["method"], scope["scheme"], route.route_class, request.headers, client[0] if client else None
        )
        # CORS comes before access control: a browser sends preflight requests without a credential, and shows a page
        # the text of an error only if the response allows its origin.
        origin = allowed_origin(head, rules) if b"origin" in request.headers else None
        if origin and _is_preflight(head):
            await _preflight_response(request)(scope, receive, request.send)
            return
        if origin:
            request.add_headers(_cors_headers(origin))
        if error := check_duplicate_headers(scope["headers"]) or check_access(head, rules):
            if error.status == 401:
                request.add_headers({"www-authenticate": "Bearer"})  # https://www.rfc-editor.org/rfc/rfc9110#status.401
            await _error_response(error, request)(scope, receive, request.send)
            return
        endpoint = (
            route.endpoints.get(head.method) or _method_not_allowed(route, request) or _route_not_found(route, request)
        )
        await endpoint(scope, receive, request.send)


def _is_preflight(head: RequestHead) -> bool:
    return head.method == "OPTIONS" and b"access-control-request-method" in head.headers


def _preflight_response(request: RequestContext) -> Response:
    origin = request.headers[b"origin"].decode("latin-1")
    requested = request.headers.get(b"access-control-request-headers", b"").decode("latin-1")
    return Response(
        204,
        headers={
            **_cors_headers(origin),
            "access-control-allow-methods": "GET, POST",
            "access-control-allow-headers": requested,
            "access-control-max-age": "600",
        },
    )


def _cors_headers(origin: str) -> dict[str, str]:
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": _EXPOSED_HEADERS,
        "vary": "origin",
    }


async def _lifespan(receive: Receive, send: Send) -> None:
    """Confirm the server's start and stop; the service is opened and closed by the caller."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def dialect_for(request: RequestContext) -> ErrorDialect:
    """Choose the dialect of an error by the path and, where both vendors have it, by the kind of credential."""
    if request.route_class not in (RouteClass.SPEECH, RouteClass.SOCKET):
        return GatewayDialect()
    path: str = request.suggested_path or request.scope["path"]
    if path.startswith("/v1/audio/"):
        return OpenAIDialect()
    if path.startswith(_ELEVENLABS_ONLY):
        return ElevenLabsDialect()
    return OpenAIDialect() if request.has_bearer_token else ElevenLabsDialect()


_ELEVENLABS_ONLY = (
    elevenlabs_speech.SPEECH_PATH, elevenlabs_speech.VOICES_PATH, elevenlabs_speech.VOICES_V2_PATH,
    elevenlabs_speech.USER_PATH, elevenlabs_speech.HISTORY_PATH,
)  # fmt: skip


def _error_response(error: HTTPError, request: RequestContext) -> Response:
    return dialect_for(request).error_response(error, request.request_id)


def _method_not_allowed(route: Route, request: RequestContext) -> Response | None:
    """Return the response to a method that an endpoint does not have; None for a path without an endpoint."""
    if not route.endpoints:
        return None
    method, allowed = request.scope["method"], ", ".join(route.endpoints)
    if method == "OPTIONS":
        return Response(204, headers={"allow": f"{allowed}, OPTIONS"})
    request.add_headers({"allow": allowed})
    return _error_response(
        HTTPError(405, "method_not_allowed", f"method {method[:20]} is not allowed; use {allowed}"), request
    )


def _route_not_found(route: Route, request: RequestContext) -> Response:
    """Return the response to a path without an endpoint, which suggests the endpoint that was probably meant."""
    method, path = request.scope["method"], request.scope["path"]
    if route.problem:
        return _error_response(HTTPError(400, "invalid_path", route.problem), request)
    message = f"no route for {method[:20]} {_printable_path(path)}"
    if suggestion := route.suggestion:
        methods = route.suggested_methods
        use = method if method in methods else methods[0]
        filled = f" ({suggestion.filled})" if suggestion.filled != suggestion.path else ""
        message += f"; did you mean {use} {suggestion.path}{filled}?"
    else:
        message += "; GET /openapi.json lists every endpoint"
    return _error_response(HTTPError(404, "not_found", message), request)


def _printable_path(path: str) -> str:
    """Return a client's path percent-encoded, so that it can neither be markup nor contain control characters."""
    return quote(path[:200], safe="/:@!$()*,;=~-._", errors="replace")
