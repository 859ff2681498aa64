"""A call wants to begin: leave to make it, or the reason why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from steadyvoice.breaker import news
from steadyvoice.breaker.living import track
from steadyvoice.breaker.overdue import advance, time_is_up
from steadyvoice.breaker.plural import counted
from steadyvoice.breaker.states import CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.era import Flight
    from steadyvoice.breaker.machine import Machine
    from steadyvoice.breaker.remembered import Remembered

RAMP_FROM = 0.1  # of the calls, right after a recovery


class Refusal(NamedTuple):
    """Why a call may not be made now; `retry_after` in seconds, None where nobody knows."""

    state: CircuitState
    reason: str
    retry_after: float | None
    last_error: Remembered | None


def admit(now: float, machine: Machine, flight: Flight) -> Refusal | None:
    """Admit a call, or tell why not.

    The call is there already and has an owner that drops it: an exception on the way back from here, raised by a signal
    handler, cannot lose a call that takes one of the few places of a half-open circuit.
    """
    if now >= machine.due:
        advance(machine, now)
    if machine.until is not None:
        if now >= machine.until:
            time_is_up(machine, now)
        elif machine.state is CLOSED and not _ramp_admits(machine, now):
            return _refuse(machine, now)
    if not machine.counting and _is_full(machine):
        return _refuse(machine, now)
    flight.era, flight.started, flight.since = machine.era, now, now
    flight.settled = False  # whoever holds it has to settle it from here on
    if machine.tracking:
        track(machine, flight)
    return None


def admitted_share(machine: Machine, now: float) -> float:
    """How many of the calls are admitted: 1 but for a while after a recovery, and where none or few are."""
    if not machine.counting:
        return 0.0 if _is_full(machine) else 1.0
    ramp = machine.config.ramp_up
    if ramp is None or machine.until is None or machine.state is not CLOSED:
        return 1.0
    return min(1.0, max(RAMP_FROM, 1 - (machine.until - now) / ramp))


def _is_full(machine: Machine) -> bool:
    if machine.state is HALF_OPEN:
        flights = machine.flights
        return len(flights.running) + len(flights.held) >= machine.config.half_open_max_calls
    return machine.state in (OPEN, FORCED_OPEN)


def _ramp_admits(machine: Machine, now: float) -> bool:
    """After a recovery: of each hundred callers, as many as the time since then allows, evenly spread."""
    machine.ramp_credit += admitted_share(machine, now)
    if machine.ramp_credit < 1:
        return False
    machine.ramp_credit -= 1
    return True


def _refuse(machine: Machine, now: float) -> Refusal:
    machine.refused += 1
    reason, retry_after = _reason(machine, now), machine.retry_after(now)
    news.refused(machine, reason, retry_after, now)
    return Refusal(machine.state, reason, retry_after, machine.last_error)


def _reason(machine: Machine, now: float) -> str:
    match machine.state:
        case CircuitState.HALF_OPEN:
            return f"{machine.in_flight} of {counted(machine.config.half_open_max_calls, 'probe')} in flight"
        case CircuitState.CLOSED:
            return f"just recovered: {admitted_share(machine, now):.0%} of the calls are admitted"
        case _:
            return machine.reason
