"""The front door: everybody is asked who they are, gets a number, and is shown to the right room."""

from __future__ import annotations

from steadyvoice.gateway.error_dialect import no_route, other_method, refuse
from steadyvoice.gateway.exchange import Exchange, current_request
from steadyvoice.gateway.guard import Head, allowed_origin, ambiguous, denial
from steadyvoice.gateway.house import House
from steadyvoice.gateway.paths import RouteTable
from steadyvoice.gateway.reply import Receive, Reply, Scope, Send

_SHOWN_TO_PAGES = (
    "x-request-id, x-steadyvoice-outcome, x-steadyvoice-provider, request-id, retry-after, character-cost, "
    "current-concurrent-requests, maximum-concurrent-requests"
)


class Front:
    """The ASGI application of a gateway, around its routes."""

    def __init__(self, house: House, routes: RouteTable) -> None:
        self._house, self._routes = house, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":  # there is none yet
                await send({"type": "websocket.close", "code": 1008, "reason": "no websockets here"})
            case "lifespan":
                await _live(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, send, clock=self._house.clock)
        scope.setdefault("state", {})["exchange"] = exchange
        current_request.set(exchange.request_id)
        try:
            await self._answer(scope, receive, exchange)
        finally:
            for watcher in self._house.watchers:
                watcher.answered(exchange)

    async def _answer(self, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        route, scope["path_params"] = self._routes.find(scope["path"], scope.get("raw_path") or b"")
        exchange.room = route.room
        if route.suggestion:
            exchange.meant = route.suggestion.path
        client = scope.get("client")
        head = Head(scope["method"], scope["scheme"], route.room, exchange.headers, client[0] if client else None)
        origin = allowed_origin(head, self._house.rules) if b"origin" in exchange.headers else None
        if origin and _is_preflight(head):
            await _preflight(exchange)(scope, receive, exchange.send)
            return
        if origin:
            exchange.add_headers(_cors(origin))
        if refused := ambiguous(scope["headers"]) or denial(head, self._house.rules):
            if refused.status == 401:
                exchange.add_headers(
                    {"www-authenticate": "Bearer"}
                )  # https://www.rfc-editor.org/rfc/rfc9110#status.401
            await refuse(refused, exchange)(scope, receive, exchange.send)
            return
        door = route.doors.get(head.method) or other_method(route, exchange) or no_route(route, exchange)
        await door(scope, receive, exchange.send)


def _is_preflight(head: Head) -> bool:
    return head.method == "OPTIONS" and b"access-control-request-method" in head.headers


def _preflight(exchange: Exchange) -> Reply:
    origin = exchange.headers[b"origin"].decode("latin-1")
    wanted = exchange.headers.get(b"access-control-request-headers", b"").decode("latin-1")
    return Reply(
        204,
        headers={
            **_cors(origin),
            "access-control-allow-methods": "GET, POST",
            "access-control-allow-headers": wanted,
            "access-control-max-age": "600",
        },
    )


def _cors(origin: str) -> dict[str, str]:
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": _SHOWN_TO_PAGES,
        "vary": "origin",
    }


async def _live(receive: Receive, send: Send) -> None:
    """A server tells when it starts and stops; whoever made the gateway opens and closes what it needs."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
