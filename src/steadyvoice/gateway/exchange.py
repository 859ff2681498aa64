"""One request and its answer, as far as they have come: what is logged, counted and shown of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from random import getrandbits
from typing import Any

from steadyvoice.gateway.guard import Room
from steadyvoice.gateway.reply import OUTLET, Message, Scope, Send
from steadyvoice.service.pipeline.provider_call import AudioSink

current_request: ContextVar[str | None] = ContextVar("steadyvoice_request", default=None)
"""The id of the request that is being answered here, for the log."""

_SOUND_ID = re.compile(rb"[\x21-\x7e]{1,100}")


class Exchange:
    """Sends an answer on, and takes note of it. `at` is the clock's time when the request came."""

    __slots__ = (
        "_clock", "_extra", "_send", "at", "began_at", "bytes_sent", "complete", "headers", "meant", "request_id",
        "room", "scope", "status", "told",
    )  # fmt: skip

    def __init__(self, scope: Scope, send: Send, *, clock: Callable[[], float]) -> None:
        self.scope, self._clock, self.at = scope, clock, clock()
        self.began_at: float | None = None  # when the answer's first byte was there
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.request_id = id_of(self.headers.get(b"x-request-id"))
        self.room = Room.PAGE  # until its route is found
        self.meant: str | None = None  # the endpoint that its path was probably meant for, when it has none
        self.status: int | None = None
        self.bytes_sent = 0
        self.complete = False  # the answer was sent to its end
        self.told: dict[str, Any] = {}  # what the access log will say of it besides
        self._send = send
        self._extra: list[tuple[bytes, bytes]] = [(b"x-request-id", self.request_id.encode())]

    @property
    def brings_bearer(self) -> bool:
        """Whether its client has a Bearer token, as OpenAI's have."""
        return self.headers.get(b"authorization", b"").lower().startswith(b"bearer ")

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Add these to the answer, whoever gives it."""
        self._extra += [(name.encode(), value.encode()) for name, value in headers.items()]

    def outlet(self) -> AudioSink | None:
        """Where the rest of an answer that has begun can be sent at once, if its server has such a thing."""
        made: AudioSink | None = self.scope[OUTLET]() if OUTLET in self.scope else None
        return made and _Counted(self, made)

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status, self.began_at = message["status"], self._clock()
            message["headers"] = [*message.get("headers", ()), *self._extra]
        else:
            self.bytes_sent += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        await self._send(message)


class _Counted:
    """An outlet of which an exchange knows."""

    __slots__ = ("_exchange", "_write", "open")

    def __init__(self, exchange: Exchange, outlet: AudioSink) -> None:
        self._exchange, self.open, self._write = exchange, outlet.open, outlet.write

    def write(self, data: bytes) -> None:
        """Send this on."""
        self._exchange.bytes_sent += len(data)
        self._write(data)


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that a request belongs to."""
    found: Any = scope["state"]["exchange"]
    assert isinstance(found, Exchange)  # noqa: S101 - the front door has put it there
    return found


def id_of(said: bytes | None) -> str:
    """A request's id: the caller's own, when it is fit for a log; else a new one."""
    if said and _SOUND_ID.fullmatch(said):
        return said.decode("ascii")
    return f"{getrandbits(64):016x}"  # a name, not a secret
