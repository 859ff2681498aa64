"""Hourly statistics in steps of 15 seconds: call outcomes, attempts per provider, circuit states.

Memory is bounded. Clients fetch the whole hour once, and then only new steps.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from steadyvoice.breaker import CircuitState
from steadyvoice.gateway.observability.recent_calls import CallError, RecentCall
from steadyvoice.service.result import Attempt
from steadyvoice.speech.failure_kinds import FailureKind, meaning_of

STEP_SECONDS = 15.0
STEPS_KEPT = 240  # steps: an hour
_MAX_SAMPLES = 500  # of first audio, from which percentiles are taken
_SAMPLE_SECONDS = 300.0  # seconds after which a sample says nothing about now
_MAX_RECOVERIES = 200


class HourlyStatistics:
    """One gateway's. `wall_clock` is the time of day, in seconds since 1970."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._steps: dict[int, _Step] = {}
        self._moves: dict[str, dict[int, tuple[CircuitState, CircuitState]]] = {}
        self._heard = _Samples()
        self._soon: dict[str, _Samples] = {}
        self._outages: dict[str, Outage] = {}
        self._recoveries: deque[tuple[float, str, float]] = deque(maxlen=_MAX_RECOVERIES)

    def call(self, call: RecentCall) -> None:
        """A call is over."""
        step, now = self._step(), self._wall_clock()
        step.outcomes[call.outcome] += 1
        if call.first_audio is not None:
            self._heard.add(now, call.first_audio)
        for attempt, error in call.attempts:
            step.of(attempt.provider)[_result(attempt, error)] += 1
            if attempt.first_audio is not None:
                self._soon.setdefault(attempt.provider, _Samples()).add(now, attempt.first_audio)
        step.speakers[call.provider or "none"] += 1

    def moved(self, name: str, before: CircuitState, after: CircuitState, reason: str = "") -> None:
        """A circuit changed its state. Of several moves within a step, the worst state is what the step shows."""
        if after not in _DOWN:
            self._outages.pop(name, None)
        elif before not in _DOWN:
            self._outages[name] = Outage(self._wall_clock(), reason)
        moves, number = self._moves.setdefault(name, {}), self._number()
        worst, _ = moves.get(number, (before, before))
        moves[number] = (max(worst, after, key=_BY_SEVERITY.index), after)
        _trim(moves, number)

    def recovered(self, name: str, seconds: float) -> None:
        """A circuit has closed by itself, so long after it opened."""
        self._recoveries.append((self._wall_clock(), name, seconds))

    def outage(self, name: str) -> Outage | None:
        """The one that it is in: probes that failed since have not begun another."""
        return self._outages.get(name)

    def heard(self, since: int = 0) -> list[list[Any]]:
        """What callers heard: the number of each step in which there were calls, and how many ended how."""
        return [[number, step.outcomes] for number, step in self._steps.items() if number >= since]

    def done(self, name: str, since: int = 0) -> list[list[int]]:
        """How a provider did: number of the step; attempts that spoke, failed, did neither, were refused."""
        newest_first = takewhile(lambda each: each[0] >= since, reversed(self._steps.items()))
        told = [[number, *step.providers[name]] for number, step in newest_first if name in step.providers]
        return told[::-1]

    def states(self, name: str, since: int = 0) -> list[list[Any]]:
        """Where a circuit moved: number of the step, the worst state in it, the state after it."""
        oldest = max(since, self._number() - STEPS_KEPT + 1)
        return [[n, worst.value, last.value] for n, (worst, last) in self._moves.get(name, {}).items() if n >= oldest]

    def lately(self) -> dict[str, Any]:
        """What callers hear now: within this step and the one before."""
        steps, seconds = self._last_two()
        outcomes, speakers = Counter[str](), Counter[str]()
        for step in steps:
            outcomes.update(step.outcomes)
            speakers.update(step.speakers)
        calls = outcomes.total()
        soon = self._heard.percentiles(self._wall_clock())
        return {
            "seconds": seconds, "calls": calls, "rate": calls / seconds,
            "outcomes": outcomes, "speakers": speakers, "first_audio": soon,
        }  # fmt: skip

    def pace(self, name: str) -> dict[str, Any]:
        """How often a provider is asked, in requests a second, and how soon it is heard."""
        steps, seconds = self._last_two()
        asked = sum(sum(step.providers[name][:_REFUSED]) for step in steps if name in step.providers)
        samples = self._soon.get(name)
        return {"rate": asked / seconds, "first_audio": samples.percentiles(self._wall_clock()) if samples else None}

    @property
    def recoveries(self) -> list[tuple[float, str, float]]:
        """When (seconds since 1970), who, and how many seconds it had taken; the oldest first."""
        return list(self._recoveries)

    def _number(self) -> int:
        return int(self._wall_clock() // STEP_SECONDS)

    def _step(self) -> _Step:
        number = self._number()
        if number not in self._steps:
            self._steps[number] = _Step()
            _trim(self._steps, number)
        return self._steps[number]

    def _last_two(self) -> tuple[list[_Step], float]:
        number = self._number()
        found = [step for each in (number - 1, number) if (step := self._steps.get(each))]
        return found, STEP_SECONDS + self._wall_clock() % STEP_SECONDS


@dataclass(frozen=True, slots=True)
class Outage:
    """Since when a circuit lets nobody through but probes (seconds since 1970), and why it opened then."""

    since: float
    because: str


@dataclass(slots=True)
class _Step:
    outcomes: Counter[str] = field(default_factory=Counter)
    speakers: Counter[str] = field(default_factory=Counter)
    providers: dict[str, list[int]] = field(default_factory=dict)

    def of(self, name: str) -> list[int]:
        return self.providers.setdefault(name, [0, 0, 0, 0])


_SPOKE, _FAILED, _NEITHER, _REFUSED = range(4)


def _result(attempt: Attempt, error: CallError | None) -> int:
    """What an attempt was for its provider: an error that is not its fault is neither good nor bad."""
    if attempt.refused:
        return _REFUSED
    if error is None:
        return _SPOKE
    return _FAILED if meaning_of(FailureKind(error.kind)).counts else _NEITHER


_DOWN = frozenset({CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.FORCED_OPEN})
_BY_SEVERITY = (
    CircuitState.CLOSED, CircuitState.MONITORING, CircuitState.DISABLED,
    CircuitState.HALF_OPEN, CircuitState.OPEN, CircuitState.FORCED_OPEN,
)  # fmt: skip


def _trim(steps: dict[int, Any], number: int) -> None:
    """Let go of what is older than an hour; and of what lies ahead, for a clock that was set back."""
    for old in [each for each in steps if not number - STEPS_KEPT < each <= number]:
        del steps[old]


class _Samples:
    """The last values, with their times."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, float]] = deque(maxlen=_MAX_SAMPLES)

    def add(self, now: float, value: float) -> None:
        self._values.append((now, value))

    def percentiles(self, now: float) -> dict[str, float] | None:
        while self._values and self._values[0][0] <= now - _SAMPLE_SECONDS:
            self._values.popleft()
        return percentiles(value for _, value in self._values)


def percentiles(values: Iterable[float]) -> dict[str, float] | None:
    """The median and the two that people watch; None of nothing."""
    ranked = sorted(values)
    if not ranked:
        return None
    return {name: ranked[min(len(ranked) - 1, int(len(ranked) * share))] for name, share in _PERCENTILES.items()}


_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
