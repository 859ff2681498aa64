"""The front door: everybody is asked who they are, gets a number, and is shown to the right room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from steadyvoice.gateway.dialect import Words
from steadyvoice.gateway.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.exchange import Exchange, current_request
from steadyvoice.gateway.guard import Denial, Head, Room, allowed_origin, ambiguous, denial
from steadyvoice.gateway.house import House
from steadyvoice.gateway.openai import OpenAIDialect
from steadyvoice.gateway.own import OwnWords
from steadyvoice.gateway.reply import Receive, Reply, Scope, Send

_PUBLIC = frozenset({"/healthz", "/readyz", "/openapi.json"})
_SHOWN_TO_PAGES = "x-request-id, x-steadyvoice-outcome, x-steadyvoice-provider, request-id, retry-after"


class Front:
    """The ASGI application of a gateway, around its routes."""

    def __init__(self, house: House, routes: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
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
        room = room_of(scope["path"])
        client = scope.get("client")
        head = Head(scope["method"], scope["scheme"], room, exchange.headers, client[0] if client else None)
        origin = allowed_origin(head, self._house.rules) if b"origin" in exchange.headers else None
        if origin and _is_preflight(head):
            await _preflight(exchange)(scope, receive, exchange.send)
            return
        if origin:
            exchange.add_headers(_cors(origin))
        if refused := ambiguous(scope["headers"]) or denial(head, self._house.rules):
            words = words_for(scope["path"], exchange)
            if refused.status == 401:
                exchange.add_headers(
                    {"www-authenticate": "Bearer"}
                )  # https://www.rfc-editor.org/rfc/rfc9110#status.401
            await words.denied(refused, exchange.request_id)(scope, receive, exchange.send)
        else:
            await self._routes(scope, receive, exchange.send)


def room_of(path: str) -> Room:
    """What a path leads to, whether or not anybody is at home there."""
    if path.startswith("/admin"):
        return Room.ADMIN
    if path in _PUBLIC:
        return Room.PUBLIC
    if path == "/metrics":
        return Room.METRICS
    return Room.SPEECH if path.startswith(("/v1/", "/v2/")) else Room.PAGE


def words_for(path: str, exchange: Exchange) -> Words:
    """In whose words to refuse: by the path, and where it is both vendors', by what the caller brings."""
    if room_of(path) is not Room.SPEECH:
        return OwnWords()
    openais = path.startswith("/v1/audio/") or exchange.brings_bearer
    return OpenAIDialect() if openais else ElevenLabsDialect()


class NobodyHome:
    """Answers for a path that leads nowhere, in the words of whoever seems to be asked."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = scope["state"]["exchange"]
        told = f"nobody answers {scope['method']} {scope['path'][:200]} here"
        if scope["path"].endswith("stream-input"):
            told += ": websockets are not served, but POST /v1/text-to-speech/{voice_id}/stream is"
        denied = words_for(scope["path"], exchange).denied(Denial(404, "not_found", told), exchange.request_id)
        await denied(scope, receive, send)


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
