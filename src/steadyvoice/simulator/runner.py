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
    """Serve until SIGINT or SIGTERM. `show` is called with each line for the terminal.

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
