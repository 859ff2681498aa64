"""From one state to another: everything that moves a circuit is in this file; the ways it may go are in `states.py`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from steadyvoice.breaker import news
from steadyvoice.breaker.era import Era
from steadyvoice.breaker.in_flight import InFlight
from steadyvoice.breaker.probes import Probes
from steadyvoice.breaker.rules import Verdict
from steadyvoice.breaker.states import CLOSED, HALF_OPEN, MONITORING, OPEN, TRANSITIONS, Cause, CircuitState
from steadyvoice.breaker.window import window_for

if TYPE_CHECKING:
    from steadyvoice.breaker.machine import Machine

ALWAYS, NEVER = -math.inf, math.inf


def open_circuit(machine: Machine, at: float, verdict: Verdict, named: float | None = None) -> None:
    """Refuse calls for the cooldown that is due now, or for a named one."""
    healthy = 0.0 if machine.state is HALF_OPEN else at - machine.closed_at
    until = at + machine.cooldown.next(machine.config, named, healthy)
    enter(machine, OPEN, at, verdict, until)
    machine.opened_at = at
    if machine.outage_at is None:
        machine.outage_at = at


def close_circuit(machine: Machine, at: float, verdict: Verdict) -> None:
    """Admit calls again, with an empty window; gently, where probes have earned it."""
    recovered = verdict.cause is Cause.PROBES_SUCCEEDED
    if recovered and machine.outage_at is not None:
        machine.recoveries += 1
        machine.recovered_last = at - machine.outage_at
        machine.recovered_seconds += machine.recovered_last
    enter(machine, CLOSED, at, verdict, end_of_ramp(machine, at, at) if recovered else None)
    machine.closed_at = at
    machine.opened_at = machine.outage_at = None
    empty(machine, at)


def end_of_ramp(machine: Machine, closed_at: float, now: float) -> float | None:
    """Until when a circuit that closed at a time admits only some of the calls; None when it admits all."""
    ramp = machine.config.ramp_up
    return closed_at + ramp if ramp is not None and now < closed_at + ramp else None


def empty(machine: Machine, now: float) -> None:
    """Forget the results."""
    machine.window = window_for(machine.config, now)
    machine.streak = 0


def enter(machine: Machine, to: CircuitState, at: float, verdict: Verdict, until: float | None = None) -> None:
    """Go where the table allows it. Raises RuntimeError where it does not."""
    if to not in TRANSITIONS[machine.state]:
        raise RuntimeError(f"a circuit cannot go from {machine.state.value} to {to.value}")
    go(machine, to, at, verdict, until)


def go(machine: Machine, to: CircuitState, at: float, verdict: Verdict, until: float | None) -> None:
    """Be in that state from now on, wherever it was before."""
    machine.window.expire(at)
    before, machine.state, machine.until, machine.reason = machine.state, to, until, verdict.reason
    if before is not to:
        news.moved(machine, before, verdict.cause, at)
    begin_era(machine)


def begin_era(machine: Machine) -> None:
    """Whatever is out belongs to the past."""
    machine.era.quiet = False
    machine.era = Era(machine.state)
    machine.flights = InFlight()
    machine.probes = Probes()
    machine.counting = machine.state in (CLOSED, MONITORING)
    machine.tracking = machine.state is HALF_OPEN or (machine.counting and machine.config.hung_after is not None)
    machine.due = ALWAYS if machine.state is HALF_OPEN else NEVER
    machine.ramp_credit = 1.0  # the first one is not to wait
    machine.warned = False
