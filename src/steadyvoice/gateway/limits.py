"""How much a client may send, and how long it may keep us waiting. Pure: what is seen in, a verdict out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from steadyvoice.service.pipeline.audio_limits import MAX_AUDIO_BYTES
from steadyvoice.service.settings import Server

_NEVER = float("inf")
_AT_ONCE = 512 * 1024


class Wait(Enum):
    """What a connection is waiting for, and who is to blame when it does not come."""

    HEAD = "head"  # the rest of a request's head: the client
    IDLE = "idle"  # a next request: nobody
    ANSWER = "answer"  # us; bodies and providers have clocks of their own
    REST = "rest"  # the end of a body that is of no interest any more: the client
    LEAVE = "leave"  # that the client has read our last words, and goes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A short plain answer, behind which the connection ends."""

    status: int
    told: str


@dataclass(frozen=True, slots=True)
class Limits:
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
    def of(server: Server) -> Limits:
        """The configured ones; what no setting names is as above."""
        return Limits(
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
        return self.head_bytes + 8 * self.body_bytes + _AT_ONCE

    def patience(self, wait: Wait) -> float:
        """For so long this may last."""
        match wait:
            case Wait.HEAD:
                return self.head
            case Wait.IDLE:
                return self.idle
            case Wait.REST:
                return self.rest
            case Wait.LEAVE:
                return self.leave
            case Wait.ANSWER:
                return _NEVER

    @property
    def tick(self) -> float:
        """How often to look, that nobody is found out much too late."""
        return min(1.0, self.head / 4, self.idle / 4, self.rest / 4, self.write / 4)


def refused_head(url: bytes, headers: Sequence[tuple[bytes, bytes]], version: str, limits: Limits) -> Refusal | None:
    """Say why the head of a request is not taken, by its size and shape; None if it is."""
    if len(url) > limits.url_bytes:
        return Refusal(414, f"a URL has at most {limits.url_bytes} bytes here")
    if len(headers) > limits.headers:
        return Refusal(431, f"a request has at most {limits.headers} headers here")
    if sum(len(name) + len(value) for name, value in headers) > limits.head_bytes:
        return too_much_head(limits)
    if version not in ("1.0", "1.1"):
        return Refusal(505, "HTTP/1.1 is spoken here")
    return None


def no_request(data: bytes, why: str = "") -> Refusal:
    """What cannot be read, and why: in the parser's words, if it has some."""
    if data.startswith(b"\x16\x03"):  # a TLS handshake: https:// at a door for http://
        return Refusal(400, "this is TLS, and plain HTTP is spoken here")
    return Refusal(400, f"this is no HTTP request{f': {why}' if why else ''}")


def too_much_head(limits: Limits) -> Refusal:
    """The head of a request, before it is complete or after."""
    return Refusal(431, f"the head of a request has at most {limits.head_bytes} bytes here")


class Outflow:
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
