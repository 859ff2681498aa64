"""A circuit at one moment, as a frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from steadyvoice.breaker.admission import admitted_share
from steadyvoice.breaker.events import StateChanged
from steadyvoice.breaker.record import FailureRecord
from steadyvoice.breaker.states import CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.history import History
    from steadyvoice.breaker.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Since the breaker was made. `calls` have ended, and are the sum of successes, failures, ignored and late."""

    calls: int
    successes: int
    failures: int
    refused: int
    ignored: int
    late: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recoveries:
    """How often the circuit closed by itself again, and the seconds from opening to closing."""

    count: int
    last_seconds: float | None
    mean_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A circuit at one moment; taking it changed nothing.

    `calls`, `failures` (a sum of weights) and `failure_rate` are those in the window now, calls that hang
    included; while open, the window is the one that opened it. `retry_after` in seconds is None unless open, and
    0 when the next caller would be a probe. `in_flight` is None where nobody counts. `window_size` is None for a
    time window. `normal_failure_rate` is that of the last calls before the present run of failures, 0.05 or more
    while few are known; it is learnt only where `significance` asks for it. `admitted_share` is how many of the
    calls are let through: less than 1 while `ramp_up` lasts, 0 where none is.
    """

    name: str
    state: CircuitState
    reason: str
    failure_rate: float
    calls: int
    failures: float
    minimum_calls: int
    window_size: int | None
    window_seconds: float | None
    consecutive_failures: float
    slow_calls: int
    hung_calls: int
    normal_failure_rate: float
    admitted_share: float
    in_flight: int | None
    probe_successes: int
    probe_failures: int
    opened_at: datetime | None
    retry_after: float | None
    last_error: FailureRecord | None
    last_transition: StateChanged | None
    totals: Totals
    recoveries: Recoveries

    @property
    def enough_calls(self) -> bool:
        """Whether the window holds enough results for its rate to be judged."""
        return self.calls >= self.minimum_calls


def snapshot_of(machine: Machine, history: History, now: float, wall: float) -> Snapshot:
    """What the machine says at `now`, which is `wall` o'clock. Requires the breaker's lock."""
    config, hung = machine.config, len(machine.flights.silent)
    calls, failures, slow = machine.window.counts(now)
    calls, failures = calls + hung, failures + hung
    return Snapshot(
        name=machine.name,
        state=machine.state,
        reason=machine.reason,
        failure_rate=failures / calls if calls else 0.0,
        calls=calls,
        failures=failures,
        minimum_calls=config.minimum,
        window_size=config.window_size if config.window_seconds is None else None,
        window_seconds=config.window_seconds,
        consecutive_failures=machine.streak,
        slow_calls=slow,
        hung_calls=hung,
        normal_failure_rate=machine.baseline.rate,
        admitted_share=admitted_share(machine, now),
        in_flight=machine.in_flight,
        probe_successes=machine.probes.succeeded,
        probe_failures=machine.probes.failed,
        opened_at=history.opened_at,
        retry_after=machine.retry_after(now),
        last_error=machine.last_error and machine.last_error.record(),
        last_transition=history.last_transition,
        totals=_totals(machine),
        recoveries=_recoveries(machine),
    )


def _totals(machine: Machine) -> Totals:
    return Totals(
        calls=machine.successes + machine.failures + machine.ignored + machine.late,
        successes=machine.successes,
        failures=machine.failures,
        refused=machine.refused,
        ignored=machine.ignored,
        late=machine.late,
    )


def _recoveries(machine: Machine) -> Recoveries:
    count = machine.recoveries
    mean = machine.recovered_seconds / count if count else None
    return Recoveries(count=count, last_seconds=machine.recovered_last, mean_seconds=mean)
