"""Evidence of one circuit, read from it at each beat, and turned into the record that other replicas get.

A circuit's window keeps no times of its results, or coarse ones. So what came since the last beat is noted here with
the time of the beat: how many results, and how many failures since the last success. Both are exact; their times are at
most one beat late.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from steadyvoice.breaker import Cause, CircuitBreaker, CircuitBreakerConfig, CircuitState, Snapshot, StateChanged
from steadyvoice.fleet.records import (
    MAX_BUCKETS,
    MAX_RUN_ENTRIES,
    CircuitRecord,
    FailureGroup,
    ResultBucket,
    config_digest,
)

_COUNTING = (CircuitState.CLOSED, CircuitState.MONITORING)
_REFUSING = (CircuitState.OPEN, CircuitState.HALF_OPEN)
PROBE_IN_USE = 1.0
"""Seconds after its last sign of use for which a replica still wants the lease of a half-open circuit's probes."""
MAX_PROBE_IN_USE = 60.0
"""The same, at most, where calls are so rare that the next one comes later: twice their usual distance."""
MAX_PROBE_LEASES = 8


class CircuitEvidence:
    """Evidence of one circuit at this replica. Times are those of the breaker's clock."""

    def __init__(self, circuit: CircuitBreaker) -> None:
        self.circuit = circuit
        self.record = CircuitRecord(state=circuit.state.value)
        self.wants_probe = False
        self.own_verdict = False
        self.opened_at: float | None = None
        self.closed_at: float | None = None
        self.recovered_at: float | None = None
        self._digest = ""
        self._config: CircuitBreakerConfig | None = None
        self._transition: StateChanged | None = None
        self._recovered_together: StateChanged | None = None
        self._calls = self._successes = self._refused = self._results_before = 0
        self._streak = 0.0
        self._hung_before = 0  # calls that hung already when the last success came
        self._buckets: deque[tuple[float, int, float, int]] = deque()
        self._run: deque[tuple[float, float]] = deque()
        self._success_at: float | None = None
        self._used_at: float | None = None  # last sign that a half-open circuit has calls
        self._called_at: float | None = None  # last sign of a call, in any state
        self._call_gap = 0.0  # seconds between calls, smoothed, as far as beats can tell

    @property
    def config(self) -> CircuitBreakerConfig:
        """Configuration of the circuit when it was observed last."""
        return self._config or self.circuit.config

    @property
    def run_weight(self) -> float:
        """Failures since the last success here, as a sum of weights."""
        return sum(group.weight for group in self.record.run)

    def observe(self, now: float) -> CircuitRecord:
        """Read the circuit and return its record."""
        snapshot, exported = self.circuit.snapshot(), self.circuit.export()
        if self.circuit.config is not self._config:
            self._config = self.circuit.config
            self._digest = config_digest(self._config)
        was_counting = self._transition is None or self._transition.to_state in _COUNTING
        changed = snapshot.last_transition != self._transition
        if snapshot.state in _COUNTING and changed:
            self._forget()
        if snapshot.state in _COUNTING or (changed and was_counting):
            self._count(snapshot, exported, now)
        if changed:
            self._note_transition(snapshot, now)
        self._note_probes(snapshot, exported, now)
        self._calls, self._successes = _results(snapshot), snapshot.totals.successes
        self._refused = snapshot.totals.refused
        self.record = self._make_record(snapshot, exported, now)
        return self.record

    @property
    def is_outdated(self) -> bool:
        """True if the circuit has changed its state since it was observed."""
        return self.circuit.snapshot().last_transition != self._transition

    def note_recovery(self) -> None:
        """Count the closing that was adopted just now as one by probes: those of several replicas were enough."""
        self._recovered_together = self.circuit.snapshot().last_transition

    # ---------------------------------------------------------------- results

    def _count(self, snapshot: Snapshot, exported: dict[str, Any], now: float) -> None:
        """Note the results since the last beat, with the present time."""
        fresh = _results(snapshot) - self._calls
        if fresh > 0 and snapshot.window_seconds is None:
            calls, failures, slow = _newest(exported["window"], fresh)
            if calls:
                self._buckets.append((now, calls, failures, slow))
        streak = snapshot.consecutive_failures
        if snapshot.totals.successes > self._successes:
            self._run.clear()
            self._success_at, self._streak, self._hung_before = now, 0.0, snapshot.hung_calls
        if streak > self._streak:
            self._run.append((now, streak - self._streak))
        self._streak = streak
        self._hung_before = min(self._hung_before, snapshot.hung_calls)
        self._bound(snapshot)

    def _bound(self, snapshot: Snapshot) -> None:
        """Forget results that no window holds, and join the oldest groups beyond what a record takes."""
        while len(self._run) > MAX_RUN_ENTRIES - 1:  # one is left for calls that hang
            (at, weight), (_, more) = self._run.popleft(), self._run.popleft()
            self._run.appendleft((at, weight + more))
        if snapshot.window_size is None:
            return
        while (
            self._buckets and sum(bucket[1] for bucket in self._buckets) - self._buckets[0][1] >= snapshot.window_size
        ):
            self._buckets.popleft()
        while len(self._buckets) > MAX_BUCKETS:
            (at, calls, failures, slow), (_, c, f, s) = self._buckets.popleft(), self._buckets.popleft()
            self._buckets.appendleft((at, calls + c, failures + f, slow + s))

    def _forget(self) -> None:
        """Begin with an empty window, as the circuit did."""
        self._buckets.clear()
        self._run.clear()
        self._success_at, self._streak, self._hung_before = None, 0.0, 0

    # ---------------------------------------------------------------- transitions and probes

    def _note_transition(self, snapshot: Snapshot, now: float) -> None:
        change = self._transition = snapshot.last_transition
        if change is None:
            return
        if snapshot.state is CircuitState.OPEN:
            self.opened_at, self.recovered_at, self.closed_at = change.at, None, None
            self.own_verdict = change.cause not in (Cause.ADOPTED, Cause.RESTORED)
        elif snapshot.state is not CircuitState.HALF_OPEN:
            self.own_verdict, self.opened_at = False, None
            self.closed_at = change.at
            by_probes = change.cause is Cause.PROBES_SUCCEEDED or change == self._recovered_together
            self.recovered_at = change.at if by_probes else None
        elif self.opened_at is None:  # opened and probed since the last beat, or forced open before
            self.opened_at = now

    def _note_probes(self, snapshot: Snapshot, exported: dict[str, Any], now: float) -> None:
        """Note whether a caller would be a probe, if this replica got the lease."""
        due = snapshot.state is CircuitState.HALF_OPEN or (
            snapshot.state is CircuitState.OPEN and exported["remaining"] == 0
        )
        refused = snapshot.totals.refused > self._refused
        if refused or _results(snapshot) > self._results_before:
            if self._called_at is not None:
                self._call_gap += 0.5 * (now - self._called_at - self._call_gap)
            self._called_at = now
        self._results_before = _results(snapshot)
        if not due:
            self._used_at = None
        elif refused or snapshot.in_flight:
            self._used_at = now
        # Where calls are rare, the one that was refused after the cooldown is not followed by another one soon:
        # whichever replica had calls lately waits for one.
        is_rare = due and self._call_gap > PROBE_IN_USE
        used_at = self._called_at if is_rare else self._used_at
        in_use = min(MAX_PROBE_IN_USE, 2 * self._call_gap) if is_rare else PROBE_IN_USE
        self.wants_probe = used_at is not None and now - used_at < in_use

    @property
    def probe_leases(self) -> int:
        """Number of replicas that may wait for a caller to probe with: several, where each of them has few."""
        return max(1, min(MAX_PROBE_LEASES, int(self._call_gap / PROBE_IN_USE)))

    # ---------------------------------------------------------------- the record

    def _make_record(self, snapshot: Snapshot, exported: dict[str, Any], now: float) -> CircuitRecord:
        half_open = snapshot.state is CircuitState.HALF_OPEN
        hung_in_run = snapshot.hung_calls - self._hung_before if snapshot.state in _COUNTING else 0
        run = [FailureGroup(_since(at, now), weight) for at, weight in self._run]
        if hung_in_run > 0:
            run.append(FailureGroup(0.0, float(hung_in_run)))
        return CircuitRecord(
            state=snapshot.state.value,
            digest=self._digest,
            buckets=self._recorded_buckets(snapshot, exported, now),
            run=tuple(run),
            success_age=_age(self._success_at, now),
            hung=snapshot.hung_calls,
            normal_rate=min(1.0, snapshot.normal_failure_rate),
            own_verdict=self.own_verdict,
            opened_age=_age(self.opened_at, now) if snapshot.state in _REFUSING else None,
            closed_age=_age(self.closed_at, now),
            recovered_age=_age(self.recovered_at, now) if snapshot.state is CircuitState.CLOSED else None,
            remaining=snapshot.retry_after if snapshot.state is CircuitState.OPEN else None,
            level=exported["level"],
            probes_in_flight=(snapshot.in_flight or 0) if half_open else 0,
            probe_successes=snapshot.probe_successes,
            probe_failures=snapshot.probe_failures,
        )

    def _recorded_buckets(self, snapshot: Snapshot, exported: dict[str, Any], now: float) -> tuple[ResultBucket, ...]:
        if snapshot.window_seconds is None:
            return tuple(
                ResultBucket(_since(at, now), calls, failures, slow) for at, calls, failures, slow in self._buckets
            )
        runs: list[list[float]] = exported["window"]
        size = -(-len(runs) // MAX_BUCKETS) or 1
        return tuple(_joined(runs[begin : begin + size]) for begin in range(0, len(runs), size))


def _results(snapshot: Snapshot) -> int:
    return snapshot.totals.successes + snapshot.totals.failures


def _newest(runs: list[list[float]], wanted: int) -> tuple[int, float, int]:
    """Return calls, failures and slow calls of the newest results, of which at most `wanted` are counted."""
    calls, failures, slow = 0, 0.0, 0
    for run_calls, _failed, run_failures, run_slow, _age in reversed(runs):
        taken = min(int(run_calls), wanted - calls)
        calls += taken
        failures += run_failures  # a run of more than one call has none
        slow += int(run_slow)
        if calls == wanted:
            break
    return calls, failures, slow


def _joined(runs: list[list[float]]) -> ResultBucket:
    """Return the results of several buckets of a time window as one, as old as the newest of them."""
    calls, failures, slow = (sum(run[column] for run in runs) for column in (0, 2, 3))
    return ResultBucket(max(0.0, runs[-1][4]), int(calls), failures, int(slow))


def _since(at: float, now: float) -> float:
    return max(0.0, now - at)


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else max(0.0, now - at)
