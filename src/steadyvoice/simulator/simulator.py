"""Simulator as an async context manager, `async with Simulator() as sim`, and in the foreground, `run()`."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Self, cast

from aiohttp import web
from aiohttp.typedefs import Handler

from steadyvoice.simulator.fault_injection.actions import FaultError, TlsFailure
from steadyvoice.simulator.fault_injection.matching import Fault, FaultRules
from steadyvoice.simulator.fault_injection.syntax import fault_to_table
from steadyvoice.simulator.http.listener import Certificates, SimulatorListener
from steadyvoice.simulator.http.routes import ControlRoutes, HTTPRoutes
from steadyvoice.simulator.ledger import RequestLedger
from steadyvoice.simulator.script import Script, load_profile, load_script
from steadyvoice.simulator.synthesis import create_engine
from steadyvoice.simulator.vendor import CharacterCredit, RequestLimit, SimulatedVendor
from steadyvoice.simulator.websocket.cartesia import CartesiaWebSocketRoutes
from steadyvoice.simulator.websocket.routes import WebSocketRoutes

_MAX_REQUEST_BODY = 8 * 1024 * 1024  # bytes of a request


class Simulator:
    """Simulator of ElevenLabs and OpenAI on one loopback port, with real audio and with faults on command.

        async with Simulator(voice="tones") as sim:
            sim.faults.set(actions.Stall(after=0.8))
            ...  # send requests to sim.url
            sim.ledger[-1].ending

    - `script`: settings and faults to begin with.
    - `host`: a loopback address.
    - `port`: port to listen on; 0 is any free one.

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
        app = web.Application(client_max_size=_MAX_REQUEST_BODY)
        # HTTPRoutes comes last, because it has the route for unknown paths.
        for routes in (ControlRoutes, WebSocketRoutes, CartesiaWebSocketRoutes, HTTPRoutes):
            app.add_routes(map(self._tracked, routes(self._vendor).routes()))
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

    def _tracked(self, route: web.RouteDef) -> web.RouteDef:
        """Return a route whose requests are known while they run.

        No middleware, because aiohttp keeps the last 1,024 applications that had one, closed or not.
        """

        async def handle(request: web.Request) -> web.StreamResponse:
            if self._closing:
                return web.Response(status=503, text="the simulator is closing")
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  coroutines run in tasks
            self._running[task] = request.protocol
            try:
                return await handler(request)
            finally:
                del self._running[task]

        handler = cast(Handler, route.handler)
        return web.RouteDef(route.method, route.path, handle, route.kwargs)

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


PORT = 8041


def run(
    port: int = PORT,
    *,
    host: str = "127.0.0.1",
    script: Path | None = None,
    profile: str | None = None,
    tls: bool = False,
    show: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM. `show` is called with each line for the terminal.

    - `port`: port to listen on; 0 is any free one.
    - `host`: a loopback address.
    - `script`: file of a script.
    - `profile`: name of a profile, in place of a script.
    - `tls`: True for https and wss.

    Raises ScriptError for an invalid script or profile, ValueError when TLS is not available, OSError when the port is
    in use.
    """
    settings: dict[str, Any] = {"tls": True} if tls else {}  # without --tls, the script decides
    asyncio.run(serve(Simulator(load_selected_script(script, profile), host=host, port=port, **settings), show))


def load_selected_script(script: Path | None, profile: str | None) -> Script:
    """Return the script of a file or profile, or one without faults. Raises ScriptError, OSError and ValueError."""
    if script and profile:
        raise ValueError(
            "give either a script or a profile, not both: to extend a profile, copy its file and change it"
        )
    if script:
        return load_script(script)
    return load_profile(profile) if profile else Script(about="No faults until you set some.")


async def serve(simulator: Simulator, show: Callable[[str], None], until: asyncio.Event | None = None) -> None:
    """Serve until the event is set, by default by SIGINT or SIGTERM."""
    until = until or _stop_on_signal()
    async with simulator:
        for line in startup_lines(simulator):
            show(line)
        await until.wait()
    ledger = simulator.ledger
    show(f"Stopped after {ledger.requests} requests and {ledger.charged} characters charged.")


def startup_lines(simulator: Simulator) -> list[str]:
    """Return the lines that the simulator prints at start: addresses, faults and certificate."""
    script = simulator.script
    return [
        "Simulator of text-to-speech vendors. " + script.about,
        f"  ElevenLabs  {simulator.url}",
        f"  OpenAI      {simulator.url}/v1",
        f"  websockets  {simulator.url.replace('http', 'ws', 1)}",
        f"  ledger      {simulator.url}/sim/ledger",
        f"  faults      {simulator.url}/sim/faults  (GET, POST, PUT, DELETE), or on one request: x-sim-fault: stall",
        f"  control     {simulator.control_url}/sim  (ledger and faults, even while connections are refused)",
        *_ca_lines(simulator),
        *(f"  {_fault_line(fault)}" for fault in script.faults),
        "Any API key is accepted. Ctrl-C stops the simulator."
        if not simulator.settings.keys
        else "Ctrl-C stops the simulator.",
    ]


def _ca_lines(simulator: Simulator) -> list[str]:
    if simulator.ca_file is None:
        return []
    return [f"  CA file     {simulator.ca_file}  (SSL_CERT_FILE for Python, NODE_EXTRA_CA_CERTS for Node)"]


def _fault_line(fault: Fault) -> str:
    table = fault_to_table(fault)
    return ";".join([table.pop("fault"), *(f"{key}={value}" for key, value in table.items())])


def _stop_on_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Signals set an event instead of raising, so that running requests get their ending in the ledger.
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
