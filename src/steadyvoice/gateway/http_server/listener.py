"""Listening sockets: binding, accepting, connection timeouts, file-descriptor limit."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any, Protocol

import uvicorn

from steadyvoice.gateway.context import OpenCounts
from steadyvoice.gateway.http_server.connections import (
    ConnectionCounts,
    ConnectionLimits,
    ConnectionSet,
    RejectedConnection,
    RequestShortcut,
    WorkerConnections,
)
from steadyvoice.gateway.http_server.protocol import ClientConnection
from steadyvoice.gateway.http_server.shutdown import GracefulShutdown
from steadyvoice.service.config_file import ServerConfig

_BACKLOG = 4096


class HTTPListener:
    """HTTP server of an ASGI application on bound sockets.

    `connection_rejected` is called for each request that is refused before it reaches the application. `neighbours` are
    all workers, if there are several.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        server: ServerConfig,
        connection_rejected: Callable[[RejectedConnection], None] = lambda rejected: None,
        fast_lane: RequestShortcut | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.port = server.port
        limits = ConnectionLimits.of(server)
        self._connections = _connections_of_worker(limits, neighbours) if neighbours else ConnectionSet(limits)
        self._connections.connection_rejected, self._connections.fast_lane = connection_rejected, fast_lane
        self._config = uvicorn.Config(
            app,
            loop="none",  # it runs in the caller's event loop
            http=ClientConnection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            # A client could claim any address in X-Forwarded-For.
            proxy_headers=False,
        )
        self._config.load()
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def traffic(self) -> OpenCounts:
        """Connections and requests that are open now."""
        connections = self._connections
        fast = len(connections.fast_lane.running) if connections.fast_lane else 0
        return OpenCounts(len(connections.state.connections), len(connections.state.tasks) + fast)

    def apply_settings(self, server: ServerConfig) -> None:
        """Use the limits of these settings for new connections."""
        self._connections.limits = ConnectionLimits.of(server)

    async def open(self, *bound: socket.socket) -> None:
        """Accept connections on these sockets, which are bound to one port."""
        loop = asyncio.get_running_loop()
        self._tick()
        for each in bound:
            server = await loop.create_server(
                lambda: ClientConnection(self._config, self._connections), sock=each, backlog=_BACKLOG
            )
            self._servers.append(server)
            self.port = each.getsockname()[1]

    async def close(self, timeout: float, hurry: asyncio.Event | None = None) -> int:
        """Stop accepting and shut down gracefully within `timeout` seconds, or sooner after `hurry`.

        Returns the number of responses that were cut.
        """
        if not self._servers:
            return 0
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        cut = await GracefulShutdown(self._connections).run(timeout, hurry)
        if self._timer:
            self._timer.cancel()
        return cut

    async def wait_until_empty(self) -> None:
        """Wait until no connection is open."""
        await self._connections.wait_until_empty()

    def _tick(self) -> None:
        """Update the Date header of responses, and end connections that have exceeded a timeout.

        One timer for all connections: a timer for each would be set and cancelled several times per request.
        """
        loop = asyncio.get_running_loop()
        self._connections.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        for each in self._connections.all:
            each.check_timeouts(loop.time())
        self._connections.note_idle()
        self._timer = loop.call_later(self._connections.limits.tick, self._tick)


class Neighbours(Protocol):
    """All workers of one port, as one of them has them; `answers` are its functions that answer the others."""

    counts: ConnectionCounts
    answers: dict[str, Callable[[Any], Any]]

    async def ask(self, worker: int, question: str, argument: Any) -> Any:
        """Return the answer of one worker; None if it does not answer in time."""
        ...


def _connections_of_worker(limits: ConnectionLimits, neighbours: Neighbours) -> WorkerConnections:
    async def close_at(worker: int, count: int) -> int:
        return await neighbours.ask(worker, _CLOSE_IDLE, count) or 0

    connections = WorkerConnections(limits, neighbours.counts, close_at)
    neighbours.answers[_CLOSE_IDLE] = connections.close_idle
    return connections


_CLOSE_IDLE = "close idle connections"

_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_PORT_ATTEMPTS = 20  # to find a port that is free in both families
_FAMILY_MISSING = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


Addresses = Sequence[tuple[socket.AddressFamily, str]]


def bind_sockets(
    host: str, port: int, *, localhost: Addresses = _LOOPBACKS, shared: bool = False
) -> list[socket.socket]:
    """Bind a socket for each address of a host, all to one port; port 0 takes any that is free.

    `localhost` is 127.0.0.1 and ::1, because clients differ in which family they try first; where a machine lacks one
    family, the other alone. Any other host is one address. With `shared`, other processes may bind the same port in
    the same way, and the system distributes the connections. Raises OSError when the port cannot be bound.
    """
    if host.lower().rstrip(".") != "localhost":
        return [_bind(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port, shared)]
    for attempts_left in reversed(range(_PORT_ATTEMPTS)):
        try:
            return _bind_all(localhost, port, shared)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE or not attempts_left:
                raise
    raise AssertionError


def _bind_all(addresses: Addresses, port: int, shared: bool) -> list[socket.socket]:
    bound: list[socket.socket] = []
    missing: OSError | None = None
    for family, address in addresses:
        try:
            bound.append(_bind(family, address, port, shared))
        except OSError as error:
            if error.errno in _FAMILY_MISSING:
                missing = error
                continue
            for each in bound:
                each.close()
            raise
        port = bound[-1].getsockname()[1]
    if not bound and missing:
        raise missing
    return bound


def _bind(family: socket.AddressFamily, address: str, port: int, shared: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((address, port))
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


_RESERVED = 256  # descriptors for lingering connections, the log, the cache, and files that are read meanwhile


def raise_descriptor_limit(connections: int) -> int:
    """Raise the process's limit of open files for so many connections, as far as the hard limit allows.

    Returns the number of connections that fit.
    """
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
    """Return the soft limit to set, and the number of connections that fit into it.

    A connection needs two descriptors: its own, and the one of the connection to its provider.
    """
    needed = max(soft, min(2 * connections + _RESERVED, hard))
    return needed, max(1, min(connections, (needed - _RESERVED) // 2))
