"""Whether a second provider is asked while the first is still silent: when, whom, and what it may cost.

Values in, values out: it reads no clock, asks nobody and sends nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from steadyvoice.service.plan import Standing, Try, next_step
from steadyvoice.speech.errors import TTSConfigurationError


@dataclass(frozen=True, slots=True)
class HedgeConfig:
    """When the next provider is asked as well, and what that may cost. Who speaks first is heard, the other hung up on.

    That is when the first has been silent for longer than `percentile` of its own answers to such texts, of which
    `minimum_samples` must be known. Over the last `window_seconds`, what is asked for twice is at most a `budget` of
    what was asked for at all, in characters. Raises TTSConfigurationError.
    """

    percentile: float = 0.95
    budget: float = 0.05
    minimum_samples: int = 20
    window_seconds: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("percentile", "budget", "window_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TTSConfigurationError(f"{name}: must be a number, got {value!r}")
        least, samples = 1, self.minimum_samples
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < least:
            raise TTSConfigurationError(f"minimum_samples: must be a whole number from {least}, got {samples!r}")
        if not 0 < self.percentile < 1:
            raise TTSConfigurationError(f"percentile: must be between 0 and 1, got {self.percentile}")
        if not 0 < self.budget <= 1:
            raise TTSConfigurationError(f"budget: must be a share, more than 0 and at most 1, got {self.budget}")
        if not (math.isfinite(self.window_seconds) and self.window_seconds > 0):
            raise TTSConfigurationError(f"window_seconds: must be more than 0 seconds, got {self.window_seconds}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """How a provider stands that might be asked as well."""

    standing: Standing
    closed: bool  # its circuit: whoever is suspected or on probation is not asked for fun
    free: bool  # a place at its gate: nobody else waits for a hedge
    account: Hashable  # whose it is on


def second(candidates: Sequence[Candidate], asked: int, *, now: float, left: float, max_attempts: int) -> Try | None:
    """Choose whom to ask for the words that `asked` is late with, for so long as `left` allows (seconds). None: nobody.

    The next in order of preference that would answer at once, and has not been asked for these words before. Never
    the same account, which would be charged twice. No local voice: it is never late, so it would be heard each time.
    """
    account = candidates[asked].account
    chosen = next((i for i, each in enumerate(candidates) if _willing(each) and each.account != account), None)
    if chosen is None or left <= 0:
        return None
    rest = [each.standing for i, each in enumerate(candidates) if i not in (asked, chosen)]
    step = next_step([candidates[chosen].standing, *rest], now=now, left=left, max_attempts=max_attempts)
    return replace(step, index=chosen) if isinstance(step, Try) else None


def _willing(candidate: Candidate) -> bool:
    standing = candidate.standing
    untouched = not (standing.refused or standing.tries or standing.billed)
    return untouched and candidate.closed and candidate.free and standing.probe is None and not standing.local


RUN = 3
"""So many hedged in a row are no exception any more."""


class Suspicion:
    """Whether a provider that is late is the exception, or out of order.

    A call that is hung up on tells its circuit nothing. When several in a row were, and none was heard in between,
    every second one is therefore left to wait: that is what the circuit opens by.
    """

    def __init__(self) -> None:
        self._run = self._due = 0

    def heard(self) -> None:
        """It speaks."""
        self._run = self._due = 0

    def overtaken(self) -> None:
        """It was late, and hung up on because another was heard."""
        self._run += 1

    def spares(self) -> bool:
        """Whether the caller is spared the wait, now that it is late again."""
        if self._run < RUN:
            return True
        self._due += 1
        return self._due % 2 == 0


_GRAINS = 60  # in which the window is counted


class Budget:
    """Characters of the last while: that were asked for, and that were asked for twice. Their share is never exceeded.

    The window moves by the grain. What was asked for is forgotten a grain too early, what was asked for twice a grain
    too late, so that the share holds in the window as it is, and in all of history.
    """

    def __init__(self, share: float, seconds: float) -> None:
        self._share, self._grain = share, seconds / _GRAINS
        self._counts: deque[list[float]] = deque()  # of each grain: its number, asked for, asked for twice

    def asked(self, characters: int, now: float) -> None:
        """So many were asked for."""
        self._latest(now)[1] += characters

    def spend(self, characters: int, now: float) -> bool:
        """Ask for so many once more, if that is still within the budget."""
        asked, twice = self.counted(now)
        if twice + characters > self._share * asked:
            return False
        self._latest(now)[2] += characters
        return True

    def counted(self, now: float) -> tuple[float, float]:
        """How many were asked for lately, and how many twice."""
        self._latest(now)
        oldest = now // self._grain - _GRAINS
        asked = sum(asked for grain, asked, _ in self._counts if grain > oldest)
        return asked, sum(twice for _, _, twice in self._counts)

    def _latest(self, now: float) -> list[float]:
        grain = now // self._grain
        if not self._counts or self._counts[-1][0] < grain:
            self._counts.append([grain, 0, 0])
        while self._counts[0][0] < grain - _GRAINS:
            self._counts.popleft()
        return self._counts[-1]
