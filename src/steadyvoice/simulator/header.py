"""The fault that a request asks for itself, in a header."""

from __future__ import annotations

from collections.abc import Mapping

from steadyvoice.simulator.acts import Door, FaultError
from steadyvoice.simulator.faults import Fault
from steadyvoice.simulator.notation import parse_fault

FAULT_HEADER = "x-sim-fault"


def ordered(headers: Mapping[str, str], door: Door) -> Fault | None:
    """Read it; None is none. Raises FaultError for one that cannot be, or not here."""
    written = headers.get(FAULT_HEADER)
    if written is None:
        return None
    fault = parse_fault(written)
    if fault != Fault(fault.act):
        raise FaultError("this header is for one request only, so conditions have no place in it")
    if door not in fault.act.doors:
        raise FaultError(_elsewhere(fault))
    return fault


def _elsewhere(fault: Fault) -> str:
    if Door.CONNECTION in fault.act.doors:
        return f"{fault.name} happens before there is a request: order it in the script or at /sim/faults"
    (only,) = fault.act.doors
    return f"{fault.name} happens to {'websockets' if only is Door.WEBSOCKET else 'HTTP answers'} only"
