"""Default policies of circuit breakers that count consecutive failures, as small models of their releases.

Each model decides as the peer does, late results and crowded half-open states included; it leaves out listeners,
storage and exception filters. Versions are those read in November 2026.
"""

from __future__ import annotations

from math import ceil, inf

from lab.scoring import Settle


class PyBreakerModel:
    """pybreaker 1.4.1: 5 in a row, 60 s, one probe, one success. The lock it holds during a call is left out."""

    def __init__(self, limit: int = 5, rest: float = 60) -> None:
        self.openings = 0
        self._limit, self._rest = limit, rest
        self._failures = 0
        self._open_until = -inf
        self._state = "closed"
        self._era = 0

    def admit(self, now: float) -> Settle | None:
        # One probe at a time: further calls are refused while it is in flight.
        if self._state == "half open" or (self._state == "open" and now < self._open_until):
            return None
        if self._state == "open":
            self._move("half open")
        era = self._era
        return lambda now, works: self._record(now, works) if era == self._era else None

    def _record(self, now: float, works: bool) -> None:
        self._failures = 0 if works else self._failures + 1
        if works and self._state == "half open":
            self._move("closed")
        if not works and (self._state == "half open" or self._failures >= self._limit):
            self.openings += self._state == "closed"
            self._open_until = now + self._rest
            self._move("open")

    def _move(self, state: str) -> None:
        self._state = state
        self._failures = 0
        self._era += 1


class GoBreaker(PyBreakerModel):
    """gobreaker 2: more than 5 in a row, 60 s, one probe, one success; a generation guards against late results."""

    def __init__(self) -> None:
        super().__init__(limit=6, rest=60)


class AioBreakerModel:
    """aiobreaker 1.2.0: 5 in a row, 60 s; half-open admits every call; results count where the call began."""

    def __init__(self) -> None:
        self.openings = 0
        self._failures = 0
        self._open_until = -inf
        self._state = "closed"

    def admit(self, now: float) -> Settle | None:
        if self._state == "open":
            if now < self._open_until:
                return None
            self._state = "half open"
        # The state object that admitted a call receives its result, even after a transition.
        began = self._state
        return lambda now, works: self._record(began, now, works)

    def _record(self, began: str, now: float, works: bool) -> None:
        self._failures = 0 if works else self._failures + 1
        if works and began == "half open":
            self._state = "closed"
        if not works and (began == "half open" or self._failures >= 5):
            self.openings += self._state == "closed"
            self._state = "open"
            self._open_until = now + 60


class CircuitBreakerPackageModel:
    """circuitbreaker 2.1.3: 5 in a row, 30 s in whole seconds; any success closes, any further failure prolongs."""

    def __init__(self) -> None:
        self.openings = 0
        self._failures = 0
        self._opened: float | None = None

    def admit(self, now: float) -> Settle | None:
        if self._opened is not None and ceil(self._opened + 30 - now) > 0:
            return None
        return self._record

    def _record(self, now: float, works: bool) -> None:
        if works:
            self._failures, self._opened = 0, None
            return
        self._failures += 1
        if self._failures >= 5:
            self.openings += self._opened is None
            self._opened = now


class PurgatoryModel:
    """purgatory 3.0.1: 5 in a row, 30 s; half-open admits every call, and counts late results as probes."""

    needed = 1

    def __init__(self) -> None:
        self.openings = 0
        self._failures = self._successes = 0
        self._open_until = -inf
        self._state = "closed"

    def admit(self, now: float) -> Settle | None:
        if self._state == "open":
            if now < self._open_until:
                return None
            self._state = "half open"
            self._successes = 0
        return self._record

    def _record(self, now: float, works: bool) -> None:
        if self._state == "open":
            return
        self._failures = 0 if works else self._failures + 1
        self._successes += works
        if self._state == "half open" and works and self._successes >= self.needed:
            self._state = "closed"
        elif not works and (self._state == "half open" or self._failures >= 5):
            self.openings += self._state == "closed"
            self._state, self._failures = "open", 0
            self._open_until = now + 30


class HyxModel(PurgatoryModel):
    """hyx 0.0.2: the same with three successes."""

    needed = 3
