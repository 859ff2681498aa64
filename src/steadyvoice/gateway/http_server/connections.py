"""Connection limits, and the set of open connections with its idle order."""

from __future__ import annotations

import asyncio
import mmap
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence, Sized
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol

from uvicorn.server import ServerState

from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.pipeline.audio_limits import MAX_AUDIO_BYTES

_NEVER = float("inf")
_READ_AHEAD_BYTES = 512 * 1024


class ConnectionPhase(Enum):
    """Event that a connection waits for; each phase has a timeout of its own."""

    HELD = "held"  # room for it, while there are too many
    HEAD = "head"  # the rest of a request's head
    IDLE = "idle"  # the next request
    RESPONSE = "response"  # the response; bodies and providers have timeouts of their own
    DRAIN = "drain"  # the end of a body that nothing reads any more
    CLOSING = "closing"  # the client's close, after the last bytes were sent to it; see `ConnectionSet.lingering`


@dataclass(frozen=True, slots=True)
class ConnectionRefusal:
    """Plain-text error response of the HTTP server, after which the connection is closed."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of one connection: sizes in bytes, times in seconds."""

    connections: int = 8192
    head_bytes: int = 32 * 1024
    headers: int = 100
    url_bytes: int = 8 * 1024
    body_bytes: int = 1024 * 1024  # as the reader counts them; on the wire, a chunk may carry a single byte
    answer_bytes: int = MAX_AUDIO_BYTES  # buffered where a response cannot be streamed: HTTP/1.0
    pipelined: int = 8  # requests of one connection that wait behind another
    # Connections that are open only until their clients have read the end. Each needs memory and a descriptor, of those
    # that the limit of open files reserves.
    lingering: int = 128  # beyond, the oldest is closed
    lingering_bytes: int = 64 * 1024 * 1024  # discarded of one
    head: float = 10.0
    # Longer than clients keep idle connections: the client closes first, and no request meets a closing connection.
    idle: float = 75.0
    drain: float = 10.0
    closing: float = 2.0  # without a byte from the client; `drain` in all
    write: float = 60.0  # in which a client reads not a single byte

    @staticmethod
    def of(server: ServerConfig) -> ConnectionLimits:
        """Return the configured limits; those without a setting have their defaults."""
        return ConnectionLimits(
            connections=server.max_connections,
            body_bytes=server.max_body_bytes,
            answer_bytes=server.max_answer_bytes,
            head=server.header_timeout,
            idle=server.idle_timeout,
            drain=server.body_timeout,
            write=server.write_timeout,
        )

    @property
    def request_bytes(self) -> int:
        """Bytes of one request on the wire: chunk framing, trailers and what is read ahead included."""
        return self.head_bytes + 8 * self.body_bytes + _READ_AHEAD_BYTES

    def timeout(self, phase: ConnectionPhase) -> float:
        """Return the timeout of a phase, in seconds."""
        match phase:
            case ConnectionPhase.HEAD:
                return self.head
            case ConnectionPhase.IDLE:
                return self.idle
            case ConnectionPhase.DRAIN:
                return self.drain
            case ConnectionPhase.CLOSING:
                return self.closing
            case ConnectionPhase.RESPONSE | ConnectionPhase.HELD:
                return _NEVER

    @property
    def tick(self) -> float:
        """Seconds between two checks of the timeouts, short enough for the shortest of them."""
        return min(1.0, self.head / 4, self.idle / 4, self.drain / 4, self.write / 4)


def check_head(
    url: bytes, headers: Sequence[tuple[bytes, bytes]], version: str, limits: ConnectionLimits
) -> ConnectionRefusal | None:
    """Return the refusal of a request whose head exceeds a limit, or None."""
    if len(url) > limits.url_bytes:
        return ConnectionRefusal(414, f"URL too long: the limit is {limits.url_bytes} bytes")
    if len(headers) > limits.headers:
        return ConnectionRefusal(431, f"too many headers: the limit is {limits.headers}")
    if sum(len(name) + len(value) for name, value in headers) > limits.head_bytes:
        return head_too_large(limits)
    if version not in ("1.0", "1.1"):
        return ConnectionRefusal(505, "HTTP version not supported: use HTTP/1.1")
    return None


def malformed_request(data: bytes, reason: str = "") -> ConnectionRefusal:
    """Return the refusal of bytes that are not an HTTP request, with the parser's reason if it gave one."""
    if data.startswith(b"\x16\x03"):  # a TLS handshake
        return ConnectionRefusal(400, "TLS handshake on a plain HTTP port: use http://")
    return ConnectionRefusal(400, f"malformed HTTP request{f': {reason}' if reason else ''}")


