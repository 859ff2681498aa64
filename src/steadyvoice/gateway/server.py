"""Gateway server on a port: start, serve until a signal, graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from steadyvoice.gateway.app import build_application
from steadyvoice.gateway.context import GatewayContext, Workers
from steadyvoice.gateway.fast_lane.lane import FastLane
from steadyvoice.gateway.http_server.listener import HTTPListener, bind_sockets
from steadyvoice.gateway.http_server.shutdown import ShutdownSignals, notify_systemd
from steadyvoice.gateway.reload import ConfigSource, Reloader
from steadyvoice.gateway.state_file import StateFile
from steadyvoice.gateway.workers.link import SupervisorLink
from steadyvoice.service.config_file import LoadedConfig, ServerConfig
from steadyvoice.service.service import AsyncTTSService


class Gateway:
    """Gateway on one port: `async with Gateway(service, server) as gateway`, and `gateway.url`.

    Leaving the block stops it: new connections are refused, and running responses have `shutdown_timeout` seconds to
    finish. The service stays open. Raises OSError when the port cannot be bound.

    - `service`: speech service, opened by the caller;
    - `server`: settings of the `[server]` table;
    - `source`: function that reads the configuration file again, for a reload;
    - `loaded`: configuration that the service was built from;
    - `workers`: all workers, if this gateway is one of several processes on its port;
    - `clock`: monotonic time in seconds; `wall_clock`: time of day in seconds since 1970.
    """

    def __init__(
        self,
        service: AsyncTTSService,
        server: ServerConfig | None = None,
        *,
        source: ConfigSource | None = None,
        loaded: LoadedConfig | None = None,
        workers: Workers | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.context = GatewayContext(service, server or ServerConfig(), clock, wall_clock, workers=workers)
        self.reloader = Reloader(self.context, source, loaded)
        application = build_application(self.context, self.reloader)
        lane = FastLane(self.context, application.routes)
        self._listener = HTTPListener(application, self.server, self.context.connection_rejected, lane, workers)
        self.context.traffic = lambda: self._listener.traffic
        self.context.on_settings.append(self._listener.apply_settings)
        if self.server.state_file:
            self._use_state_file(StateFile(Path(self.server.state_file), service, workers=workers))

    def _use_state_file(self, file: StateFile) -> None:
        file.open()
        self.context.observers.append(file)
        self.context.on_stopped.append(file.close)

    @property
    def server(self) -> ServerConfig:
        """Settings in force."""
        return self.context.server

    @property
    def url(self) -> str:
        """Base URL for ElevenLabs clients; that for OpenAI clients ends in /v1."""
        host = f"[{self.server.host}]" if ":" in self.server.host else self.server.host
        return f"http://{host}:{self._listener.port}"

    async def __aenter__(self) -> Gateway:
        shared = self.context.workers is not None
        await self._listener.open(*bind_sockets(self.server.host, self.server.port, shared=shared))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def stop(self, hurry: asyncio.Event | None = None) -> int:
        """Shut down gracefully, and return the number of responses that were cut.

        `/readyz` answers 503 for `shutdown_delay` seconds before the port is closed, so that a load balancer notices.
        The event `hurry` ends the waits.
        """
        if self.context.closing:
            return 0
        hurry = hurry or asyncio.Event()
        self.context.closing = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), self.server.shutdown_delay)
        self.context.stop()
        cut = await self._listener.close(self.server.shutdown_timeout, hurry)
        self.context.stopped()
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
    """Serve until SIGTERM or Ctrl-C, or until the event `until` is set. SIGHUP reloads the configuration file.

    The event `hurry`, or a second signal, cuts the shutdown short. `show` prints a line for the operator; `open` is
    called once the gateway listens. Raises OSError when the port cannot be bound.
    """
    signals = ShutdownSignals(hurry)
    if until is None:
        signals.install()
    gateway = Gateway(service, server, source=source, loaded=loaded)
    async with service, gateway, gateway.reloader.at_signal():
        open()
        notify_systemd("READY=1")
        for line in startup_message(gateway.url, gateway.context.service.circuits):
            show(line)
        await (until or signals.stop).wait()
        notify_systemd("STOPPING=1")
        show("Shutting down: no new requests; running responses are completed. Press Ctrl-C again to cut them short.")
        cut = await gateway.stop(signals.hurry)
        responses = "1 response was" if cut == 1 else f"{cut or 'No'} responses were"
        show(f"Stopped. {responses} cut short.")


async def serve_as_worker(
    service: AsyncTTSService,
    server: ServerConfig,
    link: SupervisorLink,
    *,
    source: ConfigSource | None = None,
    loaded: LoadedConfig | None = None,
    open: Callable[[], object] = lambda: None,
) -> None:
    """Serve as one of several workers until their supervisor stops them, or ends. Raises OSError as `serve` does."""
    gateway = Gateway(service, server, source=source, loaded=loaded, workers=link)
    async with link, service:
        await link.catch_up()
        async with gateway:
            open()
            link.ready(gateway.url, list(service.circuits))
            await link.stop.wait()
            link.stopped(await gateway.stop(link.hurry))


def startup_message(url: str, providers: Iterable[str], workers: int = 1) -> list[str]:
    """Return the lines that name the providers and the gateway's URLs."""
    several = f" {workers} worker processes." if workers > 1 else ""
    return [
        f"Providers: {', '.join(providers)}.{several}",
        f"  ElevenLabs  {url}",
        f"  OpenAI      {url}/v1",
        f"  dashboard   {url}/",
        f"  health      {url}/healthz, {url}/readyz",
        "Press Ctrl-C to stop.",
    ]
