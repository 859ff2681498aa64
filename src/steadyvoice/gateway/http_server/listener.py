"""Listening sockets: binding, accepting, connection timeouts, file-descriptor limit."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from email.utils import formatdate
from typing import Any

import uvicorn

from steadyvoice.gateway.context import OpenCounts
from steadyvoice.gateway.http_server.connections import ConnectionLimits, ConnectionSet, RejectedConnection
from steadyvoice.gateway.http_server.protocol import ClientConnection
from steadyvoice.service.config_file import ServerConfig

_BACKLOG = 4096
_FLUSH_SECONDS = 1.0  # seconds that shown-out connections have for what is written to them


class HTTPListener:
    """Serves an ASGI application on bound sockets. `turned_away` is told of whoever does not get as far as that."""

    def __init__(
        self,
        app: Callable[..., Any],
        server: ServerConfig,
        turned_away: Callable[[RejectedConnection], None] = lambda who: None,
    ) -> None:
        self.port = server.port
        self._connections = ConnectionSet(ConnectionLimits.of(server), connection_rejected=turned_away)
        self._config = uvicorn.Config(
            app,
            loop="none",  # it runs in the loop of whoever opens it
            http=ClientConnection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # an address that a header names could be anybody's
        )
        self._config.load()
        self._servers: list[asyncio.Server] = []
        self._clock: asyncio.TimerHandle | None = None

    @property
    def traffic(self) -> OpenCounts:
        """What is open now."""
        return OpenCounts(len(self._connections.state.connections), len(self._connections.state.tasks))

    def apply_settings(self, server: ServerConfig) -> None:
        """These limits are for whoever comes from now on."""
        self._connections.limits = ConnectionLimits.of(server)

    async def open(self, *bound: socket.socket) -> None:
        """Begin to accept on all of these, which have one port."""
        loop = asyncio.get_running_loop()
        self._look_around()
        for each in bound:
            server = await loop.create_server(
                lambda: ClientConnection(self._config, self._connections), sock=each, backlog=_BACKLOG
            )
            self._servers.append(server)
            self.port = each.getsockname()[1]

    async def close(self, within: float, hurry: asyncio.Event | None = None) -> int:
        """Accept nobody any more, and give answers so many seconds to come to their end, or until they must hurry.

        Tells how many did not.
        """
        if not self._servers:
            return 0
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        self._connections.closing = True
        for guest in self._connections.all:
            guest.shutdown()
        await _first_of(self.empty(), (hurry or asyncio.Event()).wait(), within=within)
        cut = sum(guest.busy for guest in self._connections.all)
        await self._cut()
        await _first_of(self.empty(), within=_FLUSH_SECONDS)
        for guest in self._connections.all:
            guest.reset()
        if self._clock:
            self._clock.cancel()
        return cut

    async def empty(self) -> None:
        """Wait until nobody is here."""
        while self._connections.all:
            self._connections.closed_one.clear()
            await self._connections.closed_one.wait()

    async def _cut(self) -> None:
        """Break off what is still being answered."""
        late = set(self._connections.state.tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _look_around(self) -> None:
        """Tell everybody the time, for the Date header of answers, and end what has lasted too long."""
        loop = asyncio.get_running_loop()
        self._connections.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        for guest in self._connections.all:
            guest.check_timeouts(loop.time())
        self._clock = loop.call_later(self._connections.limits.tick, self._look_around)


async def _first_of(*waits: Coroutine[Any, Any, Any], within: float) -> None:
    """Wait for one of them, at most so many seconds."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_PORT_ATTEMPTS = 20  # of finding a port that is free in both families
_FAMILY_MISSING = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


Addresses = Sequence[tuple[socket.AddressFamily, str]]


def bind_sockets(host: str, port: int, *, localhost: Addresses = _LOOPBACKS) -> list[socket.socket]:
    """Bind a socket for each address of a host, all to one port; port 0 takes any that is free.

    `localhost` is 127.0.0.1 and ::1; where a machine lacks one family, the other alone. Any other host is one address.
    Raises OSError when the port cannot be had.
    """
    if host.lower().rstrip(".") != "localhost":
        return [_bind(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)]
    for tries_left in reversed(range(_PORT_ATTEMPTS)):
        try:
            return _bind_all(localhost, port)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE or not tries_left:
                raise
    raise AssertionError


def _bind_all(addresses: Addresses, port: int) -> list[socket.socket]:
    found: list[socket.socket] = []
    missing: OSError | None = None
    for family, address in addresses:
        try:
            found.append(_bind(family, address, port))
        except OSError as error:
            if error.errno in _FAMILY_MISSING:
                missing = error
                continue
            for each in found:
                each.close()
            raise
        port = found[-1].getsockname()[1]
    if not found and missing:
        raise missing
    return found


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


_RESERVED = 256  # the log, the cache, files that are read meanwhile


def raise_descriptor_limit(connections: int) -> int:
    """Raise the process's limit for so many connections as far as it may, and tell how many there can be."""
    if sys.platform == "win32":
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (sys.maxsize if each == resource.RLIM_INFINITY else each for each in (soft, hard))
    needed, fitting = plan_descriptors(connections, soft, hard)
    if needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard if hard < sys.maxsize else resource.RLIM_INFINITY))
    return fitting


def plan_descriptors(connections: int, soft: int, hard: int) -> tuple[int, int]:
    """The soft limit to have, and how many connections fit into it."""
    needed = max(soft, min(2 * connections + _RESERVED, hard))
    return needed, max(1, min(connections, (needed - _RESERVED) // 2))
