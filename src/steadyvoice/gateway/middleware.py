"""ASGI middleware: request id, routing, access control, CORS, and errors before an endpoint is reached."""

from __future__ import annotations

from urllib.parse import quote

from steadyvoice.gateway.access_control import (
    Denial,
    RequestHead,
    RouteClass,
    allowed_origin,
    check_access,
    check_duplicate_headers,
)
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.dialects.base import GatewayDialect, Words
from steadyvoice.gateway.dialects.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.dialects.openai import OpenAIDialect
from steadyvoice.gateway.http import Receive, Response, Scope, Send
from steadyvoice.gateway.request_context import RequestContext, current_request_id
from steadyvoice.gateway.router import Route, RouteTable
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech

_EXPOSED_HEADERS = (
    "x-request-id, x-steadyvoice-outcome, x-steadyvoice-provider, request-id, retry-after, character-cost, "
    "current-concurrent-requests, maximum-concurrent-requests"
)


class GatewayMiddleware:
    """The ASGI application of a gateway, around its routes."""

    def __init__(self, context: GatewayContext, routes: RouteTable) -> None:
        self._context, self._routes = context, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":  # there is none yet
                await send({"type": "websocket.close", "code": 1008, "reason": "no websockets here"})
            case "lifespan":
                await _lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = RequestContext(scope, send, clock=self._context.clock)
        scope.setdefault("state", {})["request_context"] = request
        current_request_id.set(request.request_id)
        try:
            await self._answer(scope, receive, request)
        finally:
            for observer in self._context.observers:
                observer.request_finished(request)

    async def _answer(self, scope: Scope, receive: Receive, request: RequestContext) -> None:
        route, scope["path_params"] = self._routes.find(scope["path"], scope.get("raw_path") or b"")
        request.route_class = route.route_class
        if route.suggestion:
            request.suggested_path = route.suggestion.path
        client = scope.get("client")
        head = RequestHead(
            scope["method"], scope["scheme"], route.route_class, request.headers, client[0] if client else None
        )
        origin = allowed_origin(head, self._context.access_rules) if b"origin" in request.headers else None
        if origin and _is_preflight(head):
            await _preflight(request)(scope, receive, request.send)
            return
        if origin:
            request.add_headers(_cors_headers(origin))
        if refused := check_duplicate_headers(scope["headers"]) or check_access(head, self._context.access_rules):
            if refused.status == 401:
                request.add_headers({"www-authenticate": "Bearer"})  # https://www.rfc-editor.org/rfc/rfc9110#status.401
            await refusal_response(refused, request)(scope, receive, request.send)
            return
        door = route.endpoints.get(head.method) or method_not_allowed(route, request) or route_not_found(route, request)
        await door(scope, receive, request.send)


def _is_preflight(head: RequestHead) -> bool:
    return head.method == "OPTIONS" and b"access-control-request-method" in head.headers


def _preflight(request: RequestContext) -> Response:
    origin = request.headers[b"origin"].decode("latin-1")
    wanted = request.headers.get(b"access-control-request-headers", b"").decode("latin-1")
    return Response(
        204,
        headers={
            **_cors_headers(origin),
            "access-control-allow-methods": "GET, POST",
            "access-control-allow-headers": wanted,
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
    """A server tells when it starts and stops; whoever made the gateway opens and closes what it needs."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def dialect_for(request: RequestContext) -> Words:
    """Choose the dialect to refuse in: by the path, and where both vendors have it, by the kind of credential sent."""
    if request.route_class is not RouteClass.SPEECH:
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


def refusal_response(denial: Denial, request: RequestContext) -> Response:
    """Make the answer to a request that is not let in."""
    return dialect_for(request).denied(denial, request.request_id)


def method_not_allowed(route: Route, request: RequestContext) -> Response | None:
    """Make the answer to a method that an endpoint does not have; None for a path without an endpoint."""
    if not route.endpoints:
        return None
    method, allowed = request.scope["method"], ", ".join(route.endpoints)
    if method == "OPTIONS":
        return Response(204, headers={"allow": f"{allowed}, OPTIONS"})
    request.add_headers({"allow": allowed})
    told = f"{method[:20]} is not allowed here; use {allowed}"
    return refusal_response(Denial(405, "method_not_allowed", told), request)


def route_not_found(route: Route, request: RequestContext) -> Response:
    """Make the answer to a path without an endpoint. It names the endpoint that was probably meant."""
    method, path = request.scope["method"], request.scope["path"]
    if route.problem:
        return refusal_response(Denial(400, "invalid_path", route.problem), request)
    told = f"no route for {method[:20]} {_printable_path(path)}"
    if path.rstrip("/").endswith("stream-input"):
        told += ": websockets are not served; use POST /v1/text-to-speech/{voice_id}/stream"
    elif meant := route.suggestion:
        methods = route.suggested_methods
        use = method if method in methods else methods[0]
        filled = f" ({meant.filled})" if meant.filled != meant.path else ""
        told += f"; did you mean {use} {meant.path}{filled}?"
    else:
        told += "; GET /openapi.json lists every endpoint"
    return refusal_response(Denial(404, "not_found", told), request)


def _printable_path(path: str) -> str:
    """A client's path as it may be shown: percent-encoded, so that it can neither be markup nor hide what it is."""
    return quote(path[:200], safe="/:@!$()*,;=~-._", errors="replace")
