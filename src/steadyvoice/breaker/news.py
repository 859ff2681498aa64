"""What a circuit tells of itself: one function for each kind of event, taking from the machine what it has to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadyvoice.breaker.events import (
    CallRecorded,
    CallRefused,
    CircuitReset,
    ConfigChanged,
    Outcome,
    StateChanged,
    WouldHaveOpened,
)
from steadyvoice.breaker.rules import Verdict
from steadyvoice.breaker.states import Cause, CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.config import CircuitBreakerConfig
    from steadyvoice.breaker.machine import Machine


def moved(machine: Machine, before: CircuitState, cause: Cause, at: float) -> None:
    """It is in another state than before."""
    machine.events.append(
        StateChanged(
            name=machine.name,
            from_state=before,
            to_state=machine.state,
            cause=cause,
            reason=machine.reason,
            failure_rate=machine.failure_rate,
            calls=machine.calls,
            failures=machine.failure_sum,
            retry_after=machine.retry_after(at),
            at=at,
        )
    )


def would_have_opened(machine: Machine, verdict: Verdict, at: float) -> None:
    """It is only watching."""
    machine.events.append(
        WouldHaveOpened(
            name=machine.name,
            cause=verdict.cause,
            reason=verdict.reason,
            failure_rate=machine.failure_rate,
            calls=machine.calls,
            failures=machine.failure_sum,
            at=at,
        )
    )


def emptied(machine: Machine, reason: str, at: float) -> None:
    """It was closed by hand, and was closed before."""
    machine.events.append(CircuitReset(name=machine.name, reason=reason, at=at))


def changed(machine: Machine, before: CircuitBreakerConfig, at: float) -> None:
    """It has other settings than before."""
    machine.events.append(ConfigChanged(name=machine.name, before=before, after=machine.config, at=at))


def ended(machine: Machine, outcome: Outcome, duration: float | None, error: str | None, at: float) -> None:
    """A call ended, for those who ask for calls."""
    if machine.watched:
        machine.events.append(CallRecorded(name=machine.name, outcome=outcome, duration=duration, error=error, at=at))


def refused(machine: Machine, reason: str, retry_after: float | None, at: float) -> None:
    """A call was refused, for those who ask for calls."""
    if machine.watched:
        machine.events.append(
            CallRefused(name=machine.name, state=machine.state, reason=reason, retry_after=retry_after, at=at)
        )
