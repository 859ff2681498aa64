"""From one state to another: everything that moves a circuit is in this file; the ways it may go are in `states.py`.

A signal handler may raise between any two lines. So a transition is worked out first, as the values that the machine's
fields will have and the event that tells of it, and then carried out: from the moment it is decided, one assignment,
carrying it out once more finishes it. Until then nothing has happened.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from steadyvoice.breaker import news
from steadyvoice.breaker.era import Era
from steadyvoice.breaker.in_flight import InFlight
from steadyvoice.breaker.probes import Probes
from steadyvoice.breaker.rules import Verdict
from steadyvoice.breaker.states import (
    CLOSED,
    FORCED_OPEN,
    HALF_OPEN,
    MONITORING,
    OPEN,
    TRANSITIONS,
    Cause,
    CircuitState,
)
from steadyvoice.breaker.window import window_for

if TYPE_CHECKING:
    from steadyvoice.breaker.machine import Machine
    from steadyvoice.breaker.news import News

ALWAYS, NEVER = -math.inf, math.inf


def open_circuit(machine: Machine, at: float, verdict: Verdict, named: float | None = None) -> None:
    """Refuse calls for the cooldown that is due now, or for a named one."""
    healthy = 0.0 if machine.state is HALF_OPEN else at - machine.closed_at
    cooldown = machine.cooldown.copy()
    until = at + cooldown.next(machine.config, named, healthy)
    outage_at = at if machine.outage_at is None else machine.outage_at
    enter(machine, OPEN, at, verdict, until, cooldown=cooldown, opened_at=at, outage_at=outage_at)


def close_circuit(machine: Machine, at: float, verdict: Verdict, **more: Any) -> None:
    """Admit calls again, with an empty window; gently, where probes have earned it."""
    recovered = verdict.cause is Cause.PROBES_SUCCEEDED
    if recovered and machine.outage_at is not None:
        seconds = at - machine.outage_at
        more["recoveries"] = machine.recoveries + 1
        more["recovered_last"], more["recovered_seconds"] = seconds, machine.recovered_seconds + seconds
    until = end_of_ramp(machine, at, at) if recovered else None
    more |= {"closed_at": at, "opened_at": None, "outage_at": None}
    enter(machine, CLOSED, at, verdict, until, **no_evidence(machine, at), **more)


def end_of_ramp(machine: Machine, closed_at: float, now: float) -> float | None:
    """Until when a circuit that closed at a time admits only some of the calls; None when it admits all."""
    ramp = machine.config.ramp_up
    return closed_at + ramp if ramp is not None and now < closed_at + ramp else None


def no_evidence(machine: Machine, now: float) -> dict[str, Any]:
    """Return the fields of a machine that has forgotten the results."""
    return {"window": window_for(machine.config, now), "streak": 0}


def enter(
    machine: Machine, to: CircuitState, at: float, verdict: Verdict, until: float | None = None, **more: Any
) -> None:
    """Go where the table allows it. Raises RuntimeError where it does not."""
    if to not in TRANSITIONS[machine.state]:
        raise RuntimeError(f"a circuit cannot go from {machine.state.value} to {to.value}")
    go(machine, to, at, verdict, until, **more)


def go(machine: Machine, to: CircuitState, at: float, verdict: Verdict, until: float | None, **more: Any) -> None:
    """Be in that state from now on, wherever it was before; `more` are fields that change with it."""
    machine.window.expire(at)
    told = None
    if machine.state is not to:
        left = max(0.0, until - at) if until is not None and to in (OPEN, FORCED_OPEN) else None
        told = news.moved(machine, to, left, verdict, at)
    commit(machine, {"until": until, "reason": verdict.reason, **new_era(machine, to), **more}, told)


def new_era(machine: Machine, state: CircuitState) -> dict[str, Any]:
    """Return the fields with which an era begins: whatever is out belongs to the past."""
    counting = state in (CLOSED, MONITORING)
    return {
        "state": state,
        "era": Era(state),
        "flights": InFlight(),
        "probes": Probes(),
        "counting": counting,
        "tracking": state is HALF_OPEN or (counting and machine.config.hung_after is not None),
        "due": ALWAYS if state is HALF_OPEN else NEVER,
        "ramp_credit": 1.0,  # the first one is not to wait
        "warned": False,
    }


def commit(machine: Machine, fields: dict[str, Any], told: News | None) -> None:
    """Decide that these fields change, and that this is told; and carry it out."""
    complete(machine)
    machine.decided = fields, told
    complete(machine)


def complete(machine: Machine) -> None:
    """Carry out what is decided, from the beginning. Doing so twice is as good as once."""
    if machine.decided is None:
        return
    fields, told = machine.decided
    machine.era.quiet = False
    for name, value in fields.items():
        setattr(machine, name, value)
    if told is not None and not (machine.news and machine.news[-1] is told):
        news.queue(machine, told)
    machine.decided = None
