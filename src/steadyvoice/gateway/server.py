"""The gateway on a port: start, serve until a signal, stop gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

from steadyvoice.gateway.app import build_application
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.http_server.listener import HTTPListener, bind_sockets
from steadyvoice.gateway.http_server.shutdown import notify_systemd
from steadyvoice.gateway.reload import ConfigSource, Reloader
from steadyvoice.gateway.state_file import StateFile
from steadyvoice.service.config_file import LoadedConfig, ServerConfig
from steadyvoice.service.service import AsyncTTSService


class Gateway:
    """One gateway on one port: `async with Gateway(service, server) as gateway`, and `gateway.url`.

    Leaving it stops it: nobody new is let in, and what is being spoken is spoken to its end, for at most
    `shutdown_timeout` seconds. The service stays open. `source` reads the file again that `loaded` was read from.
    Raises OSError when the port cannot be had.
    """

    def __init__(
        self,
        service: AsyncTTSService,
        server: ServerConfig | None = None,
        *,
        source: ConfigSource | None = None,
        loaded: LoadedConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.context = GatewayContext(service, server or ServerConfig(), clock, wall_clock)
        self.reloader = Reloader(self.context, source, loaded)
        self._listener = HTTPListener(
            build_application(self.context, self.reloader), self.server, self.context.connection_rejected
        )
        self.context.traffic = lambda: self._listener.traffic
        self.context.on_settings.append(self._listener.apply_settings)
        if self.server.state_file:
            self._remember(StateFile(Path(self.server.state_file), service))

    def _remember(self, file: StateFile) -> None:
        """Take up the circuits' states from a file, and leave them there at the end."""
        file.open()
        self.context.observers.append(file)
        self.context.on_stopped.append(file.close)

    @property
    def server(self) -> ServerConfig:
        """The settings in force."""
        return self.context.server

    @property
    def url(self) -> str:
        """The `base_url` for ElevenLabs' clients; OpenAI's ends in /v1."""
        host = f"[{self.server.host}]" if ":" in self.server.host else self.server.host
        return f"http://{host}:{self._listener.port}"

    async def __aenter__(self) -> Gateway:
        await self._listener.open(*bind_sockets(self.server.host, self.server.port))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def stop(self, hurry: asyncio.Event | None = None) -> int:
        """Stop, sooner if there is hurry, and tell how many answers had to be cut.

        First `/readyz` says no, for `shutdown_delay` seconds; then the door is closed.
        """
        if self.context.closing:
            return 0
        hurry = hurry or asyncio.Event()
        self.context.closing = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), self.server.shutdown_delay)
        self.context.stop()
        cut = await self._listener.close(self.server.shutdown_timeout, hurry)
        self.context.leave()
        return cut


async def serve(
    service: AsyncTTSService,
    server: ServerConfig,
    *,
    source: ConfigSource | None = None,
    loaded: LoadedConfig | None = None,
    until: asyncio.Event | None = None,
    hurry: asyncio.Event | None = None,
    show: Callable[[str], None] = print,
    open: Callable[[], object] = lambda: None,
) -> None:
    """Serve until the event is set, or SIGTERM or Ctrl-C comes; the second of these is an event of `hurry`.

    `open` is called once it listens. SIGHUP has the configuration file read again.

    Raises OSError when the port cannot be had.
    """
    hurry = hurry or asyncio.Event()
    if until is None:
        _on_signals(until := asyncio.Event(), hurry)
    gateway = Gateway(service, server, source=source, loaded=loaded)
    async with service, gateway, gateway.reloader.at_signal():
        open()
        notify_systemd("READY=1")
        for line in startup_message(gateway):
            show(line)
        await until.wait()
        notify_systemd("STOPPING=1")
        show("Stopping: nobody new is let in; what is being spoken is spoken to its end. Once more to cut it short.")
        cut = await gateway.stop(hurry)
        answers = "1 answer was" if cut == 1 else f"{cut or 'No'} answers were"
        show(f"Stopped. {answers} cut short by it.")


def startup_message(gateway: Gateway) -> list[str]:
    """Tell where it is, and who speaks."""
    names = ", ".join(gateway.context.service.circuits)
    return [
        f"Speaking through {names}.",
        f"  ElevenLabs  {gateway.url}",
        f"  OpenAI      {gateway.url}/v1",
        f"  dashboard   {gateway.url}/",
        f"  health      {gateway.url}/healthz, {gateway.url}/readyz",
        "Ctrl-C ends it.",
    ]


def _on_signals(*events: asyncio.Event) -> None:
    """Set one more of these with every signal."""
    loop, left = asyncio.get_running_loop(), iter(events)

    def told() -> None:
        if event := next(left, None):
            event.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)
