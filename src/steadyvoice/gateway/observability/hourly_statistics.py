"""Hourly statistics in steps of 15 seconds: call outcomes, attempts per provider, circuit states.

Memory is bounded. Clients fetch the whole hour once, and then only new steps.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, takewhile
from typing import Any

from steadyvoice.breaker import CircuitState
from steadyvoice.gateway.observability.recent_calls import CallError, RecentCall, UsualCall
from steadyvoice.service.result import Attempt
from steadyvoice.speech.failure_kinds import FailureKind, meaning_of

STEP_SECONDS = 15.0
STEPS_KEPT = 240  # one hour
_MAX_SAMPLES = 500  # of the time to first audio, for percentiles
_SAMPLE_SECONDS = 300.0  # age at which a sample says nothing about the present
_MAX_RECOVERIES = 200
_SAME_RECOVERY = 5.0  # seconds within which all workers have recovered


class HourlyStatistics:
    """Statistics of one gateway's last hour. `wall_clock` is the time of day in seconds since 1970.

    A step's number is the time of day divided by 15 seconds.
    """

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._steps: dict[int, _Step] = {}
        self._transitions: dict[str, dict[int, tuple[CircuitState, CircuitState]]] = {}
        self._first_audio = _Samples()
        self._provider_first_audio: dict[str, _Samples] = {}
        self._outages: dict[str, Outage] = {}
        self._recoveries: deque[tuple[float, str, float]] = deque(maxlen=_MAX_RECOVERIES)

    def add_call(self, call: RecentCall) -> None:
        """Add a finished call."""
        step, now = self._current_step(), self._wall_clock()
        step.outcomes[call.outcome] += 1
        if call.first_audio is not None:
            self._first_audio.add(now, call.first_audio)
        for attempt, error in call.attempts:
            step.of(attempt.provider)[_result(attempt, error)] += 1
            if attempt.first_audio is not None:
                self._provider_first_audio.setdefault(attempt.provider, _Samples()).add(now, attempt.first_audio)
        step.speakers[call.provider or "none"] += 1

    def add_usual_calls(self, calls: Iterable[UsualCall]) -> None:
        """Add calls that were spoken by one provider; the ones before it were refused."""
        step, now = self._current_step(), self._wall_clock()
        outcomes, speakers, first_audio = step.outcomes, step.speakers, self._first_audio.values
        for call in calls:
            outcomes[call.outcome] += 1
            speakers[call.provider] += 1
            first_audio.append((now, call.first_audio))
            provider, seconds = call.provider, call.speech.first_audio
            for refusal in call.speech.refusals:
                step.of(refusal.provider)[_REFUSED] += 1
            results = step.providers.get(provider) or step.of(provider)
            results[_SUCCEEDED] += 1
            if seconds is not None:
                samples = self._provider_first_audio.get(provider)
                if samples is None:
                    samples = self._provider_first_audio[provider] = _Samples()
                samples.values.append((now, seconds))

    def add_transition(self, name: str, before: CircuitState, after: CircuitState, reason: str = "") -> None:
        """Add a circuit's change of state. Of several within one step, the step shows the most severe state."""
        if after not in _DOWN:
            self._outages.pop(name, None)
        elif before not in _DOWN:
            self._outages[name] = Outage(self._wall_clock(), reason)
        transitions, number = self._transitions.setdefault(name, {}), self._number()
        worst, _ = transitions.get(number, (before, before))
        transitions[number] = (max(worst, after, key=_BY_SEVERITY.index), after)
        _trim(transitions, number)

    def add_recovery(self, name: str, seconds: float) -> None:
        """Add a circuit's recovery by itself, so many seconds after it had opened."""
        self._recoveries.append((self._wall_clock(), name, seconds))

    def outage(self, name: str) -> Outage | None:
        """Return the circuit's outage, from its first opening: failed probes do not begin another one."""
        return self._outages.get(name)

    def outcomes(self, since: int = 0) -> list[list[Any]]:
        """Return number and count of each outcome, for each step with calls from `since` on."""
        return [[number, step.outcomes] for number, step in self._steps.items() if number >= since]

    def attempts(self, name: str, since: int = 0) -> list[list[int]]:
        """Return number of the step, and attempts that succeeded, failed, counted as neither, or were refused."""
        # Clients ask for the newest steps each second, so the search begins at the end.
        newest_first = takewhile(lambda each: each[0] >= since, reversed(self._steps.items()))
        found = [[number, *step.providers[name]] for number, step in newest_first if name in step.providers]
        return found[::-1]

    def states(self, name: str, since: int = 0) -> list[list[Any]]:
        """Return number, most severe state and last state, for each step in which the circuit changed."""
        oldest = max(since, self._number() - STEPS_KEPT + 1)
        transitions = self._transitions.get(name, {})
        return [[n, worst.value, last.value] for n, (worst, last) in transitions.items() if n >= oldest]

    def current(self) -> dict[str, Any]:
        """Return calls, outcomes, providers and latency of the current step and the one before."""
        steps, seconds = self._last_two()
        outcomes, speakers = Counter[str](), Counter[str]()
        for step in steps:
            outcomes.update(step.outcomes)
            speakers.update(step.speakers)
        calls = outcomes.total()
        first_audio = self._first_audio.percentiles(self._wall_clock())
        return {
            "seconds": seconds, "calls": calls, "rate": calls / seconds,
            "outcomes": outcomes, "providers": speakers, "first_audio": first_audio,
        }  # fmt: skip

    def provider_rates(self, name: str) -> dict[str, Any]:
        """Return a provider's requests per second, and percentiles of its time to first audio."""
        steps, seconds = self._last_two()
        requests = sum(sum(step.providers[name][:_REFUSED]) for step in steps if name in step.providers)
        samples = self._provider_first_audio.get(name)
        return {
            "rate": requests / seconds,
            "first_audio": samples.percentiles(self._wall_clock()) if samples else None,
        }

    @property
    def recoveries(self) -> list[tuple[float, str, float]]:
        """Recoveries, oldest first: time in seconds since 1970, provider, and duration of the outage in seconds."""
        return list(self._recoveries)

    def export(self, since: int = 0) -> dict[str, Any]:
        """Return the statistics from step `since` on, and of the last two steps, as plain values for another worker."""
        first = min(since, self._number() - 1)
        return {
            "steps": [
                (number, step.outcomes, step.speakers, step.providers)
                for number, step in self._steps.items()
                if number >= first
            ],
            "transitions": {
                name: [(number, *states) for number, states in changes.items()]
                for name, changes in self._transitions.items()
            },
            "first_audio": list(self._first_audio.values),
            "provider_first_audio": {name: list(each.values) for name, each in self._provider_first_audio.items()},
            "outages": {name: (outage.since, outage.reason) for name, outage in self._outages.items()},
            "recoveries": list(self._recoveries),
        }

    @classmethod
    def merged(
        cls, exports: Sequence[dict[str, Any]], wall_clock: Callable[[], float], steps: Iterable[Sequence[Any]] = ()
    ) -> HourlyStatistics:
        """Return the statistics of several workers as one, with the steps of workers that ended."""
        merged = cls(wall_clock)
        for number, outcomes, speakers, providers in chain(steps, *(export["steps"] for export in exports)):
            merged._add_step(number, outcomes, speakers, providers)
        for export in exports:
            for name, changes in export["transitions"].items():
                merged._add_transitions(name, changes)
            merged._first_audio.extend(export["first_audio"])
            for name, values in export["provider_first_audio"].items():
                merged._provider_first_audio.setdefault(name, _Samples()).extend(values)
            for name, (since, reason) in export["outages"].items():
                known = merged._outages.get(name)
                if known is None or since < known.since:
                    merged._outages[name] = Outage(since, reason)
        merged._steps = dict(sorted(merged._steps.items()))
        for at, name, seconds in sorted(each for export in exports for each in map(tuple, export["recoveries"])):
            # The circuits of all workers recover together.
            if not any(name == other and at - then < _SAME_RECOVERY for then, other, _ in merged._recoveries):
                merged._recoveries.append((at, name, seconds))
        return merged

    def _add_step(
        self, number: int, outcomes: dict[str, int], speakers: dict[str, int], providers: dict[str, list[int]]
    ) -> None:
        step = self._steps.setdefault(number, _Step())
        step.outcomes.update(outcomes)
        step.speakers.update(speakers)
        for name, results in providers.items():
            step.providers[name] = [a + b for a, b in zip(step.of(name), results, strict=True)]

    def _add_transitions(self, name: str, changes: Iterable[tuple[int, str, str]]) -> None:
        known = self._transitions.setdefault(name, {})
        for number, *states in changes:
            worst, last = (CircuitState(state) for state in states)
            former = known.get(number, (worst, last))
            known[number] = (
                max(former[0], worst, key=_BY_SEVERITY.index),
                max(former[1], last, key=_BY_SEVERITY.index),
            )

    def _number(self) -> int:
        return int(self._wall_clock() // STEP_SECONDS)

    def _current_step(self) -> _Step:
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
    """Outage of a circuit: its beginning in seconds since 1970, and the reason for which it opened."""

    since: float
    reason: str


@dataclass(slots=True)
class _Step:
    outcomes: Counter[str] = field(default_factory=Counter)
    speakers: Counter[str] = field(default_factory=Counter)
    providers: dict[str, list[int]] = field(default_factory=dict)

    def of(self, name: str) -> list[int]:
        return self.providers.setdefault(name, [0, 0, 0, 0])


_SUCCEEDED, _FAILED, _NEUTRAL, _REFUSED = range(4)


def _result(attempt: Attempt, error: CallError | None) -> int:
    """Return the column of an attempt; errors that do not count against the provider are neutral."""
    if attempt.refused:
        return _REFUSED
    if error is None:
        return _SUCCEEDED
    return _FAILED if meaning_of(FailureKind(error.kind)).circuit_weight else _NEUTRAL


_DOWN = frozenset({CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.FORCED_OPEN})
_BY_SEVERITY = (
    CircuitState.CLOSED, CircuitState.MONITORING, CircuitState.DISABLED,
    CircuitState.HALF_OPEN, CircuitState.OPEN, CircuitState.FORCED_OPEN,
)  # fmt: skip


def _trim(steps: dict[int, Any], number: int) -> None:
    """Remove steps older than an hour, and those of the future, which a clock leaves that was set back."""
    for old in [each for each in steps if not number - STEPS_KEPT < each <= number]:
        del steps[old]


class _Samples:
    """The last values with their times."""

    def __init__(self) -> None:
        self.values: deque[tuple[float, float]] = deque(maxlen=_MAX_SAMPLES)

    def add(self, now: float, value: float) -> None:
        self.values.append((now, value))

    def extend(self, values: Iterable[Sequence[float]]) -> None:
        """Add samples of another worker, whose times may lie between those that are here."""
        self.values = deque(sorted([*self.values, *((at, value) for at, value in values)]))

    def percentiles(self, now: float) -> dict[str, float] | None:
        while self.values and self.values[0][0] <= now - _SAMPLE_SECONDS:
            self.values.popleft()
        return percentiles(value for _, value in self.values)


def percentiles(values: Iterable[float]) -> dict[str, float] | None:
    """Return the 50th, 95th and 99th percentile; None for no values."""
    ranked = sorted(values)
    if not ranked:
        return None
    return {name: ranked[min(len(ranked) - 1, int(len(ranked) * share))] for name, share in _PERCENTILES.items()}


_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
