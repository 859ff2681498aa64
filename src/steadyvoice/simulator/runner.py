"""`steadyvoice sim`: the simulator in the foreground, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steadyvoice.simulator.fault_injection.matching import Fault
from steadyvoice.simulator.fault_injection.syntax import fault_to_table
from steadyvoice.simulator.script import Script, load_profile, load_script
from steadyvoice.simulator.simulator import Simulator

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
    """Serve until interrupted or terminated. `show` is given lines for people.

    Raises ScriptError for a script or profile that cannot be played, ValueError when TLS cannot be had, OSError when
    the port is taken.
    """
    settings: dict[str, Any] = {"tls": True} if tls else {}  # a script may ask for it as well
    asyncio.run(serve(Simulator(load_selected_script(script, profile), host=host, port=port, **settings), show))


def load_selected_script(script: Path | None, profile: str | None) -> Script:
    """Find what to play: a file, a ready-made profile, or fair weather. Raises ScriptError, OSError, ValueError."""
    if script and profile:
        raise ValueError("a script or a profile, not both: a profile is a script, so copy it and change it")
    if script:
        return load_script(script)
    return load_profile(profile) if profile else Script(about="Fair weather: no faults until you order some.")


async def serve(simulator: Simulator, show: Callable[[str], None], until: asyncio.Event | None = None) -> None:
    """Serve until the event is set, or a signal comes."""
    until = until or _stop_on_signal()
    async with simulator:
        for line in startup_lines(simulator):
            show(line)
        await until.wait()
    ledger = simulator.ledger
    show(f"Closed after {ledger.requests} requests and {ledger.charged} characters charged.")


def startup_lines(simulator: Simulator) -> list[str]:
    """Tell where it is and what it will do."""
    script = simulator.script
    return [
        "A vendor that fails on command. " + script.about,
        f"  ElevenLabs  {simulator.url}",
        f"  OpenAI      {simulator.url}/v1",
        f"  websockets  {simulator.url.replace('http', 'ws', 1)}",
        f"  ledger      {simulator.url}/sim/ledger",
        f"  faults      {simulator.url}/sim/faults  (GET, POST, PUT, DELETE), or on one request: x-sim-fault: stall",
        f"  back door   {simulator.control_url}/sim  (ledger and faults, even while connections are refused)",
        *_ca_lines(simulator),
        *(f"  {_fault_line(fault)}" for fault in script.faults),
        "Any API key will do. Ctrl-C ends it." if not simulator.settings.keys else "Ctrl-C ends it.",
    ]


def _ca_lines(simulator: Simulator) -> list[str]:
    if simulator.ca_file is None:
        return []
    return [f"  trust       {simulator.ca_file}  (SSL_CERT_FILE for Python, NODE_EXTRA_CA_CERTS for Node)"]


def _fault_line(fault: Fault) -> str:
    told = fault_to_table(fault)
    return ";".join([told.pop("fault"), *(f"{key}={value}" for key, value in told.items())])


def _stop_on_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
