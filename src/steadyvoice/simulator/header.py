"""The fault that a request asks for itself, in a header."""

from __future__ import annotations

from multidict import MultiMapping

from steadyvoice.simulator.acts import Door, FaultError, Sound
from steadyvoice.simulator.faults import Call, Fault
from steadyvoice.simulator.notation import parse_fault

FAULT_HEADER = "x-sim-fault"


def ordered(headers: MultiMapping[str], call: Call) -> Fault | None:
    """Read the fault that this call asks for; None is none. Raises FaultError for one that cannot be, or not here."""
    written = headers.getall(FAULT_HEADER, [])
    if not written:
        return None
    if len(written) > 1:
        raise FaultError(f"one request has one fault, not {len(written)}: order more of them at /sim/faults")
    fault = parse_fault(written[0])
    if fault != Fault(fault.act):
        raise FaultError("this header is for one request only, so conditions have no place in it")
    if call.door not in fault.act.doors:
        raise FaultError(_elsewhere(fault))
    if isinstance(fault.act, Sound) and not call.speech:
        raise FaultError(f"{fault.name} happens to audio, and {call.endpoint} has none")
    return fault


def _elsewhere(fault: Fault) -> str:
    if Door.CONNECTION in fault.act.doors:
        return f"{fault.name} happens before there is a request: order it in the script or at /sim/faults"
    (only,) = fault.act.doors
    return f"{fault.name} happens to {'websockets' if only is Door.WEBSOCKET else 'HTTP answers'} only"
