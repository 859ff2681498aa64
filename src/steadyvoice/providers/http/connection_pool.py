"""Connection pool of one host in one event loop: kept for the next request, opened when none is idle."""

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

from steadyvoice.providers.http.connection import READ_BUFFER, HTTPConnection

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType


def tls_context() -> SSLContext:
    """Return the context that trusts the system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR.

    Reading them takes some ten milliseconds, so it is kept for as long as these variables stay the same.
    """
    return _context_for(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _context_for(file: str | None, folder: str | None) -> SSLContext:
    return create_default_context()


KEEP_ALIVE = 30.0
"""Seconds an idle connection is kept: a turn of conversation, so that the next sentence needs no handshake."""

_HAPPY_EYEBALLS_DELAY = 0.25  # seconds before the next address of a host is tried, too (RFC 8305)

_DNS_CACHE_SECONDS = 10.0  # seconds for which a name's addresses are not looked up again


@dataclass(frozen=True, slots=True)
class HostAddress:
    """Where a host is. `tls` makes the context, when a connection needs one."""

    host: str
    port: int
    tls: Callable[[], ssl.SSLContext] | None = None


class ConnectionPool:
    """Kept connections, the last used first. Their number has no limit: the service gates how much runs at once."""

    def __init__(self, place: HostAddress, loop: asyncio.AbstractEventLoop, kept_alive: float = KEEP_ALIVE) -> None:
        self._place, self._loop, self._kept_alive = place, loop, kept_alive
        self._idle: list[HTTPConnection] = []  # in the order of their last use
        self._all: set[HTTPConnection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._found: list[AddrInfoType] = []
        self._found_at = 0.0
        # On Windows a read is under way while others are, so each needs a buffer of its own.
        self._buffer = None if sys.platform == "win32" else bytearray(READ_BUFFER)

    def kept(self) -> HTTPConnection | None:
        """One that lies idle, if any does."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and self._loop.time() - connection.idle_since < self._kept_alive:
                return connection
            connection.hang_up()
        return None

    async def opened(self) -> HTTPConnection:
        """A new one. Raises OSError."""
        import aiohappyeyeballs

        place, loop = self._place, self._loop
        found = await self._addresses()
        sock = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY, loop=loop)
        tls = place.tls() if place.tls else None
        try:
            _, connection = await loop.create_connection(
                lambda: HTTPConnection(loop, self._hung_up, self._buffer),
                sock=sock,
                ssl=tls,
                server_hostname=place.host if tls else None,
            )
        except BaseException:
            sock.close()
            raise
        connection.sock = sock
        self._all.add(connection)
        return connection

    def give_back(self, connection: HTTPConnection) -> None:
        """Its answer is read, or nobody wants the rest of it."""
        if not connection.usable:
            connection.hang_up()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._kept_alive, self._hang_up_the_idle)

    def close(self) -> None:
        """Hang up on all of them."""
        if self._sweep:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._all):
            connection.hang_up()
        self._idle.clear()

    def after_fork(self) -> None:
        """Close this process's copies of the descriptors, in a forked child.

        Nothing is sent, no TLS close_notify either. But the parent's hanging up reaches the host only when no process
        holds a copy any more; and a transport that is closed later cannot take a closed descriptor out of the epoll set
        that the two processes share.
        """
        for connection in self._all:
            connection.sock.close()
        self._all.clear()
        self._idle.clear()

    async def _addresses(self) -> list[AddrInfoType]:
        now = self._loop.time()
        if not self._found or now - self._found_at >= _DNS_CACHE_SECONDS:
            place, kind = self._place, socket.SOCK_STREAM
            found = await self._loop.getaddrinfo(place.host, place.port, type=kind, proto=socket.IPPROTO_TCP)
            self._found, self._found_at = [*found], now
        return self._found.copy()

    def _hung_up(self, connection: HTTPConnection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _hang_up_the_idle(self) -> None:
        self._sweep = None
        now = self._loop.time()
        while self._idle and now - self._idle[0].idle_since >= self._kept_alive:
            self._idle.pop(0).hang_up()
        if self._idle:
            due = self._idle[0].idle_since + self._kept_alive
            self._sweep = self._loop.call_at(due, self._hang_up_the_idle)
