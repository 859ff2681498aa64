"""The socket: uvicorn's HTTP protocol on connections that we accept, count, and know how to end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from steadyvoice.gateway.house import Traffic
from steadyvoice.service.settings import Server

_BACKLOG = 4096
_KEPT_ALIVE = 75  # seconds that an idle connection is kept: longer than clients keep theirs
_TICK = 1.0


class Listener:
    """Serves an ASGI application on a bound socket."""

    def __init__(self, app: Callable[..., Any], server: Server) -> None:
        self.port = server.port
        self._state = ServerState()
        self._config = uvicorn.Config(
            app,
            loop="none",  # it runs in the loop of whoever opens it
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # an address that a header names could be anybody's
            timeout_keep_alive=_KEPT_ALIVE,
        )
        self._config.load()
        self._server: asyncio.Server | None = None
        self._clock: asyncio.TimerHandle | None = None

    @property
    def traffic(self) -> Traffic:
        """What is open now."""
        return Traffic(len(self._state.connections), len(self._state.tasks))

    async def open(self, bound: socket.socket) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        self._tell_time()
        self._server = await loop.create_server(self._protocol, sock=bound, backlog=_BACKLOG)
        self.port = bound.getsockname()[1]

    async def close(self, within: float) -> int:
        """Accept nobody any more, give answers so many seconds to come to their end, and count those that did not."""
        if self._server is None:
            return 0
        server, self._server = self._server, None
        server.close()
        for connection in list(self._state.connections):
            connection.shutdown()  # idle ones at once, the others behind their answer
        tasks = set(self._state.tasks)
        late: set[asyncio.Task[None]] = set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=within)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        for connection in list(self._state.connections):
            connection.transport.close()
        if self._clock:
            self._clock.cancel()
        return len(late)

    def _protocol(self) -> asyncio.Protocol:
        return HttpToolsProtocol(config=self._config, server_state=self._state, app_state={})

    def _tell_time(self) -> None:
        """The Date header of every answer, made once a second."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._clock = asyncio.get_running_loop().call_later(_TICK, self._tell_time)
