"""Evidence of a journal: what each provider did at which time, for attempts that were not made then.

The state of a vendor at some time is taken from the recorded attempt that is nearest in time: outages come in
stretches, so that it tells more than any average. How far away it is, is the measure of how little is known.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache

from steadyvoice.service.journal.records import AttemptLine, Run
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.failover import TryProvider
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import Blame, FailureKind, meaning_of

OK = "ok"

_ASSUMED_FIRST_AUDIO = 0.5  # seconds, of a provider that the journal has no attempt of
_ASSUMED_DURATION = 1.5

_TIMEOUTS = (FailureKind.READ_TIMEOUT.value, FailureKind.TOTAL_TIMEOUT.value, FailureKind.DEADLINE.value)


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """Outcome of an attempt once it is sent. Durations are in seconds from its permit."""

    kind: str
    first: float | None
    last: float | None
    settled: float
    duration: float
    is_proven: bool = False  # a probe that had succeeded by its progress when it failed
    first_audio: float | None = None
    retry_after: float | None = None
    starved: bool = False
    left: bool = False
    is_charged: bool = False  # stated or possible
    is_stated: bool = False
    price: float = 0.0  # characters charged for each character of the text
    wasted: float = 0.0  # likewise
    spoken: float = 0.0  # share of its text that was delivered before it failed
    gap: float = 0.0  # seconds between the recorded attempt that it is taken from, and its own time
    is_assumed: bool = False  # no attempt of the provider is known
    is_censored: bool = False  # it was given up before it answered, earlier than it would be now

    @property
    def error(self) -> TTSError | None:
        """Error that ends it."""
        if self.kind == OK:
            return None
        error = _error_class(FailureKind(self.kind))("replayed", retry_after=self.retry_after)
        error.starved = self.starved
        return error

    def within(self, step: TryProvider, timeouts: TimeoutConfig) -> AttemptOutcome:
        """Return what becomes of it under these timeouts: cut off, or, if it was cut off earlier, given up later."""
        limit = timeouts.first_audio_while(others=step.others)
        if step.first_audio is not None:
            limit = min(limit, step.first_audio)
        kind = FailureKind.READ_TIMEOUT if limit <= step.time_limit else FailureKind.TOTAL_TIMEOUT
        limit = min(limit, step.time_limit)
        waits = self.duration if self.first is None else self.first
        hangs = self.first is None and self.kind in _TIMEOUTS
        if not hangs and waits <= limit + _TOLERANCE:
            return self
        longer = hangs and limit > self.duration + _TOLERANCE
        return replace(
            self, kind=kind.value, first=None, last=None, settled=limit, duration=limit, is_proven=False, left=False,
            spoken=0.0,
            is_censored=self.is_censored or longer,
        )  # fmt: skip


_TOLERANCE = 0.05  # seconds by which timers are late


@cache
def _error_class(kind: FailureKind) -> type[TTSError]:
    return type("ReplayedError", (TTSError,), {"kind": kind})


def outcome_of(line: AttemptLine, follower: AttemptLine | None = None) -> AttemptOutcome:
    """Return the outcome of a recorded attempt; `follower` is the next one of its utterance."""
    began = line.began or 0.0
    ended = began if line.ended is None else line.ended
    length = max(1, line.end - line.begin)
    spoken = 0.0
    if line.outcome != OK and follower is not None and follower.begin > line.begin:
        spoken = min(1.0, (follower.begin - line.begin) / length)
    return AttemptOutcome(
        kind=line.outcome,
        first=None if line.first is None else line.first - began,
        last=None if line.last is None else line.last - began,
        settled=(ended if line.settled is None else line.settled) - began,
        duration=ended - began,
        is_proven=_is_proven(line, ended),
        first_audio=line.first_audio,
        retry_after=line.retry_after,
        starved=line.starved,
        left=line.left,
        is_charged=line.charge in ("billed", "sent and unknown"),
        is_stated=line.charge == "billed",
        price=line.characters / length,
        wasted=line.wasted / length,
        spoken=spoken,
    )


ASSUMED = AttemptOutcome(
    OK, _ASSUMED_FIRST_AUDIO, _ASSUMED_DURATION, _ASSUMED_DURATION, _ASSUMED_DURATION,
    first_audio=_ASSUMED_FIRST_AUDIO, is_charged=True, price=1.0, is_assumed=True,
)  # fmt: skip
"""Outcome at a provider that no attempt is known of."""


def _is_proven(line: AttemptLine, ended: float) -> bool:
    """Return whether a probe was settled by its progress, and failed some time later."""
    failed = line.outcome != OK and line.probe and line.first is not None
    return failed and line.settled is not None and ended - line.settled > _NOTICED


_NOTICED = 0.02
"""Seconds after a call's result within which its end is noted."""


def tells_about_provider(line: AttemptLine) -> bool:
    """Return whether an attempt shows the state of its provider: it was sent, and ended by the provider's doing."""
    if line.began is None or line.refused or line.starved or line.outcome in ("hedged", "cancelled"):
        return False
    if line.left and line.outcome != FailureKind.ABANDONED_IN_SILENCE.value:
        return False
    if line.outcome == OK:
        return True
    try:
        return meaning_of(FailureKind(line.outcome)).blame is not Blame.CALLER
    except ValueError:  # a kind of a newer version
        return False


@dataclass(slots=True)
class Evidence:
    """Recorded attempts by provider, in the order of their beginning, by the time of day: of all processes."""

    _times: dict[str, list[float]] = field(default_factory=dict)
    _outcomes: dict[str, list[AttemptOutcome]] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Iterable[Run]) -> Evidence:
        """Return the evidence of all runs of a journal."""
        found: dict[str, list[tuple[float, AttemptOutcome]]] = {}
        for run in runs:
            offset = run.wall_offset
            for utterance in run.utterances:
                lines = sorted((each for each in utterance.attempts if each.began is not None), key=_began)
                for line, follower in zip(lines, [*lines[1:], None], strict=False):
                    if tells_about_provider(line):
                        known = found.setdefault(line.provider, [])
                        known.append((_began(line) + offset, outcome_of(line, follower)))
        evidence = cls()
        for name, pairs in found.items():
            pairs.sort(key=lambda pair: pair[0])
            evidence._times[name] = [at for at, _ in pairs]
            evidence._outcomes[name] = [outcome for _, outcome in pairs]
        return evidence

    def at(self, provider: str, now: float) -> AttemptOutcome:
        """Return the outcome of the attempt nearest to a time of day; the assumed one if there is none."""
        times = self._times.get(provider)
        if not times:
            return ASSUMED
        after = bisect_left(times, now)
        nearest = min(
            (index for index in (after - 1, after) if 0 <= index < len(times)),
            key=lambda index: abs(times[index] - now),
        )
        return replace(self._outcomes[provider][nearest], gap=abs(times[nearest] - now))


def _began(line: AttemptLine) -> float:
    return line.began or 0.0
