"""Events of a circuit, as frozen values. A listener is a callable that takes one event.

Every event carries `at`, on the breaker's own clock, and `wall_time`, the time of day in UTC, which is only shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.states import Cause, CircuitState, Outcome

NO_WALL_TIME = datetime.fromtimestamp(0, UTC)
"""Default of `wall_time`, for events that are made outside the breaker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """Transition of a circuit, with the failure rate and counts of its window at that moment.

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
    wall_time: datetime = NO_WALL_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitReset:
    """Manual reset of a circuit that was closed already: its window was emptied."""

    name: str
    reason: str
    at: float
    wall_time: datetime = NO_WALL_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldHaveOpened:
    """Broken rule in a monitored circuit, which would have opened it."""

    name: str
    cause: Cause
    reason: str
    failure_rate: float
    calls: int
    failures: float
    at: float
    wall_time: datetime = NO_WALL_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChanged:
    """Change of a circuit's configuration; a transition that it causes follows as an event of its own."""

    name: str
    before: CircuitBreakerConfig
    after: CircuitBreakerConfig
    at: float
    wall_time: datetime = NO_WALL_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecorded:
    """End of a call, for listeners subscribed with `calls=True`. `duration` in seconds, None if it was not measured."""

    name: str
    outcome: Outcome
    duration: float | None
    error: str | None
    at: float
    wall_time: datetime = NO_WALL_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRefused:
    """Refusal of a call, for listeners subscribed with `calls=True`."""

    name: str
    state: CircuitState
    reason: str
    retry_after: float | None
    at: float
    wall_time: datetime = NO_WALL_TIME


Event: TypeAlias = StateChanged | CircuitReset | WouldHaveOpened | ConfigChanged | CallRecorded | CallRefused
Listener: TypeAlias = Callable[[Event], object]
