"""Connection limits, and the set of open connections with its idle order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol

from uvicorn.server import ServerState

from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.pipeline.audio_limits import MAX_AUDIO_BYTES

_NEVER = float("inf")
_READ_AHEAD_BYTES = 512 * 1024


class ConnectionPhase(Enum):
    """What a connection is waiting for, and who is to blame when it does not come."""

    HEAD = "head"  # the rest of a request's head: the client
    IDLE = "idle"  # a next request: nobody
    ANSWER = "answer"  # us; bodies and providers have clocks of their own
    REST = "rest"  # the end of a body that is of no interest any more: the client
    LEAVE = "leave"  # that the client has read our last words, and goes


@dataclass(frozen=True, slots=True)
class ConnectionRefusal:
    """A short plain answer, behind which the connection ends."""

    status: int
    told: str


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Sizes in bytes, times in seconds."""

    connections: int = 8192
    head_bytes: int = 32 * 1024
    headers: int = 100
    url_bytes: int = 8 * 1024
    body_bytes: int = 1024 * 1024  # as they are counted by who reads it; on the wire a chunk may have a byte
    answer_bytes: int = MAX_AUDIO_BYTES  # that are held where they cannot be sent as they are made: HTTP/1.0
    pipelined: int = 8  # requests of one connection that wait behind another
    latecomers: int = 512  # connections beyond their limit, for as long as they are told so
    head: float = 10.0
    idle: float = 75.0  # longer than clients keep theirs: they hang up, and no request meets a closed door
    rest: float = 10.0
    leave: float = 2.0
    write: float = 60.0  # in which a client takes not one byte

    @staticmethod
    def of(server: ServerConfig) -> ConnectionLimits:
        """The configured ones; what no setting names is as above."""
        return ConnectionLimits(
            connections=server.max_connections,
            body_bytes=server.max_body_bytes,
            answer_bytes=server.max_answer_bytes,
            head=server.header_timeout,
            idle=server.idle_timeout,
            rest=server.body_timeout,
            write=server.write_timeout,
        )

    @property
    def request_bytes(self) -> int:
        """On the wire, chunks and trailers and all, and what comes in before anybody has looked at it."""
        return self.head_bytes + 8 * self.body_bytes + _READ_AHEAD_BYTES

    def patience(self, wait: ConnectionPhase) -> float:
        """For so long this may last."""
        match wait:
            case ConnectionPhase.HEAD:
                return self.head
            case ConnectionPhase.IDLE:
                return self.idle
            case ConnectionPhase.REST:
                return self.rest
            case ConnectionPhase.LEAVE:
                return self.leave
            case ConnectionPhase.ANSWER:
                return _NEVER

    @property
    def tick(self) -> float:
        """How often to look, that nobody is found out much too late."""
        return min(1.0, self.head / 4, self.idle / 4, self.rest / 4, self.write / 4)


def check_head(
    url: bytes, headers: Sequence[tuple[bytes, bytes]], version: str, limits: ConnectionLimits
) -> ConnectionRefusal | None:
    """Say why the head of a request is not taken, by its size and shape; None if it is."""
    if len(url) > limits.url_bytes:
        return ConnectionRefusal(414, f"a URL has at most {limits.url_bytes} bytes here")
    if len(headers) > limits.headers:
        return ConnectionRefusal(431, f"a request has at most {limits.headers} headers here")
    if sum(len(name) + len(value) for name, value in headers) > limits.head_bytes:
        return head_too_large(limits)
    if version not in ("1.0", "1.1"):
        return ConnectionRefusal(505, "HTTP/1.1 is spoken here")
    return None


def malformed_request(data: bytes, why: str = "") -> ConnectionRefusal:
    """What cannot be read, and why: in the parser's words, if it has some."""
    if data.startswith(b"\x16\x03"):  # a TLS handshake: https:// at a door for http://
        return ConnectionRefusal(400, "this is TLS, and plain HTTP is spoken here")
    return ConnectionRefusal(400, f"this is no HTTP request{f': {why}' if why else ''}")


def head_too_large(limits: ConnectionLimits) -> ConnectionRefusal:
    """The head of a request, before it is complete or after."""
    return ConnectionRefusal(431, f"the head of a request has at most {limits.head_bytes} bytes here")


class WriteProgress:
    """Whether a client still takes what is written to it: watches how much is left over."""

    __slots__ = ("_left", "_since")

    def __init__(self) -> None:
        self._left, self._since = 0, 0.0

    def stuck(self, left: int, now: float) -> float:
        """Tell for how many seconds nothing was taken, with so many bytes left over that nothing is added to."""
        if not left or not self._left or left < self._left:
            self._since = now
        self._left = left
        return now - self._since


class ManagedConnection(Protocol):
    """A connection, as the crowd sees it."""

    @property
    def busy(self) -> bool:
        """Whether an answer is not yet over, or not yet read."""
        ...

    def check_timeouts(self, now: float) -> None:
        """End what has lasted too long."""
        ...

    def leave(self) -> None:
        """End it, without a word."""
        ...

    def shutdown(self) -> None:
        """End it at once when it is idle, else behind its answer."""
        ...

    def reset(self) -> None:
        """End it now, and let the other side notice."""
        ...


class RejectedConnection(NamedTuple):
    """Somebody whose request did not get as far as the doors, and what they were told, in so many `bytes`."""

    request_id: str
    client: tuple[str, int] | None
    refusal: ConnectionRefusal
    bytes: int
    seconds: float  # since they began


@dataclass
class ConnectionSet:
    """`waiting` has the longest waiting first. Who asks for nothing makes room for who comes."""

    limits: ConnectionLimits
    state: ServerState = field(default_factory=ServerState)
    waiting: dict[ManagedConnection, None] = field(default_factory=dict)
    closing: bool = False
    closed_one: asyncio.Event = field(default_factory=asyncio.Event)  # somebody has left
    connection_rejected: Callable[[RejectedConnection], None] = lambda who: None  # whom to tell of it

    @property
    def all(self) -> list[ManagedConnection]:
        """Everybody who is here now."""
        connections: Any = self.state.connections
        return list(connections)

    def is_full(self) -> bool:
        """Whether one too many is here."""
        return len(self.state.connections) > self.limits.connections

    def is_packed(self) -> bool:
        """Whether there is not even room to say that there is none."""
        return len(self.state.connections) > self.limits.connections + self.limits.latecomers

    def make_room(self, newcomer: ManagedConnection) -> bool:
        """Send away who has asked for nothing for the longest time, if that is anybody but the newcomer."""
        longest = next(iter(self.waiting))
        if longest is newcomer:
            return False
        longest.leave()
        return True
