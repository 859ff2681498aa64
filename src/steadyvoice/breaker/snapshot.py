"""Snapshot of a circuit at one moment, and its explanation in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.events import StateChanged
from steadyvoice.breaker.failure_record import FailureRecord
from steadyvoice.breaker.rules import AnyOf, Rule, RuleStatus, WindowStats, pluralize
from steadyvoice.breaker.states import CircuitState, RecoveryTimes

if TYPE_CHECKING:
    from steadyvoice.breaker._notifications import TransitionHistory
    from steadyvoice.breaker.call_results import CallResults
    from steadyvoice.breaker.state_machine import StateMachine


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Totals since the breaker was made. `calls` have ended: the sum of successes, failures, ignored and late."""

    calls: int
    successes: int  # calls that succeeded
    failures: int  # calls that failed
    refused: int  # calls that the circuit refused
    ignored: int  # calls that say nothing about the service
    late: int  # calls that began before the last transition


@dataclass(frozen=True, slots=True, kw_only=True)
class Recoveries:
    """Number of times that probes closed the circuit, and the seconds from opening to closing."""

    count: int  # recoveries since the breaker was made
    last_seconds: float | None  # seconds from opening to closing, of the last one
    mean_seconds: float | None  # mean of these seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Circuit at one moment. Taking a snapshot changes nothing.

    `calls`, `failures` (a sum of weights) and `failure_rate` are those in the window now, calls that hang included;
    while open, the window is the one that opened it. `retry_after` in seconds is None unless open, and 0 when the next
    caller would be a probe. `in_flight` is None where calls in flight are not tracked. `window_size` is None for a time
    window. `normal_failure_rate` is that of the last calls before the present run of failures, 0.05 or more while few
    are known; it is learnt only if `significance` is set. `admitted_share` is the share of calls that is admitted:
    below 1 during `ramp_up`, 0 where no call is. `probe_granted` is False while no caller may become a probe: see
    `CircuitBreaker.grant_probe`.
    """

    name: str  # name of the circuit
    state: CircuitState  # state now; reading it changes nothing
    reason: str  # why the circuit is in this state, as a sentence
    failure_rate: float
    calls: int
    failures: float
    minimum_calls: int  # calls in the window before a rate is evaluated
    window_size: int | None  # calls that the window holds, None for a time window
    window_seconds: float | None  # seconds of a time window, None for a window of calls
    consecutive_failures: float  # failures in a row, a sum of weights
    slow_calls: int  # slow calls in the window
    hung_calls: int  # calls in flight that hang
    normal_failure_rate: float
    admitted_share: float
    in_flight: int | None
    probe_granted: bool
    probe_successes: int  # probes of this half-open period that succeeded
    probe_failures: int  # probes of this half-open period that failed
    opened_at: datetime | None  # date and time (UTC), None unless the circuit is open or half-open
    retry_after: float | None
    last_error: FailureRecord | None  # failure recorded last
    last_transition: StateChanged | None  # event of the last change of state
    totals: Totals  # numbers of calls since the breaker was made
    recoveries: Recoveries  # recoveries since the breaker was made

    @property
    def enough_calls(self) -> bool:
        """True if the window holds enough results for its rate to be evaluated."""
        return self.calls >= self.minimum_calls


def take_snapshot(machine: StateMachine, history: TransitionHistory, now: float, wall_time: float) -> Snapshot:
    """Return the snapshot at `now`. Requires the breaker's lock."""
    config, hung = machine.config, len(machine.in_flight.hung)
    # Counted without `expire(now)`: a snapshot that emptied the window would change what the next call finds.
    calls, failures, slow = machine.results.window.counts(now)
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
        consecutive_failures=machine.results.streak,
        slow_calls=slow,
        hung_calls=hung,
        normal_failure_rate=machine.results.baseline.rate,
        admitted_share=machine.admitted_share(now),
        in_flight=machine.in_flight_count,
        probe_granted=now < machine.probes_until,
        probe_successes=machine.probes.succeeded,
        probe_failures=machine.probes.failed,
        opened_at=history.opened_at,
        retry_after=machine.retry_after(now),
        last_error=machine.results.last_error and machine.results.last_error.to_record(),
        last_transition=history.last_transition,
        totals=_totals(machine.results),
        recoveries=_recoveries(machine.recoveries),
    )


def _totals(results: CallResults) -> Totals:
    return Totals(
        calls=results.successes + results.failures + results.ignored + results.late,
        successes=results.successes,
        failures=results.failures,
        refused=results.refused,
        ignored=results.ignored,
        late=results.late,
    )


