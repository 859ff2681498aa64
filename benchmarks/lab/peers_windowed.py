"""Default policies of circuit breakers with a failure rate, as small models of their releases.

The same simplifications as in `peers_counting`. None of them reaches its slow-call rule here: those begin at 60 s.
"""

from __future__ import annotations

from collections import deque
from math import inf

from lab.scoring import Settle


class Resilience4j:
    """resilience4j 2: half of the last 100 calls; 60 s; ten probes, all at once, judged together."""

    minimum = 100
    at_once = 10

    def __init__(self) -> None:
        self.openings = 0
        self._open_until = -inf
        self._move("closed")

    def admit(self, now: float) -> Settle | None:
        if self._state == "open":
            if now < self._open_until:
                return None
            self._move("half open")
        if self._state == "half open":
            if self._admitted >= 10 or self._admitted - len(self._results) >= self.at_once:
                return None
            self._admitted += 1
        era = self._era
        return lambda now, works: self._record(now, works) if era == self._era else None

    def _record(self, now: float, works: bool) -> None:
        self._results.append(works)
        self._failures += not works
        if len(self._results) > 100:
            self._failures -= not self._results.popleft()
        if len(self._results) < (10 if self._state == "half open" else self.minimum):
            return
        if self._failures >= len(self._results) / 2:
            self.openings += self._state == "closed"
            self._open_until = now + 60
            self._move("open")
        elif self._state == "half open":
            self._move("closed")

    def _move(self, state: str) -> None:
        self._state = state
        self._results: deque[bool] = deque()
        self._failures = self._admitted = 0
        self._era = getattr(self, "_era", 0) + 1


class InterlockModel(Resilience4j):
    """interlock-cb 2.8.2: the same from ten calls on, and one probe at a time."""

    minimum = 10
    at_once = 1


class Polly:
    """Polly 8: a tenth of at least 100 calls in 30 s; 5 s; one probe; counts late results in every state."""

    def __init__(self) -> None:
        self.openings = 0
        self._blocked_until = -inf
        self._state = "closed"
        self._window = Rolling(30)

    def admit(self, now: float) -> Settle | None:
        if self._state != "closed":
            if self._state == "half open" or now < self._blocked_until:
                return None
            self._state = "half open"
        return self._record

    def _record(self, now: float, works: bool) -> None:
        if works or self._state != "half open":
            self._window.add(now, works)
        if works:
            if self._state == "half open":
                self._state, self._window = "closed", Rolling(30)
            return
        total, failures = self._window.totals(now)
        too_many = total >= 100 and failures >= total / 10
        if self._state == "half open" or (self._state == "closed" and too_many):
            self.openings += self._state == "closed"
            self._state, self._blocked_until = "open", now + 5


class Opossum:
    """opossum 9: more than half of the calls of the last 10 s, from the first call on; 30 s; one probe."""

    def __init__(self) -> None:
        self.openings = 0
        self._open_until = -inf
        self._state = "closed"
        self._window = Rolling(10)

    def admit(self, now: float) -> Settle | None:
        # Every call counts when it fires, refused ones included: they dilute the rate of failures.
        self._window.add(now, True)
        if self._state == "probing" or (self._state == "open" and now < self._open_until):
            return None
        if self._state == "open":
            self._state = "probing"
        return self._record

    def _record(self, now: float, works: bool) -> None:
        if works:
            if self._is_half_open(now):
                self._state = "closed"
            return
        self._window.failed(now)
        fires, failures = self._window.totals(now)
        if self._is_half_open(now) or (self._state == "closed" and failures > fires / 2):
            self.openings += self._state == "closed"
            self._state, self._open_until = "open", now + 30

    def _is_half_open(self, now: float) -> bool:
        """A timer makes it half-open, with or without a call."""
        return self._state == "probing" or (self._state == "open" and now >= self._open_until)


class Rolling:
    """Calls and failures of the last so many seconds, in ten buckets."""

    def __init__(self, seconds: float) -> None:
        self._width = seconds / 10
        self._buckets: deque[list[float]] = deque(maxlen=10)

    def add(self, now: float, works: bool) -> None:
        bucket = self._bucket(now)
        bucket[1] += 1
        bucket[2] += not works

    def failed(self, now: float) -> None:
        self._bucket(now)[2] += 1

    def totals(self, now: float) -> tuple[float, float]:
        while self._buckets and self._buckets[0][0] <= now - 10 * self._width:
            self._buckets.popleft()
        return sum(bucket[1] for bucket in self._buckets), sum(bucket[2] for bucket in self._buckets)

    def _bucket(self, now: float) -> list[float]:
        if not self._buckets or now >= self._buckets[-1][0] + self._width:
            self._buckets.append([now, 0, 0])
        return self._buckets[-1]