def head_too_large(limits: ConnectionLimits) -> ConnectionRefusal:
    """Return the refusal of a request whose headers are too large."""
    return ConnectionRefusal(431, f"request headers too large: the limit is {limits.head_bytes} bytes")


def request_too_large(limits: ConnectionLimits) -> ConnectionRefusal:
    """Return the refusal of a request whose body takes more bytes on the wire than its size allows."""
    return ConnectionRefusal(413, f"request body too large: the limit is {limits.body_bytes} bytes")


class WriteProgress:
    """Progress of a client that reads what is written to it, by the bytes that remain unsent."""

    __slots__ = ("_since", "_unsent")

    def __init__(self) -> None:
        self._unsent, self._since = 0, 0.0

    def stuck(self, unsent: int, now: float) -> float:
        """Return for how many seconds the client has read nothing.

        `unsent` are the bytes that remain in the write buffer, while nothing is added to it.
        """
        if not unsent or not self._unsent or unsent < self._unsent:
            self._since = now
        self._unsent = unsent
        return now - self._since


class ConnectionOrigin(NamedTuple):
    """Facts about the connection of a request for ASGI's scopes."""

    asgi_version: str
    server: Any
    client: Any
    scheme: str | None
    root_path: str


class ManagedConnection(Protocol):
    """Connection as the set of all connections manages it."""

    @property
    def busy(self) -> bool:
        """True if a response is not finished, or not yet read by the client."""
        ...

    def check_timeouts(self, now: float) -> None:
        """End the connection if its phase has lasted too long."""
        ...

    def close(self) -> None:
        """Close the connection without a response."""
        ...

    def shutdown(self) -> None:
        """Close the connection at once when it is idle, else after its response."""
        ...

    def reset(self) -> None:
        """Reset the connection, which the client sees as an error."""
        ...

    def hold(self) -> None:
        """Answer nothing on the new connection until it is known whether there is room for it."""
        ...

    def end_hold(self, *, admitted: bool) -> None:
        """Serve the connection, or refuse it."""
        ...


class FastExchange(Protocol):
    """Request in the fast lane."""

    @property
    def scope(self) -> MutableMapping[str, Any]:
        """ASGI scope of the request."""
        ...

    @property
    def status(self) -> int | None:
        """Status of the response; None before it begins."""
        ...

    def hand_over_now(self) -> None:
        """Have the application go on with the request, from where it is."""
        ...

    def use_sender(self, send: Callable[[Any], Awaitable[None]]) -> None:
        """Send the rest of the response in ASGI's messages."""
        ...


class RequestShortcut(Protocol):
    """Shortcut around the application for usual requests."""

    @property
    def running(self) -> Sized:
        """Requests in progress."""
        ...

    def receive(self, connection: Any, data: bytes) -> bool:
        """Begin a usual request, or wait for the rest of one; return False, and do nothing, for any other."""
        ...


class RejectedConnection(NamedTuple):
    """Request that was refused before it reached the application, for the access log."""

    request_id: str
    client: tuple[str, int] | None
    refusal: ConnectionRefusal
    bytes: int  # of the response
    seconds: float  # since the request began


@dataclass
class ConnectionSet:
    """All open connections. When there are too many, the one that has been idle the longest is closed for a new one.

    `idle` holds the connections without a request, in the order in which they became idle. `lingering` has those to
    which everything is sent, oldest first, each with the time when it is closed at the latest.
    """

    limits: ConnectionLimits
    state: ServerState = field(default_factory=ServerState)
    idle: dict[ManagedConnection, None] = field(default_factory=dict)
    lingering: dict[ManagedConnection, float] = field(default_factory=dict)
    fast_lane: RequestShortcut | None = None
    closing: bool = False
    closed_one: asyncio.Event = field(default_factory=asyncio.Event)  # set whenever a connection is closed
    connection_rejected: Callable[[RejectedConnection], None] = lambda rejected: None

    @property
    def all(self) -> list[ManagedConnection]:
        """Connections that are open now."""
        connections: Any = self.state.connections
        return list(connections)

    @property
    def count(self) -> int:
        """Number of connections that count towards the limit.

        Lingering ones do not: a flood of refused connections would keep out all others while it is being refused.
        """
        return len(self.state.connections) - len(self.lingering)

    def is_over_limit(self) -> bool:
        """Return whether one connection too many is open."""
        return self.count > self.limits.connections

    def make_room(self, newcomer: ManagedConnection) -> bool:
        """Close the connection that has been idle the longest; return False if there is none but the newcomer."""
        # Insertion order of a dictionary: entering a phase removes the connection and adds it at the end.
        longest = next(iter(self.idle))
        if longest is newcomer:
            return False
        longest.close()
        return True

    def close_idle(self, count: int) -> int:
        """Close up to so many connections, those first that have been idle the longest; return how many were closed."""
        longest = list(self.idle)[:count]
        for each in longest:
            each.close()
        return len(longest)

    def linger(self, connection: ManagedConnection, until: float) -> None:
        """Keep a connection until its client has read the end; close the oldest if that makes one too many."""
        self.lingering[connection] = until
        if len(self.lingering) > self.limits.lingering:
            next(iter(self.lingering)).close()

    def note_idle(self) -> None:
        """State how many connections are idle, if others have to know."""

    async def wait_until_empty(self) -> None:
        """Wait until no connection is open."""
        while self.all:
            self.closed_one.clear()
            await self.closed_one.wait()


