"""Request context: id, route class, timings and bytes of one request, and its admin user."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from random import getrandbits
from typing import Any

from steadyvoice.gateway.access_control import RouteClass
from steadyvoice.gateway.http import OUTLET_FACTORY, Message, Scope, Send
from steadyvoice.service.pipeline.provider_call import AudioSink
from steadyvoice.service.result import Outcome, ReportedUtterance

current_request_id: ContextVar[str | None] = ContextVar("steadyvoice_request", default=None)
"""The id of the request that is being answered here, for the log."""

_PRINTABLE_ID = re.compile(rb"[\x21-\x7e]{1,100}")


class RequestContext:
    """Sends an answer on, and takes note of it. `at` is the clock's time when the request came."""

    __slots__ = (
        "_clock", "_extra", "_send", "bytes_sent", "complete", "headers", "log_fields", "received_at", "request_id",
        "response_started_at", "route_class", "scope", "status", "suggested_path",
    )  # fmt: skip

    def __init__(self, scope: Scope, send: Send, *, clock: Callable[[], float]) -> None:
        self.scope, self._clock, self.received_at = scope, clock, clock()
        self.response_started_at: float | None = None  # when the answer's first byte was there
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.request_id = request_id_from(self.headers.get(b"x-request-id"))
        self.route_class = RouteClass.PAGE  # until its route is found
        self.suggested_path: str | None = None  # the endpoint that its path was probably meant for, when it has none
        self.status: int | None = None
        self.bytes_sent = 0
        self.complete = False  # the answer was sent to its end
        self.log_fields: dict[str, Any] = {}  # what the access log will say of it besides
        self._send = send
        self._extra: list[tuple[bytes, bytes]] = [(b"x-request-id", self.request_id.encode())]

    @property
    def has_bearer_token(self) -> bool:
        """Whether its client has a Bearer token, as OpenAI's have."""
        return self.headers.get(b"authorization", b"").lower().startswith(b"bearer ")

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Add these to the answer, whoever gives it."""
        self._extra += [(name.encode(), value.encode()) for name, value in headers.items()]

    def outlet(self) -> AudioSink | None:
        """Where the rest of an answer that has begun can be sent at once, if its server has such a thing."""
        made: AudioSink | None = self.scope[OUTLET_FACTORY]() if OUTLET_FACTORY in self.scope else None
        return made and _CountingOutlet(self, made)

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status, self.response_started_at = message["status"], self._clock()
            message["headers"] = [*message.get("headers", ()), *self._extra]
        else:
            self.bytes_sent += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        await self._send(message)


class _CountingOutlet:
    """An outlet of which an request knows."""

    __slots__ = ("_request", "_write", "open")

    def __init__(self, request: RequestContext, outlet: AudioSink) -> None:
        self._request, self.open, self._write = request, outlet.open, outlet.write

    def write(self, data: bytes) -> None:
        """Send this on."""
        self._request.bytes_sent += len(data)
        self._write(data)


def request_context(scope: Scope) -> RequestContext:
    """The request that a request belongs to."""
    found: Any = scope["state"]["request_context"]
    assert isinstance(found, RequestContext)  # noqa: S101 - the front door has put it there
    return found


def request_id_from(said: bytes | None) -> str:
    """A request's id: the caller's own, when it is fit for a log; else a new one."""
    if said and _PRINTABLE_ID.fullmatch(said):
        return said.decode("ascii")
    return f"{getrandbits(64):016x}"  # a name, not a secret


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody at an admin door, or a signal. `leave` is what let them in."""

    address: str | None
    leave: str
    request_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.address or 'this machine'} ({self.leave})"


_current_actor: ContextVar[Actor | None] = ContextVar("steadyvoice_author", default=None)


def current_actor() -> Actor | None:
    """Who does what is happening now; nobody, when it happens by itself."""
    return _current_actor.get()


@contextmanager
def acting_as(author: Actor) -> Iterator[None]:
    """What happens inside is this one's doing."""
    token = _current_actor.set(author)
    try:
        yield
    finally:
        _current_actor.reset(token)


def client_outcome(request: RequestContext, account: ReportedUtterance) -> Outcome:
    """Return the service's outcome, or `interrupted` when the client left before the end of the answer was sent."""
    if account.report.error is None and not request.complete:
        return "interrupted"
    return account.outcome
