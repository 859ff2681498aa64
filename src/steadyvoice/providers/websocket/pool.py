"""Pool of a provider's websockets: text streams share connections within the vendor's limits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from steadyvoice.breaker.fork_safety import keep_until_exit, register_fork_aware
from steadyvoice.providers.base import TextStreamingUnsupportedError
from steadyvoice.providers.http.client import ErrorParser
from steadyvoice.providers.websocket.connection import WebSocket, WebSocketClient
from steadyvoice.providers.websocket.context_connection import ContextConnection
from steadyvoice.providers.websocket.context_protocol import ContextProtocol, SocketRoute
from steadyvoice.providers.websocket.text_stream import SocketTextStream
from steadyvoice.speech.errors import TTSConcurrencyError
from steadyvoice.speech.format import AudioFormat

MAX_SOCKETS = 64
"""Connections of one provider in one event loop."""


class SocketPool:
    """Websockets of one provider in one event loop, by their route.

    `missing` collects the features that the server turns out not to have.
    """

    def __init__(
        self, provider: str, client: WebSocketClient, missing: set[str], max_sockets: int = MAX_SOCKETS
    ) -> None:
        self._provider, self._client, self._max_sockets = provider, client, max_sockets
        self._missing = missing
        self._sockets: dict[SocketRoute, list[ContextConnection]] = {}
        self._evicted: set[ContextConnection] = set()  # until they have closed

    def open_stream(
        self, protocol: ContextProtocol, format: AudioFormat, *, connection_timeout: float
    ) -> SocketTextStream:
        """Return a stream, which gets a connection with its first text."""
        return SocketTextStream(protocol, partial(self._attach, connection_timeout), format, self._provider)

    async def prewarm(self, route: SocketRoute, *, connection_timeout: float) -> None:
        """Open a connection, unless one has room. Raises TTSError and TextStreamingUnsupportedError."""
        if not route.keeps_idle:
            return
        socket = self._with_room(route) or self._open(route, connection_timeout)
        if socket:
            await asyncio.shield(socket.connected)

    async def aclose(self) -> None:
        """Close all connections."""
        sockets = [*self._all(), *self._evicted]
        for socket in sockets:
            socket.close()
        if tasks := [socket.task for socket in sockets if socket.task]:
            await asyncio.wait(tasks)
        await self._client.aclose()

    def after_fork(self) -> None:
        """Drop the connections in a forked child: they belong to the parent."""
        for socket in (*self._all(), *self._evicted):
            socket.after_fork()
        self._client.after_fork()

    def _attach(self, connection_timeout: float, stream: SocketTextStream, fresh: bool) -> ContextConnection | None:
        """Find or open a connection for a stream; None after the stream has been failed."""
        route = stream.protocol.route
        socket = self._with_room(route, fresh=fresh) or self._open(route, connection_timeout)
        if socket is None:
            message = f"all {self._max_sockets} websockets of this process are in use"
            stream.fail(TTSConcurrencyError(message, provider=self._provider))
            return None
        socket.add(stream)
        return socket

    def _with_room(self, route: SocketRoute, *, fresh: bool = False) -> ContextConnection | None:
        """Return the connection with room that was used last; if `fresh`, one that is being opened."""
        sockets = [each for each in self._sockets.get(route, ()) if each.has_room and not (fresh and each.open)]
        return max(sockets, key=_preference, default=None)

    def _open(self, route: SocketRoute, connection_timeout: float) -> ContextConnection | None:
        if sum(map(len, self._sockets.values())) >= self._max_sockets and not self._evict():
            return None
        socket = ContextConnection(
            route,
            partial(self._connect, route, connection_timeout),
            on_end=self._forget,
            replace=partial(self._replace, route, connection_timeout),
        )
        self._sockets.setdefault(route, []).append(socket)
        return socket

    async def _connect(self, route: SocketRoute, connection_timeout: float) -> WebSocket:
        try:
            return await self._client.connect(route.target, connection_timeout)
        except TextStreamingUnsupportedError:
            self._missing.add(route.feature)
            raise

    def _replace(self, route: SocketRoute, connection_timeout: float) -> None:
        if self._with_room(route) is None:
            self._open(route, connection_timeout)

    def _evict(self) -> bool:
        """Close the connection that has been idle for longest, and return whether there was one."""
        idle = [each for each in self._all() if each.idle and each.open]
        if not idle:
            return False
        oldest = min(idle, key=lambda each: each.idle_since)
        self._forget(oldest)
        self._evicted.add(oldest)
        oldest.close()
        return True

    def _forget(self, socket: ContextConnection) -> None:
        self._evicted.discard(socket)
        kept = [each for each in self._sockets.get(socket.route, ()) if each is not socket]
        if kept:
            self._sockets[socket.route] = kept
        else:
            self._sockets.pop(socket.route, None)

    def _all(self) -> list[ContextConnection]:
        return [each for sockets in self._sockets.values() for each in sockets]


class SocketPools:
    """Pools of one provider, one for each event loop; the parameters are those of WebSocketClient."""

    def __init__(
        self, provider: str, base_url: str, parse_error: ErrorParser, headers: Mapping[str, str], proxy: str | None
    ) -> None:
        self._provider, self._base_url, self._parse_error = provider, base_url, parse_error
        self._headers, self._proxy = headers, proxy
        self._pools: dict[asyncio.AbstractEventLoop, SocketPool] = {}
        self.missing: set[str] = set()
        """Features that the server turned out not to have."""
        register_fork_aware(self)

    fork_lock = None

    def after_fork(self) -> None:
        """Drop the parent's connections in a forked child, which opens its own."""
        for pool in self._pools.values():
            pool.after_fork()
        keep_until_exit(self._pools)
        self._pools = {}

    def pool(self) -> SocketPool:
        """Return the pool of the running event loop."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            # A loop that was closed without aclose() would be kept alive by its entry here.
            for other in [other for other in list(self._pools) if other.is_closed()]:
                self._pools.pop(other, None)
            client = WebSocketClient(self._provider, self._base_url, self._parse_error, self._headers, self._proxy)
            pool = self._pools[loop] = SocketPool(self._provider, client, self.missing)
        return pool

    async def aclose(self) -> None:
        """Close the connections of this event loop. The next stream opens new ones."""
        if pool := self._pools.pop(asyncio.get_running_loop(), None):
            await pool.aclose()


def _preference(socket: ContextConnection) -> tuple[bool, float]:
    """Return a key that prefers open connections, and of these the most recently used."""
    return socket.open, socket.idle_since