def _recoveries(times: RecoveryTimes) -> Recoveries:
    mean = times.total_seconds / times.number if times.number else None
    return Recoveries(count=times.number, last_seconds=times.last_seconds, mean_seconds=mean)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Explanation of a circuit's state, as values, and as text with `str()`.

    `rules` are the simple ones; `rule_descriptions` has a line for each rule that opens the circuit alone. `failures`
    are the last ones, oldest first. `changes_in` is in seconds, None where no timer decides.
    """

    name: str  # name of the circuit
    state: CircuitState  # state now
    reason: str  # why it is in this state, as a sentence
    rules: tuple[RuleStatus, ...]
    failures: tuple[FailureRecord, ...]
    next: str  # what changes the state next, as a sentence
    changes_in: float | None
    rule_descriptions: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.name} is {self.state.value.replace('_', ' ')}: {self.reason}", f"next: {self.next}"]
        lines += [f"rule: {rule}" for rule in self.rule_descriptions]
        lines += [f"failure: {_line(failure)}" for failure in reversed(self.failures)]
        return "\n".join(lines)


def explain(machine: StateMachine, history: TransitionHistory, now: float, wall_time: float) -> Explanation:
    """Return the explanation at `now`. Requires the breaker's lock."""
    snapshot, config = take_snapshot(machine, history, now, wall_time), machine.config
    stats, rule = _window_stats(snapshot, machine.consecutive_failures), config.rule
    remaining = None if machine.state_until is None else max(0.0, machine.state_until - now)
    return Explanation(
        name=snapshot.name,
        state=snapshot.state,
        reason=snapshot.reason,
        rules=tuple(part.status(stats) for part in rule.parts()),
        failures=tuple(each.to_record() for each in machine.results.recent_failures or ()),
        next=_next_change(snapshot, config, remaining),
        changes_in=remaining,
        rule_descriptions=tuple(each.describe(stats) for each in _alternatives(rule)),
    )


def _window_stats(snapshot: Snapshot, consecutive_failures: float) -> WindowStats:
    normal = snapshot.normal_failure_rate
    return WindowStats(snapshot.calls, snapshot.failures, snapshot.slow_calls, consecutive_failures, normal)


def _alternatives(rule: Rule) -> Iterator[Rule]:
    if isinstance(rule, AnyOf):
        yield from _alternatives(rule.one)
        yield from _alternatives(rule.other)
    else:
        yield rule


def _next_change(snapshot: Snapshot, config: CircuitBreakerConfig, remaining: float | None) -> str:
    match snapshot.state:
        case CircuitState.CLOSED if snapshot.admitted_share < 1:
            return f"admits {snapshot.admitted_share:.0%} of the calls, gradually all; opens when a rule is broken"
        case CircuitState.CLOSED:
            return "opens when a rule is broken"
        case CircuitState.OPEN | CircuitState.HALF_OPEN if not (remaining or snapshot.probe_granted):
            return "waits until a probe is granted"
        case CircuitState.OPEN if not remaining:
            return "the next caller is a probe"
        case CircuitState.HALF_OPEN:
            return _next_change_by_probes(snapshot, config)
        case CircuitState.OPEN | CircuitState.FORCED_OPEN if remaining is not None:
            return f"the first caller in {remaining:.3g} s or later is a probe"
        case CircuitState.MONITORING if remaining is not None:
            return (
                f"reports when it would open, refuses no call; closed by the first caller in {remaining:.3g} s or later"
            )
        case CircuitState.DISABLED if remaining is not None:
            return f"closed by the first caller in {remaining:.3g} s or later"
        case CircuitState.MONITORING:
            return "reports when it would open, refuses no call, until close() or reset()"
        case _:
            return "unchanged until close() or reset()"


def _next_change_by_probes(snapshot: Snapshot, config: CircuitBreakerConfig) -> str:
    missing = config.success_threshold - snapshot.probe_successes
    permitted = config.half_open_failures - snapshot.probe_failures
    more = pluralize(missing, "more successful probe")
    if config.half_open_failures == 0:
        return f"closes after {more} in a row, opens when one fails"
    return f"closes after {more}, opens when {permitted + 1} {'fail' if permitted else 'fails'} before"


def _line(failure: FailureRecord) -> str:
    latency = "" if failure.latency is None else f" after {failure.latency:.3g} s"
    return f"{failure.at:%H:%M:%S} {failure}{latency}"
