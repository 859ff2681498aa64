"""What happened, as frozen values. A listener is any callable that takes one of them.

Every event carries `at`, on the breaker's own clock, and `wall`, the time of day in UTC, only to be shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.states import Cause, CircuitState, Outcome

NEVER = datetime.fromtimestamp(0, UTC)  # for events that somebody else makes


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """The circuit moved. The rate and the counts are the window's at that moment.

    `retry_after` is in seconds, None unless the circuit is open now and the end is known.
    """

    name: str
    from_state: CircuitState
    to_state: CircuitState
    cause: Cause
    reason: str
    failure_rate: float
    calls: int
    failures: float
    retry_after: float | None
    at: float
    wall: datetime = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitReset:
    """A closed circuit was emptied by hand."""

    name: str
    reason: str
    at: float
    wall: datetime = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldHaveOpened:
    """A monitored circuit came to where it would have opened."""

    name: str
    cause: Cause
    reason: str
    failure_rate: float
    calls: int
    failures: float
    at: float
    wall: datetime = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChanged:
    """The circuit has new settings; what they changed in its state follows as an event of its own."""

    name: str
    before: CircuitBreakerConfig
    after: CircuitBreakerConfig
    at: float
    wall: datetime = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecorded:
    """A call ended. `duration` in seconds, None where no clock was running. Only for listeners that ask for calls."""

    name: str
    outcome: Outcome
    duration: float | None
    error: str | None
    at: float
    wall: datetime = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRefused:
    """A call was refused. Only for listeners that ask for calls."""

    name: str
    state: CircuitState
    reason: str
    retry_after: float | None
    at: float
    wall: datetime = NEVER


Event: TypeAlias = StateChanged | CircuitReset | WouldHaveOpened | ConfigChanged | CallRecorded | CallRefused
Listener: TypeAlias = Callable[[Event], object]
