"""Results of a circuit's calls, as successes and failures change them: window, run of failures, usual rate, totals."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from functools import partial

from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.errors import RecordedFailure
from steadyvoice.breaker.failure_classification import hung_failure
from steadyvoice.breaker.in_flight_calls import InFlightCall, NotedFailure, QuietFailure, TickedFailure
from steadyvoice.breaker.rules import NO_BASELINE, UNKNOWN_FAILURE_RATE, RuleBroken, RuleSet, WindowStats
from steadyvoice.breaker.sliding_window import SlidingWindow, window_for

REMEMBERED_FAILURES = 10

_new_record: Callable[[tuple[str, str, float, float | None]], RecordedFailure] = partial(tuple.__new__, RecordedFailure)
"""Same as `RecordedFailure(...)`, whose constructor is a Python function."""


class CallResults:
    """Results of the calls of one circuit, and whether they break its rule. Requires external locking.

    `streak` is the sum of the failures since the last success. Changes that must happen as a whole, whatever a signal
    handler raises, are made to a copy: the methods that begin with `with` return one.
    """

    __slots__ = (
        "baseline",
        "failures",
        "ignored",
        "last_error",
        "late",
        "recent_failures",
        "refused",
        "rules",
        "streak",
        "successes",
        "window",
    )

    def __init__(self, config: CircuitBreakerConfig, now: float) -> None:
        self.rules: RuleSet = config.rule_set
        self.window: SlidingWindow = window_for(config, now)
        self.streak: float = 0
        self.baseline = NO_BASELINE
        self.successes = self.failures = self.ignored = self.late = self.refused = 0
        self.last_error: RecordedFailure | None = None
        # Made for the first failure: a deque takes 760 bytes, a third of an idle circuit.
        self.recent_failures: deque[RecordedFailure] | None = None

    # ---------------------------------------------------------------- single results

    def add_success(self, now: float, *, slow: bool) -> None:
        """Count a success, which ends the present run of failures."""
        self.successes += 1
        self.window.add(now, 0.0, slow)
        self._end_streak(1)

    def add_successes(self, now: float, count: int) -> None:
        """Count successes whose durations were not measured."""
        self.successes += count
        self.window.add_successes(now, count)
        self._end_streak(count)

    def add_failure(self, now: float, weight: float, *, slow: bool, extends_streak: bool) -> None:
        """Count a failure in the window; `count_failure` has counted it in the totals."""
        self.window.add(now, weight, slow)
        if extends_streak:
            self.streak += weight

    def count_failure(self, kind: str, message: str, wall_time: float, latency: float | None) -> None:
        """Count a failure in the totals, and keep it for `explain()`."""
        self.failures += 1
        self.remember_failure(kind, message, wall_time, latency)

    def remember_failure(self, kind: str, message: str, wall_time: float, latency: float | None) -> None:
        """Keep a failure for `explain()`, with the time of day at which it happened."""
        if self.recent_failures is None:
            self.recent_failures = deque(maxlen=REMEMBERED_FAILURES)
        self.last_error = _new_record((kind, message, wall_time, latency))
        self.recent_failures.append(self.last_error)

    def remember_hung_calls(self, hung: Collection[InFlightCall], due: float, wall_time: float) -> None:
        """Keep calls that hang for `explain()`: the latest of them, as of `due`."""
        for call in list(hung)[-REMEMBERED_FAILURES:]:
            failure = hung_failure(due - call.last_progress_at)
            self.remember_failure(failure.kind, failure.message, wall_time, call.latency(due))

    def _end_streak(self, successes: int) -> None:
        if self.rules.uses_baseline:
            if self.baseline is NO_BASELINE:
                self.baseline = NO_BASELINE.copy()
            self.baseline.record(self.streak, successes)
        self.streak = 0

    # ---------------------------------------------------------------- results that were left without the lock

    def with_quiet_results(self, ended: list[float], failed: list[QuietFailure]) -> CallResults:
        """Return these results and those of a quiet period in their order: times of successes, and failures."""
        results, done = self._deep_copy(), 0
        for noted, position, at in failed:
            # Behind more successes than there are, if a locked section took them while a caller noted its failure.
            results._add_successes_at(ended[done:position])
            done = max(done, min(position, len(ended)))
            results.add_failure(at, noted[0].weight, slow=False, extends_streak=True)
        results._add_successes_at(ended[done:])
        results._count_noted([noted for noted, _, _ in failed])
        return results

    def with_ticks(self, now: float, first: int, count: int, failed: list[TickedFailure]) -> CallResults:
        """Return these results and those of so many plain calls, whose ticks begin with `first`; some failed."""
        results, done = self._deep_copy(), first
        weights: list[float] = []
        for noted, tick in failed:
            if tick > done:
                results._add_failures(now, weights)
                results.add_successes(now, tick - done)
                weights = []
            weights.append(noted[0].weight)
            done = tick + 1
        results._add_failures(now, weights)
        if done < first + count:
            results.add_successes(now, first + count - done)
        results._count_noted([noted for noted, _ in failed])
        return results

    def _add_successes_at(self, times: list[float]) -> None:
        if times:
            self.successes += len(times)
            self.window.add_successes_at(times)
            self._end_streak(len(times))

    def _add_failures(self, now: float, weights: list[float]) -> None:
        if weights:
            self.window.add_failures(now, weights)
            for weight in weights:  # not `sum`, which rounds another way than one by one
                self.streak += weight

    def _count_noted(self, failed: list[NotedFailure]) -> None:
        """Count failures in the totals, and keep the latest of them."""
        self.failures += len(failed)
        for failure, wall_time, latency in failed[-REMEMBERED_FAILURES:]:
            self.remember_failure(failure.kind, failure.message, wall_time, latency)

    # ---------------------------------------------------------------- copies

    def with_empty_window(self, config: CircuitBreakerConfig, now: float) -> CallResults:
        """Return the results without those in the window; the totals and the usual failure rate stay."""
        results = self._copy()
        results.window, results.streak = window_for(config, now), 0
        return results

    def with_config(self, before: CircuitBreakerConfig, config: CircuitBreakerConfig, now: float) -> CallResults:
        """Return the results under another configuration: the newest that fit its window."""
        results = self._copy()
        results.rules = config.rule_set
        if (before.window_size, before.window_seconds) != (config.window_size, config.window_seconds):
            results.window = window_for(config, now, self.window.runs(now))
        return results

    def _copy(self) -> CallResults:
        copy = CallResults.__new__(CallResults)
        for name in self.__slots__:
            setattr(copy, name, getattr(self, name))
        return copy

    def _deep_copy(self) -> CallResults:
        copy = self._copy()
        copy.window = self.window.copy()
        copy.baseline = self.baseline.copy()
        copy.recent_failures = self.recent_failures and self.recent_failures.copy()
        return copy

    # ---------------------------------------------------------------- evaluation

    def broken_rule(self, now: float, *, hung: int, hung_in_streak: int, durations_count: bool) -> RuleBroken | None:
        """Return the rule that is broken now, None if there is none. A call that hangs is a failure until it ends."""
        window = self.window
        window.expire(now)
        slow = window.slow if durations_count else 0
        if not window.failures and not hung and not slow:
            return None
        calls, failures, consecutive = window.calls + hung, window.failures + hung, self.streak + hung_in_streak
        normal = self.baseline.rate if self.rules.uses_baseline else UNKNOWN_FAILURE_RATE
        broken = self.rules.rule.evaluate(WindowStats(calls, failures, slow, consecutive, normal))
        if broken is None or not hung:
            return broken
        return RuleBroken(broken.cause, f"{broken.reason}, {hung} of them still in flight without progress")

    def harmless_failures(self, most: int) -> int | None:
        """Return how many more failures can break no rule, `most` at most; None if the present ones can."""
        return self.rules.harmless_failures(self.window.failures, self.streak, most)
