"""The simulator in a process of one's own choosing: `async with Simulator() as sim`."""

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
    """ElevenLabs and OpenAI on one loopback port, with real audio, until told to fail.

        async with Simulator(voice="tones") as sim:
            sim.faults.set(actions.Stall(after=0.8))
            ...  # speak to sim.url
            sim.ledger[-1].ending

    `settings` are fields of Settings, laid over the script's. `clock` gives the seconds that the ledger and the
    faults' times count; it is the event loop's unless told otherwise. Delays are always the event loop's.

    Raises ValueError for a host that is not this machine's own, FaultError for impossible settings or faults, and
    ScriptError for a fault of the script that can never happen with these settings; entering it, ValueError when `tls`
    is asked for and cannot be had.
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
        self._began = 0.0
        self._certificates: Certificates | None = None
        self._visits: dict[asyncio.Task[Any], web.RequestHandler] = {}  # and on which connection
        self._closing = False
        self.faults = FaultRules(self._now, Random(self.settings.seed), self._check)
        self._check_script()
        self.ledger = RequestLedger(self._now)

    @property
    def url(self) -> str:
        """Where it listens; the `base_url` for ElevenLabs. OpenAI's ends in /v1."""
        return f"{'https' if self.settings.tls else 'http'}://{self._named}:{self._port}"

    @property
    def control_url(self) -> str:
        """Where the ledger and the faults can be reached, in plain HTTP, even while connections are refused."""
        return f"http://{self._named}:{self._back_door.addresses[0][1]}"

    @property
    def ca_file(self) -> Path | None:
        """With TLS, where the certificate of the authority is (PEM) that clients have to trust; while it runs."""
        return self._certificates.ca_file if self._certificates else None

    @property
    def credit(self) -> CharacterCredit:
        """ElevenLabs' count of characters."""
        return self._vendor.credit

    @property
    def request_limit(self) -> RequestLimit:
        """ElevenLabs' limit of concurrent requests."""
        return self._vendor.request_limit

    async def idle(self) -> None:
        """Wait until no request is running: what the ledger says by then is final."""
        while self._visits:
            await asyncio.wait(self._visits)

    async def __aenter__(self) -> Self:
        self._clock = self._clock or asyncio.get_running_loop().time
        self._began = self._clock()
        if self.settings.tls:
            self._certificates = Certificates(self._host)
        self._engine = create_engine(self.settings.voice)
        self._vendor = SimulatedVendor.of(self.settings, self._engine, self.faults, self.ledger)
        self.faults.add(*self.script.faults)
        try:
            await self._listen()
        except OSError:
            await self._clean_up()
            raise
        await self._open_back_door()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._closing = True
        for _ in range(2):  # a connection being accepted must come through first: asyncio drops it otherwise
            await asyncio.sleep(0)
        self._listener.stop()
        self.ledger.close()
        await self._listener.close()
        for visit in self._visits:
            visit.cancel()
        await self.idle()
        await self._back_door.cleanup()
        await self._clean_up()

    async def _clean_up(self) -> None:
        await self._runner.cleanup()
        await self._engine.aclose()
        if self._certificates:
            self._certificates.close()

    async def _listen(self) -> None:
        app = web.Application(middlewares=[self._followed], client_max_size=_MAX_REQUEST_BODY)
        for doors in (ControlRoutes, WebSocketRoutes, HTTPRoutes):  # the last one answers for whatever is left
            app.add_routes(doors(self._vendor).routes())
        # Cancellation is how a visit learns that its client has left.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # noqa: S101  it is set up
        self._listener = SimulatorListener(server, self.faults, self.ledger, self._certificates, self._close_idle)
        await self._listener.open(self._host, self._port)
        self._port = self._listener.port

    async def _open_back_door(self) -> None:
        app = web.Application(client_max_size=_MAX_REQUEST_BODY)
        app.add_routes(ControlRoutes(self._vendor).routes())
        self._back_door = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._back_door.setup()
        await web.TCPSite(self._back_door, self._host, 0).start()

    def _close_idle(self) -> None:
        for connection in self._runner.server.connections if self._runner.server else []:
            if connection not in self._visits.values():
                connection.force_close()

    def _check_script(self) -> None:
        for number, fault in enumerate(self.script.faults):
            try:
                self._check(fault)
            except FaultError as error:
                raise self.script.mistake(number, error) from None

    def _check(self, fault: Fault) -> None:
        if isinstance(fault.action, TlsFailure) and not self.settings.tls:
            raise FaultError(
                f"{fault.name}: there is no TLS here to fail; ask for it with --tls, or tls = true", "fault"
            )

    @web.middleware
    async def _followed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._closing:
            return web.Response(status=503, text="the simulator is closing")
        visit = asyncio.current_task()
        assert visit is not None  # noqa: S101  coroutines run in tasks
        self._visits[visit] = request.protocol
        try:
            return await handler(request)
        finally:
            del self._visits[visit]

    @property
    def _named(self) -> str:
        return f"[{self._host}]" if ":" in self._host else self._host

    def _now(self) -> float:
        return self._clock() - self._began if self._clock else 0.0


def _validate_loopback(host: str) -> str:
    """It takes any key and any order, so only this machine may reach it."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"host: the simulator listens on this machine only, such as 127.0.0.1, not on {host!r}")
    return host
