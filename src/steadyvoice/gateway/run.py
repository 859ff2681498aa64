"""`steadyvoice serve`: the gateway on a socket, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable

from steadyvoice.gateway.app import application
from steadyvoice.gateway.house import House
from steadyvoice.gateway.listener import Listener
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.service.settings import Server


class Gateway:
    """One gateway on one port: `async with Gateway(service, server) as gateway`, and `gateway.url`.

    Leaving it stops it: nobody new is let in, and what is being spoken is spoken to its end, for at most
    `shutdown_timeout` seconds. The service stays open. Raises OSError when the port cannot be had.
    """

    def __init__(self, service: AsyncTTSService, server: Server | None = None) -> None:
        self.server = server or Server()
        self.house = House(service, self.server)
        self._listener = Listener(application(self.house), self.server)
        self.house.traffic = lambda: self._listener.traffic

    @property
    def url(self) -> str:
        """The `base_url` for ElevenLabs' clients; OpenAI's ends in /v1."""
        host = f"[{self.server.host}]" if ":" in self.server.host else self.server.host
        return f"http://{host}:{self._listener.port}"

    async def __aenter__(self) -> Gateway:
        await self._listener.open(_bound(self.server))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def stop(self) -> int:
        """Stop, and tell how many answers had to be cut."""
        self.house.stop()
        cut = await self._listener.close(self.server.shutdown_timeout)
        self.house.leave()
        return cut


async def serve(
    service: AsyncTTSService,
    server: Server,
    *,
    until: asyncio.Event | None = None,
    show: Callable[[str], None] = print,
) -> None:
    """Serve until the event is set, or SIGTERM or Ctrl-C comes. Raises OSError when the port cannot be had."""
    until = until or _signalled()
    gateway = Gateway(service, server)
    async with service, gateway:
        for line in greeting(gateway):
            show(line)
        await until.wait()
        show("Stopping: nobody new is let in; what is being spoken is spoken to its end. Once more to cut it short.")
        cut = await gateway.stop()
        show(f"Stopped. {cut} answers were cut." if cut else "Stopped. Everybody heard their answer to its end.")


def greeting(gateway: Gateway) -> list[str]:
    """Tell where it is, and who speaks."""
    names = ", ".join(gateway.house.service.circuits)
    return [
        f"Speaking through {names}.",
        f"  ElevenLabs  {gateway.url}",
        f"  OpenAI      {gateway.url}/v1",
        f"  health      {gateway.url}/healthz, {gateway.url}/readyz",
        "Ctrl-C ends it.",
    ]


def _bound(server: Server) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((server.host, server.port))
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _signalled() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
