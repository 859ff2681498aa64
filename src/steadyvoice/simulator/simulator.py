"""Simulator as an async context manager, for use in the caller's process: `async with Simulator() as sim`."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from steadyvoice.simulator.control import ControlRoutes
from steadyvoice.simulator.fault_injection.actions import FaultError, TlsFailure
from steadyvoice.simulator.fault_injection.matching import Fault, FaultRules
from steadyvoice.simulator.http.listener import Certificates, SimulatorListener
from steadyvoice.simulator.http.routes import HTTPRoutes
from steadyvoice.simulator.ledger import RequestLedger
from steadyvoice.simulator.script import Script
from steadyvoice.simulator.synthesis import create_engine
from steadyvoice.simulator.vendor import CharacterCredit, RequestLimit, SimulatedVendor
from steadyvoice.simulator.websocket.routes import WebSocketRoutes

_MAX_REQUEST_BODY = 8 * 1024 * 1024  # bytes of a request


class Simulator:
    """Simulator of ElevenLabs and OpenAI on one loopback port, with real audio and with faults on command.

        async with Simulator(voice="tones") as sim:
            sim.faults.set(actions.Stall(after=0.8))
            ...  # send requests to sim.url
            sim.ledger[-1].ending

    `settings` are fields of SimulatorSettings, and override the script's. `clock` returns the seconds that the ledger
    and the times of faults count; by default it is the event loop's. Delays always use the event loop's clock.

    Raises ValueError for a host that is not a loopback address, FaultError for invalid settings or faults, and
    ScriptError for a fault of the script that cannot happen with these settings. Entering the context raises
    ValueError when `tls` is set and its package is not installed, and OSError when the port is in use.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] | None = None,
        **settings: Any,
    ) -> None:
        self.script = script or Script()
        self.settings = replace(self.script.settings, **settings)
        self._host = _validate_loopback(host)
        self._port = port
        self._clock = clock
        self._started_at = 0.0
        self._certificates: Certificates | None = None
        # Tasks of running requests, and their connections: idle connections are all others.
        self._running: dict[asyncio.Task[Any], web.RequestHandler] = {}
        self._closing = False
        self.faults = FaultRules(self._now, Random(self.settings.seed), self._check)
        self._check_script()
        self.ledger = RequestLedger(self._now)

    @property
    def url(self) -> str:
        """URL of the simulator: `base_url` of ElevenLabs' clients. That of OpenAI's ends in /v1."""
        return f"{'https' if self.settings.tls else 'http'}://{self._url_host}:{self._port}"

    @property
    def control_url(self) -> str:
        """URL of a second port for /sim, in plain HTTP, which is served even while connections are refused."""
        return f"http://{self._url_host}:{self._control_runner.addresses[0][1]}"

    @property
    def ca_file(self) -> Path | None:
        """With TLS, path of the CA certificate (PEM) that clients have to trust, while the simulator runs."""
        return self._certificates.ca_file if self._certificates else None

    @property
    def credit(self) -> CharacterCredit:
        """Character credit of the ElevenLabs account."""
        return self._vendor.credit

    @property
    def request_limit(self) -> RequestLimit:
        """Limit of concurrent requests of the ElevenLabs account."""
        return self._vendor.request_limit

    async def idle(self) -> None:
        """Wait until no request is running. The ledger is final then."""
        while self._running:
            await asyncio.wait(self._running)

    async def __aenter__(self) -> Self:
        self._clock = self._clock or asyncio.get_running_loop().time
        self._started_at = self._clock()
        if self.settings.tls:
            self._certificates = Certificates(self._host)
        self._engine = create_engine(self.settings.voice)
        self._vendor = SimulatedVendor.create(self.settings, self._engine, self.faults, self.ledger)
        self.faults.add(*self.script.faults)
        try:
            await self._listen()
        except OSError:
            await self._release()
            raise
        await self._open_control_port()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._closing = True
        # Connections that are being accepted have to reach their protocol first: asyncio would drop them unclosed.
        for _ in range(2):
            await asyncio.sleep(0)
        self._listener.stop()
        self.ledger.close()
        await self._listener.close()
        for task in self._running:
            task.cancel()
        await self.idle()
        await self._control_runner.cleanup()
        await self._release()

    async def _release(self) -> None:
        await self._runner.cleanup()
        await self._engine.aclose()
        if self._certificates:
            self._certificates.close()

    async def _listen(self) -> None:
        app = web.Application(middlewares=[self._tracked], client_max_size=_MAX_REQUEST_BODY)
        # HTTPRoutes comes last, because it has the route for unknown paths.
        for routes in (ControlRoutes, WebSocketRoutes, HTTPRoutes):
            app.add_routes(routes(self._vendor).routes())
        # Cancellation is how the handler of a request learns that its client has left.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # noqa: S101  it is set up
        self._listener = SimulatorListener(server, self.faults, self.ledger, self._certificates, self._close_idle)
        await self._listener.open(self._host, self._port)
        self._port = self._listener.port

    async def _open_control_port(self) -> None:
        app = web.Application(client_max_size=_MAX_REQUEST_BODY)
        app.add_routes(ControlRoutes(self._vendor).routes())
        self._control_runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._control_runner.setup()
        await web.TCPSite(self._control_runner, self._host, 0).start()

    def _close_idle(self) -> None:
        for connection in self._runner.server.connections if self._runner.server else []:
            if connection not in self._running.values():
                connection.force_close()

    def _check_script(self) -> None:
        for number, fault in enumerate(self.script.faults):
            try:
                self._check(fault)
            except FaultError as error:
                raise self.script.locate(number, error) from None

    def _check(self, fault: Fault) -> None:
        if isinstance(fault.action, TlsFailure) and not self.settings.tls:
            raise FaultError(f"{fault.name}: needs TLS; enable it with --tls, or tls = true", "fault")

    @web.middleware
    async def _tracked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._closing:
            return web.Response(status=503, text="the simulator is closing")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  coroutines run in tasks
        self._running[task] = request.protocol
        try:
            return await handler(request)
        finally:
            del self._running[task]

    @property
    def _url_host(self) -> str:
        return f"[{self._host}]" if ":" in self._host else self._host

    def _now(self) -> float:
        return self._clock() - self._started_at if self._clock else 0.0


def _validate_loopback(host: str) -> str:
    """Return the host if it is a loopback address. Raises ValueError.

    The simulator accepts any key and any change of its faults, so only this machine may reach it.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"host: must be a loopback address such as 127.0.0.1, got {host!r}")
    return host
