"""Somebody wants another state: a manual one until it is released, or closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steadyvoice.breaker import news
from steadyvoice.breaker.moving import close_circuit, commit, enter, new_era, no_evidence
from steadyvoice.breaker.overdue import advance
from steadyvoice.breaker.rules import Verdict
from steadyvoice.breaker.states import CLOSED, Cause, CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.machine import Machine


def force(now: float, machine: Machine, state: CircuitState, reason: str, duration: float | None) -> None:
    """Set a manual state: until released, or for a duration in seconds."""
    advance(machine, now)
    until = None if duration is None else now + duration
    if machine.state is not state:
        enter(machine, state, now, Verdict(Cause.MANUAL, reason), until, outage_at=None, **no_evidence(machine, now))
    machine.reason, machine.until = reason, until


def close(now: float, machine: Machine, verdict: Verdict, **more: Any) -> None:
    """Close from any state; the window is empty afterwards. `more` are fields that change with it."""
    advance(machine, now)
    if machine.state is not CLOSED:
        close_circuit(machine, now, verdict, **more)
        return
    fields = {**new_era(machine, CLOSED), **no_evidence(machine, now), "until": None, **more}
    commit(machine, fields, news.emptied(machine, verdict.reason, now))


def reset(now: float, machine: Machine, reason: str) -> None:
    """Close as if new: the backoff is forgotten, too."""
    cooldown = machine.cooldown.copy()
    cooldown.forget()
    close(now, machine, Verdict(Cause.RESET, reason), cooldown=cooldown)