class ConnectionCounts:
    """Numbers of open and of idle connections of all workers, in memory that they share; each writes its own.

    `file` is the descriptor of a file of `size(count)` bytes, `worker` a number from 1 to `count`.
    """

    def __init__(self, file: int, worker: int, count: int) -> None:
        numbers = memoryview(mmap.mmap(file, self.size(count))).cast("I")
        self._counts, self._idle = numbers[:count], numbers[count:]
        self._index = worker - 1

    @staticmethod
    def size(count: int) -> int:
        """Return the bytes for so many workers."""
        return 8 * count

    @property
    def own(self) -> int:
        """Number of connections of this worker."""
        return self._counts[self._index]

    @own.setter
    def own(self, connections: int) -> None:
        self._counts[self._index] = connections

    @property
    def total(self) -> int:
        """Number of connections of all workers."""
        return sum(self._counts)

    def clear(self) -> None:
        """Count none for this worker, whose process has ended."""
        self.own = 0
        self.note_idle(0)

    def note_idle(self, connections: int) -> None:
        """Set how many connections of this worker are idle."""
        self._idle[self._index] = connections

    @property
    def idlest(self) -> int | None:
        """Number of the other worker with the most idle connections; None if no other has any."""
        idle = {number: count for number, count in enumerate(self._idle, 1) if count and number != self._index + 1}
        return max(idle, key=lambda number: idle[number], default=None)


class _ClosedOne(asyncio.Event):
    """Event that is set whenever a connection is closed, and calls a function each time."""

    def __init__(self, closed: Callable[[], None]) -> None:
        super().__init__()
        self._closed = closed

    def set(self) -> None:
        self._closed()
        super().set()


class WorkerConnections(ConnectionSet):
    """Connections of one worker, within a limit for all workers together.

    `close_at` has another worker, by its number, close up to so many idle connections, and returns how many it closed.
    """

    def __init__(
        self, limits: ConnectionLimits, counts: ConnectionCounts, close_at: Callable[[int, int], Awaitable[int]]
    ) -> None:
        super().__init__(limits, closed_one=_ClosedOne(self._count))
        self._counts, self._close_at = counts, close_at
        self._held: deque[ManagedConnection] = deque()
        self._asking: asyncio.Task[None] | None = None

    def is_over_limit(self) -> bool:
        """Return whether one connection too many is open, at all workers together."""
        self._count()
        return self._counts.total > self.limits.connections

    def make_room(self, newcomer: ManagedConnection) -> bool:
        """Close an idle connection here, or have the newcomer wait until another worker has closed one.

        Return False if no worker has any. The system chose this worker for the newcomer, and cannot be asked again: a
        connection that is refused here would have been served by the worker next to it.
        """
        if super().make_room(newcomer):
            return True
        if self._counts.idlest is None or len(self._held) >= self.limits.lingering:
            return False
        newcomer.hold()
        self._held.append(newcomer)
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask_others())
        return True

    async def _ask_others(self) -> None:
        closed = 1
        try:
            while self._held and closed and (other := self._counts.idlest) is not None:
                closed = await self._close_at(other, len(self._held))
                for _ in range(min(closed, len(self._held))):
                    self._held.popleft().end_hold(admitted=True)
        finally:
            self._asking = None
            while self._held:
                self._held.popleft().end_hold(admitted=False)

    def linger(self, connection: ManagedConnection, until: float) -> None:
        """Keep a connection until its client has read the end, and count it no more."""
        super().linger(connection, until)
        self._count()

    def close_idle(self, count: int) -> int:
        """Close up to so many connections, as another worker has asked."""
        closed = super().close_idle(count)
        self.note_idle()
        return closed

    def note_idle(self) -> None:
        """State how many connections are idle. Those that are closed here may be counted for a moment more."""
        self._counts.note_idle(len(self.idle))

    def _count(self) -> None:
        self._counts.own = self.count
        self.note_idle()
