"""Connection pool of one host in one event loop: idle connections kept for the next request, and TLS settings.

It has no connection limit of its own: the concurrency limit of a credential bounds the requests (`service/resilience`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ssl import SSLContext, create_default_context
from typing import TYPE_CHECKING

from steadyvoice.providers.http.connection import HTTPConnection, ReadBuffer

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType


def tls_context() -> SSLContext:
    """Return the TLS context that trusts the system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR."""
    # Reading the certificates takes some ten milliseconds, so a context is kept while the variables stay the same.
    return _context_for(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


# One cache for both transports: aiohttp reads the certificates when it is imported, so that SSL_CERT_FILE, set later,
# would count for connections without a proxy only.
@lru_cache(maxsize=4)
def _context_for(file: str | None, folder: str | None) -> SSLContext:
    return create_default_context()


KEEP_ALIVE = 30.0
"""Seconds for which an idle connection is kept: a turn of a conversation, so that the next needs no handshake."""

_HAPPY_EYEBALLS_DELAY = 0.25  # seconds until the next address of a host is tried in parallel (RFC 8305)

_DNS_CACHE_SECONDS = 10.0  # as in aiohttp


@dataclass(frozen=True, slots=True)
class HostAddress:
    """Address of a host. `tls` returns the TLS context; None for plain HTTP."""

    host: str
    port: int
    tls: Callable[[], ssl.SSLContext] | None = None


class ConnectionPool:
    """Pool of keep-alive connections, the most recently used first, without a limit on their number.

    The service limits how many requests run at once.
    """

    def __init__(self, address: HostAddress, loop: asyncio.AbstractEventLoop, keep_alive: float = KEEP_ALIVE) -> None:
        self._address, self._loop, self._keep_alive = address, loop, keep_alive
        self._idle: list[HTTPConnection] = []  # in the order of their last use
        self._all: set[HTTPConnection] = set()
        self._opening: list[asyncio.Task[HTTPConnection]] = []  # begun ahead, and not waited for by a request
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._resolved: list[AddrInfoType] = []
        self._resolved_at = 0.0
        # One read buffer serves all connections, for a read is over at once; on Windows, reads overlap.
        self._buffer = None if sys.platform == "win32" else ReadBuffer()

    def acquire_idle(self) -> HTTPConnection | None:
        """Take an idle connection from the pool; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and self._loop.time() - connection.idle_since < self._keep_alive:
                return connection
            connection.close()
        return None

    @property
    def opening(self) -> int:
        """Number of connections that are being opened ahead."""
        return len(self._opening)

    def open_ahead(self) -> asyncio.Future[HTTPConnection]:
        """Open a connection for a request that is to follow; return the future of it.

        It is idle once it is open, unless a request has called `open` meanwhile, which then waits for this one.
        """
        opening = self._loop.create_task(self._open())
        self._opening.append(opening)
        opening.add_done_callback(self._opened_ahead)
        return opening

    async def open(self) -> HTTPConnection:
        """Open a new connection, or wait for one that is being opened ahead. Raises OSError."""
        if not self._opening:
            return await self._open()
        opening = self._opening.pop(0)
        try:
            return await opening  # which is cancelled with this
        except BaseException:
            opening.add_done_callback(_close_unused)  # it may have been opened in the same turn of the loop
            raise

    def _opened_ahead(self, opening: asyncio.Task[HTTPConnection]) -> None:
        if opening in self._opening:
            self._opening.remove(opening)
            if not opening.cancelled() and opening.exception() is None:
                self.release(opening.result())

    async def _open(self) -> HTTPConnection:
        import aiohappyeyeballs

        address, loop = self._address, self._loop
        resolved = await self._addresses()
        sock = await aiohappyeyeballs.start_connection(resolved, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY, loop=loop)
        tls = address.tls() if address.tls else None
        try:
            _, connection = await loop.create_connection(
                lambda: HTTPConnection(loop, self._closed, self._buffer),
                sock=sock,
                ssl=tls,
                server_hostname=address.host if tls else None,
            )
        except BaseException:
            sock.close()
            raise
        connection.sock = sock
        self._all.add(connection)
        return connection

    def release(self, connection: HTTPConnection) -> None:
        """Return a connection to the pool, or close it if its response was not read to the end."""
        if not connection.usable:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_later(self._keep_alive, self._close_idle)

    def close(self) -> None:
        """Close all connections."""
        if self._sweep_timer:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        for opening in self._opening:
            opening.cancel()
        for connection in list(self._all):
            connection.close()
        self._idle.clear()

    def after_fork(self) -> None:
        """Close this process's copies of the descriptors, in a forked child. Nothing is sent to the host."""
        # The parent closes its connections for good only when no process holds a copy. A transport that is closed here
        # later cannot remove a closed descriptor from the epoll set, which the two processes share.
        for connection in self._all:
            connection.sock.close()
        self._all.clear()
        self._idle.clear()
        self._opening.clear()

    async def _addresses(self) -> list[AddrInfoType]:
        now = self._loop.time()
        if not self._resolved or now - self._resolved_at >= _DNS_CACHE_SECONDS:
            address, kind = self._address, socket.SOCK_STREAM
            resolved = await self._loop.getaddrinfo(address.host, address.port, type=kind, proto=socket.IPPROTO_TCP)
            self._resolved, self._resolved_at = [*resolved], now
        return self._resolved.copy()

    def _closed(self, connection: HTTPConnection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _close_idle(self) -> None:
        self._sweep_timer = None
        now = self._loop.time()
        while self._idle and now - self._idle[0].idle_since >= self._keep_alive:
            self._idle.pop(0).close()
        if self._idle:
            due = self._idle[0].idle_since + self._keep_alive
            self._sweep_timer = self._loop.call_at(due, self._close_idle)


def _close_unused(opening: asyncio.Task[HTTPConnection]) -> None:
    """Close a connection that no request waits for any longer."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
