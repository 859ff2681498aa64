"""Sliding windows over recent results: the last N results, or those of the last N seconds.

A window takes results in and gives three numbers out: `calls`, `failures` (a sum of weights) and `slow`. A run of plain
successes is only a number, so the window of a healthy circuit is small whatever its size.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from itertools import count as count_from
from itertools import repeat
from typing import NamedTuple, Protocol

from steadyvoice.breaker.config import CircuitBreakerConfig

BUCKETS = 100
"""Buckets of a time window: a result leaves it at most one hundredth of its length early."""


class ResultRun(NamedTuple):
    """Results that are kept together, for carrying them from one window to another.

    `failures` is the sum of the weights of the `failed` calls; `age` is in seconds, 0 in a window of N results.
    """

    calls: int
    failed: int
    failures: float
    slow: int
    age: float


class SlidingWindow(Protocol):
    """Recent results. The three counts are right after `expire(now)`."""

    calls: int
    failures: float
    slow: int

    def add(self, now: float, weight: float, slow: bool) -> None:
        """Add a result; a success weighs 0."""

    def add_successes(self, now: float, count: int) -> None:
        """Add successes that were not slow."""

    def add_failures(self, now: float, weights: list[float]) -> None:
        """Add failures that were not slow, by weight."""

    def copy(self) -> SlidingWindow:
        """Return a window with the same results."""

    def add_successes_at(self, times: list[float]) -> None:
        """Add successes that were not slow, at these times."""

    def expire(self, now: float) -> None:
        """Remove the results that are too old."""

    def counts(self, now: float) -> tuple[int, float, int]:
        """Return calls, failures and slow calls without changing anything."""

    def runs(self, now: float) -> list[ResultRun]:
        """Return the results in detail, oldest first, without changing anything."""

    def recount(self) -> None:
        """Restore the counts after an exception in the middle of a change."""


def window_for(config: CircuitBreakerConfig, now: float, runs: Iterable[ResultRun] = ()) -> SlidingWindow:
    """Return the window of a configuration, with the newest of these results that fit."""
    window = CountWindow(config.window_size) if config.window_seconds is None else TimeWindow(config.window_seconds)
    for run in runs:
        window.absorb(run, now)
    return window


class CountWindow:
    """Sliding window over the last `size` results.

    Keeps their number, and the positions of those that were failures or slow.
    """

    __slots__ = ("_marks", "_seen", "calls", "failures", "size", "slow")

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls = 0
        self.failures = 0.0
        self.slow = 0
        self._seen = 0  # results since the beginning: positions are counted from there
        self._marks: deque[tuple[int, float, bool]] | None = None  # made when needed: a deque takes 760 bytes

    def add(self, now: float, weight: float, slow: bool) -> None:
        """Add a result; a success weighs 0."""
        if weight or slow:
            if self._marks is None:
                self._marks = deque()
            self._marks.append((self._seen, weight, slow))
            self.failures += weight
            self.slow += slow
        self._seen += 1
        if self.calls < self.size:
            self.calls += 1
        if self._marks and self._marks[0][0] < self._seen - self.size:
            self._evict()

    def add_successes(self, now: float, count: int) -> None:
        """Add successes that were not slow."""
        self._seen += count
        if self.calls < self.size:
            self.calls = min(self.calls + count, self.size)
        if self._marks:
            self._evict()

    def add_failures(self, now: float, weights: list[float]) -> None:
        """Add failures that were not slow, by weight."""
        if self._marks is None:
            self._marks = deque()
        self._marks.extend(zip(count_from(self._seen), weights, repeat(False)))
        for weight in weights:  # not `sum`, which rounds another way than one by one
            self.failures += weight
        self._seen += len(weights)
        self.calls = min(self.calls + len(weights), self.size)
        self._evict()

    def add_successes_at(self, times: list[float]) -> None:
        """Add successes that were not slow."""
        self.add_successes(0.0, len(times))

    def copy(self) -> CountWindow:
        """Return a window with the same results."""
        copy = CountWindow(self.size)
        copy.calls, copy.failures, copy.slow, copy._seen = self.calls, self.failures, self.slow, self._seen
        copy._marks = self._marks and self._marks.copy()
        return copy

    def expire(self, now: float) -> None:
        """Do nothing: only newer results replace old ones."""

    def counts(self, now: float) -> tuple[int, float, int]:
        """Return calls, failures and slow calls."""
        return self.calls, self.failures, self.slow

    def runs(self, now: float) -> list[ResultRun]:
        """Return the results in detail, oldest first."""
        runs: list[ResultRun] = []
        done = self._seen - self.calls
        for index, weight, slow in self._marks or ():
            if index > done:
                runs.append(ResultRun(index - done, 0, 0.0, 0, 0.0))
            runs.append(ResultRun(1, 1 if weight else 0, weight, int(slow), 0.0))
            done = index + 1
        if self._seen > done:
            runs.append(ResultRun(self._seen - done, 0, 0.0, 0, 0.0))
        return runs

    def absorb(self, run: ResultRun, now: float) -> None:
        """Add a run, its successes first; its failures share their weight evenly."""
        plain = run.calls - max(run.failed, run.slow)
        self.add_successes(now, plain)
        # At most `size` steps: a restored state may contain a run of a billion calls.
        for position in range(max(0, run.calls - plain - self.size), run.calls - plain):
            weight = run.failures / run.failed if position < run.failed else 0.0
            self.add(now, weight, position < run.slow)

    def recount(self) -> None:
        """Recompute the counts from the marks."""
        marks = self._marks or deque()
        # `add` appends the mark before it counts the result: an exception in between leaves a mark without a result.
        if marks and marks[-1][0] >= self._seen:
            self._seen = marks[-1][0] + 1
        self.calls = min(self._seen, self.size)
        self._evict()
        self.failures = sum((weight for _, weight, _ in marks), 0.0)
        self.slow = sum(slow for _, _, slow in marks)

    def _evict(self) -> None:
        marks = self._marks
        oldest = self._seen - self.size
        while marks and marks[0][0] < oldest:
            _, weight, slow = marks.popleft()
            self.failures -= weight
            self.slow -= slow
        if not marks:
            self.failures = 0.0  # subtracting odd weights leaves rounding errors


class TimeWindow:
    """Sliding window over the results of the last `seconds`, in buckets that begin with their first result.

    A bucket expires as a whole when its beginning is `seconds` ago, so after an idle hour the window is empty.
    """

    __slots__ = ("_buckets", "_failed", "_newest", "_width", "calls", "failures", "seconds", "slow")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0
        self.failures = 0.0
        self.slow = 0
        self._failed = 0
        self._width = seconds / BUCKETS
        self._newest = _NO_BUCKET
        self._buckets = _NO_BUCKETS  # replaced with the first; a hundred at most, for which a deque takes 760 bytes

    def add(self, now: float, weight: float, slow: bool) -> None:
        """Add a result; a success weighs 0."""
        # A clock that steps back puts a result into the newest bucket, so buckets stay in their order.
        bucket = self._newest
        if now - bucket.begin >= self._width:
            bucket = self._begin_bucket(now)
        bucket.calls += 1
        self.calls += 1
        if weight:
            bucket.failed += 1
            bucket.failures += weight
            self._failed += 1
            self.failures += weight
        if slow:
            bucket.slow += 1
            self.slow += 1

    def add_successes(self, now: float, count: int) -> None:
        """Add successes that were not slow."""
        self._bucket(now).calls += count
        self.calls += count

    def add_failures(self, now: float, weights: list[float]) -> None:
        """Add failures that were not slow, by weight."""
        for weight in weights:
            self.add(now, weight, slow=False)

    def add_successes_at(self, times: list[float]) -> None:
        """Add successes that were not slow, at these times."""
        if max(times) - self._newest.begin < self._width:
            self.add_successes(times[0], len(times))
            return
        for time in times:
            self.add(time, 0.0, slow=False)

    def copy(self) -> TimeWindow:
        """Return a window with the same results."""
        copy = TimeWindow(self.seconds)
        copy.calls, copy.failures, copy.slow, copy._failed = self.calls, self.failures, self.slow, self._failed
        # Only the newest bucket ever changes: the others are shared.
        copy._buckets, copy._newest = self._buckets.copy(), self._newest.copy()
        if copy._buckets and copy._buckets[-1] is self._newest:
            copy._buckets[-1] = copy._newest
        return copy

    def expire(self, now: float) -> None:
        """Remove the buckets that are too old."""
        buckets = self._buckets
        while buckets and buckets[0].begin + self.seconds <= now:
            bucket = buckets.pop(0)
            self.calls -= bucket.calls
            self.failures -= bucket.failures
            self.slow -= bucket.slow
            self._failed -= bucket.failed
            if not self._failed:
                self.failures = 0.0  # subtracting odd weights leaves rounding errors

    def counts(self, now: float) -> tuple[int, float, int]:
        """Return calls, failures and slow calls without changing anything."""
        runs = self.runs(now)
        return sum(run.calls for run in runs), sum(run.failures for run in runs), sum(run.slow for run in runs)

    def runs(self, now: float) -> list[ResultRun]:
        """Return the results by bucket, oldest first, without changing anything."""
        current = [b for b in self._buckets if b.begin + self.seconds > now]
        return [ResultRun(b.calls, b.failed, b.failures, b.slow, now - b.begin) for b in current]

    def absorb(self, run: ResultRun, now: float) -> None:
        """Add a run at its age."""
        bucket = self._bucket(now - run.age)
        bucket.calls += run.calls
        bucket.failed += run.failed
        bucket.failures += run.failures
        bucket.slow += run.slow
        self.calls += run.calls
        self._failed += run.failed
        self.failures += run.failures
        self.slow += run.slow

    def recount(self) -> None:
        """Recompute the counts from the buckets."""
        buckets = self._buckets
        # `_begin_bucket` stores the new bucket before it appends it.
        if self._newest.calls and (not buckets or buckets[-1] is not self._newest):
            buckets.append(self._newest)
        self.calls = sum(bucket.calls for bucket in buckets)
        self.failures = sum((bucket.failures for bucket in buckets), 0.0)
        self.slow = sum(bucket.slow for bucket in buckets)
        self._failed = sum(bucket.failed for bucket in buckets)

    def _bucket(self, now: float) -> _Bucket:
        return self._begin_bucket(now) if now - self._newest.begin >= self._width else self._newest

    def _begin_bucket(self, now: float) -> _Bucket:
        self.expire(now)
        if self._buckets is _NO_BUCKETS:
            self._buckets = []
        self._newest = _Bucket(now)
        self._buckets.append(self._newest)
        return self._newest


class _Bucket:
    __slots__ = ("begin", "calls", "failed", "failures", "slow")

    def __init__(self, begin: float) -> None:
        self.begin = begin
        self.calls = 0
        self.failed = 0
        self.failures = 0.0
        self.slow = 0

    def copy(self) -> _Bucket:
        """Return a bucket with the same results."""
        copy = _Bucket(self.begin)
        copy.calls, copy.failed, copy.failures, copy.slow = self.calls, self.failed, self.failures, self.slow
        return copy


_NO_BUCKET = _Bucket(-math.inf)
"""Newest bucket of every window without results. Too old to be added to."""
_NO_BUCKETS: list[_Bucket] = []
"""Buckets of every window that never had one. Nothing is appended."""
