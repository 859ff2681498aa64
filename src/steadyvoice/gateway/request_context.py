"""Request context: request id, route class, timings and bytes of one request, and its admin user."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from random import getrandbits
from typing import Any, NamedTuple

from steadyvoice.gateway.access_control import RouteClass
from steadyvoice.gateway.http import OUTLET_FACTORY, Message, Receive, Scope, Send
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.service.pipeline.provider_call import AudioSink
from steadyvoice.service.result import Outcome, ReportedUtterance
from steadyvoice.service.stream import AsyncSpeechStream

current_request_id: ContextVar[str | None] = ContextVar("steadyvoice_request", default=None)
"""Id of the request that is answered in this context, for log lines."""

_PRINTABLE_ID = re.compile(rb"[\x21-\x7e]{1,100}")


ASGIEndpoint = Callable[[Scope, Receive, Send], Awaitable[None]]

PARSED_ORDER = "parsed_order"
"""Key of the scope's state: speech order of a request whose body was parsed before it reached the application."""


class ContinuedSpeech(NamedTuple):
    """Speech that the fast lane has begun, and that its endpoint has to continue."""

    endpoint: ASGIEndpoint
    order: GatewaySpeechRequest
    stream: AsyncSpeechStream


class RequestContext:
    """Request and the progress of its response, for logs and metrics.

    `received_at` and `response_started_at` are seconds of the gateway's clock; `bytes_sent` counts the response's body.
    """

    __slots__ = (
        "_clock", "_extra", "_send", "bytes_sent", "complete", "continued", "finished_at", "headers", "is_turn",
        "log_fields", "received_at", "request_id", "response_started_at", "route_class", "scope", "status",
        "suggested_path",
    )  # fmt: skip

    def __init__(self, scope: Scope, send: Send, *, clock: Callable[[], float]) -> None:
        self.scope = scope
        self._set(dict(scope["headers"]), send, clock(), clock)

    def _set(self, headers: Mapping[bytes, bytes], send: Send, received_at: float, clock: Callable[[], float]) -> None:
        """Set everything but the scope."""
        self._clock, self.received_at = clock, received_at
        self.response_started_at: float | None = None
        self.headers = headers
        self.request_id = request_id_from(self.headers.get(b"x-request-id"))
        self.route_class = RouteClass.PAGE  # until the router has found it
        self.suggested_path: str | None = None  # path of the endpoint that was probably meant, for unknown paths
        self.status: int | None = None
        self.bytes_sent = 0
        self.complete = False  # whether the response was sent to its end
        self.log_fields: dict[str, Any] = {}  # further fields of the access log
        self.finished_at: float | None = None  # set if observers get the request only some time later
        self.continued: ContinuedSpeech | None = None
        self.is_turn = False  # turn of a websocket: a call of its own, and no request
        self._send = send
        self._extra: list[tuple[bytes, bytes]] = [(b"x-request-id", self.request_id.encode())]

    @property
    def has_bearer_token(self) -> bool:
        """True if the request has a Bearer token, as OpenAI clients send it."""
        return self.headers.get(b"authorization", b"").lower().startswith(b"bearer ")

    def seconds_at(self, now: float) -> float:
        """Return the seconds from the request to its end, which is `now` unless it was some time ago."""
        return (now if self.finished_at is None else self.finished_at) - self.received_at

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Add headers to the response, whichever endpoint sends it."""
        self._extra += [(name.encode(), value.encode()) for name, value in headers.items()]

    def outlet(self) -> AudioSink | None:
        """Return a sink for the rest of a response that has begun, if the server has one."""
        sink: AudioSink | None = self.scope[OUTLET_FACTORY]() if OUTLET_FACTORY in self.scope else None
        return sink and _CountingSink(self, sink)

    async def send(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self.status, self.response_started_at = message["status"], self._clock()
            message["headers"] = [*message.get("headers", ()), *self._extra]
        else:
            self.bytes_sent += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        await self._send(message)


class _CountingSink:
    """Audio sink that counts bytes for the request context."""

    __slots__ = ("_request", "_write", "open")

    def __init__(self, request: RequestContext, sink: AudioSink) -> None:
        self._request, self.open, self._write = request, sink.open, sink.write

    def write(self, data: bytes) -> None:
        """Send data on."""
        self._request.bytes_sent += len(data)
        self._write(data)


def request_context(scope: Scope) -> RequestContext:
    """Return the context of a request, which the middleware has put into its scope."""
    found: Any = scope["state"]["request_context"]
    assert isinstance(found, RequestContext)  # noqa: S101 - set by the middleware
    return found


def request_id_from(header: bytes | None) -> str:
    """Return the client's request id, if it has 1 to 100 printable characters, else a new one."""
    if header and _PRINTABLE_ID.fullmatch(header):
        return header.decode("ascii")
    return f"{getrandbits(64):016x}"  # an identifier, not a secret


@dataclass(frozen=True, slots=True)
class Actor:
    """Admin user or signal behind an action. `via` is the authorization: admin token, loopback, or SIGHUP."""

    address: str | None
    via: str
    request_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.address or 'localhost'} ({self.via})"


_current_actor: ContextVar[Actor | None] = ContextVar("steadyvoice_author", default=None)


def current_actor() -> Actor | None:
    """Return the admin user of this context, or None for automatic actions."""
    return _current_actor.get()


@contextmanager
def acting_as(actor: Actor | None) -> Iterator[None]:
    """Attribute everything that happens inside the block to this admin user."""
    token = _current_actor.set(actor)
    try:
        yield
    finally:
        _current_actor.reset(token)


def client_outcome(request: RequestContext, utterance: ReportedUtterance) -> Outcome:
    """Return the outcome as the client saw it: `interrupted` when it left before the end of the response."""
    if utterance.report.error is None and not request.complete:
        return "interrupted"
    return utterance.outcome
