"""The socket: who comes is given a connection, and all of them are looked after and in the end shown out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

import uvicorn

from steadyvoice.gateway.crowd import Crowd, TurnedAway
from steadyvoice.gateway.house import Traffic
from steadyvoice.gateway.limits import Limits
from steadyvoice.gateway.protocol import Connection
from steadyvoice.service.settings import Server

_BACKLOG = 4096
_LAST_WORDS = 1.0  # seconds that shown-out connections have for what is written to them


class Listener:
    """Serves an ASGI application on bound sockets. `turned_away` is told of whoever does not get as far as that."""

    def __init__(
        self, app: Callable[..., Any], server: Server, turned_away: Callable[[TurnedAway], None] = lambda who: None
    ) -> None:
        self.port = server.port
        self._crowd = Crowd(Limits.of(server), turned_away=turned_away)
        self._config = uvicorn.Config(
            app,
            loop="none",  # it runs in the loop of whoever opens it
            http=Connection,
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
    def traffic(self) -> Traffic:
        """What is open now."""
        return Traffic(len(self._crowd.state.connections), len(self._crowd.state.tasks))

    def adopt(self, server: Server) -> None:
        """These limits are for whoever comes from now on."""
        self._crowd.limits = Limits.of(server)

    async def open(self, *bound: socket.socket) -> None:
        """Begin to accept on all of these, which have one port."""
        loop = asyncio.get_running_loop()
        self._look_around()
        for each in bound:
            server = await loop.create_server(
                lambda: Connection(self._config, self._crowd), sock=each, backlog=_BACKLOG
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
        self._crowd.closing = True
        for guest in self._crowd.guests:
            guest.shutdown()
        await _first_of(self.empty(), (hurry or asyncio.Event()).wait(), within=within)
        cut = sum(guest.busy for guest in self._crowd.guests)
        await self._cut()
        await _first_of(self.empty(), within=_LAST_WORDS)
        for guest in self._crowd.guests:
            guest.reset()
        if self._clock:
            self._clock.cancel()
        return cut

    async def empty(self) -> None:
        """Wait until nobody is here."""
        while self._crowd.guests:
            self._crowd.gone.clear()
            await self._crowd.gone.wait()

    async def _cut(self) -> None:
        """Break off what is still being answered."""
        late = set(self._crowd.state.tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _look_around(self) -> None:
        """Tell everybody the time, for the Date header of answers, and end what has lasted too long."""
        loop = asyncio.get_running_loop()
        self._crowd.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        for guest in self._crowd.guests:
            guest.look_after(loop.time())
        self._clock = loop.call_later(self._crowd.limits.tick, self._look_around)


async def _first_of(*waits: Coroutine[Any, Any, Any], within: float) -> None:
    """Wait for one of them, at most so many seconds."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
