"""Hedging: settings, budget, choice of the second provider, and statistics of one service."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from steadyvoice.service.pipeline.failover import CandidateStatus, TryProvider, next_step
from steadyvoice.service.pipeline.provider_call import ProviderCall
from steadyvoice.service.resilience.latency import LatencyPercentiles, latency_class
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
class HedgeCandidate:
    """How a provider stands that might be asked as well."""

    status: CandidateStatus
    closed: bool  # its circuit: whoever is suspected or on probation is not asked for fun
    free: bool  # a place at its gate: nobody else waits for a hedge
    account: Hashable  # whose it is on


def choose_hedge(
    candidates: Sequence[HedgeCandidate], asked: int, *, now: float, left: float, max_attempts: int
) -> TryProvider | None:
    """Choose whom to ask for the words that `asked` is late with, for so long as `left` allows (seconds). None: nobody.

    The next in order of preference that would answer at once, and has not been asked for these words before. Never
    the same account, which would be charged twice. No local voice: it is never late, so it would be heard each time.
    """
    account = candidates[asked].account
    chosen = next((i for i, each in enumerate(candidates) if _is_available(each) and each.account != account), None)
    if chosen is None or left <= 0:
        return None
    rest = [each.status for i, each in enumerate(candidates) if i not in (asked, chosen)]
    step = next_step([candidates[chosen].status, *rest], now=now, left=left, max_attempts=max_attempts)
    return replace(step, index=chosen) if isinstance(step, TryProvider) else None


def _is_available(candidate: HedgeCandidate) -> bool:
    standing = candidate.status
    untouched = not (standing.refused or standing.tries or standing.billed)
    return untouched and candidate.closed and candidate.free and standing.probe is None and not standing.local


MAX_STREAK = 3
"""So many hedged in a row are no exception any more."""


class HedgeStreak:
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
        if self._run < MAX_STREAK:
            return True
        self._due += 1
        return self._due % 2 == 0


_BUCKETS = 60  # in which the window is counted


class HedgeBudget:
    """Characters of the last while: that were asked for, and that were asked for twice. Their share is never exceeded.

    The window moves by the grain. What was asked for is forgotten a grain too early, what was asked for twice a grain
    too late, so that the share holds in the window as it is, and in all of history.
    """

    def __init__(self, share: float, seconds: float) -> None:
        self._share, self._grain = share, seconds / _BUCKETS
        self._counts: deque[list[float]] = deque()  # of each grain: its number, asked for, asked for twice

    def asked(self, characters: int, now: float) -> None:
        """So many were asked for."""
        self._latest(now)[1] += characters

    def spend(self, characters: int, now: float) -> bool:
        """Ask for so many once more, if that is still within the budget."""
        asked, twice = self.totals(now)
        if twice + characters > self._share * asked:
            return False
        self._latest(now)[2] += characters
        return True

    def totals(self, now: float) -> tuple[float, float]:
        """How many were asked for lately, and how many twice."""
        self._latest(now)
        oldest = now // self._grain - _BUCKETS
        asked = sum(asked for grain, asked, _ in self._counts if grain > oldest)
        return asked, sum(twice for _, _, twice in self._counts)

    def _latest(self, now: float) -> list[float]:
        grain = now // self._grain
        if not self._counts or self._counts[-1][0] < grain:
            self._counts.append([grain, 0, 0])
        while self._counts[0][0] < grain - _BUCKETS:
            self._counts.popleft()
        return self._counts[-1]


class Hedging:
    """One service's. `clock` gives seconds that never go back."""

    def __init__(self, config: HedgeConfig, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._budget = HedgeBudget(config.budget, config.window_seconds)
        self._lateness = LatencyPercentiles(config.percentile, config.minimum_samples)
        self._suspicions: defaultdict[str, HedgeStreak] = defaultdict(HedgeStreak)  # by provider
        counts = ("started", "won", "lost", "refused_for_budget", "nobody_free", "left_to_the_circuit")
        self._counts = dict.fromkeys(counts, 0)
        self.leaving: set[asyncio.Task[None]] = set()
        """Those who are being hung up on. A provider that takes long for that keeps no listener waiting."""

    def patience(self, call: ProviderCall) -> float | None:
        """Seconds that this call may be silent before another provider is asked as well. None: not known yet."""
        return self._lateness.limit(_latency_class_of(call))

    def asked(self, characters: int) -> None:
        """So many are asked for, for the first time."""
        self._budget.asked(characters, self._clock())

    def spares(self, call: ProviderCall) -> bool:
        """Whether this call, which is late, may be overtaken: its provider is not plainly out of order."""
        spared = self._suspicions[call.provider.name].spares()
        self._counts["left_to_the_circuit"] += not spared
        return spared

    def affords(self, call: ProviderCall) -> bool:
        """Whether a call may be made as a hedge. It is counted as made."""
        afforded = self._budget.spend(len(call.request.text), self._clock())
        self._counts["started" if afforded else "refused_for_budget"] += 1
        return afforded

    def nobody_free(self) -> None:
        """A hedge was due, and nobody could be asked."""
        self._counts["nobody_free"] += 1

    def over(self, *, won: bool) -> None:
        """A hedge was heard, or it was not: the first spoke after all, or it failed, or the listener left."""
        self._counts["won" if won else "lost"] += 1

    def learn(self, call: ProviderCall, *, overtaken: bool = False) -> None:
        """Remember when its first sound came, or that it did not as long as it was waited for."""
        if call.timing_unreliable:
            return
        if call.first_sound is not None:
            self._lateness.spoke(_latency_class_of(call), call.first_sound)
            self._suspicions[call.provider.name].heard()
        elif overtaken and self._lateness.withdrawn(_latency_class_of(call), call.waited):
            self._suspicions[call.provider.name].overtaken()

    def forget(self) -> None:
        """Wait for no call that is being withdrawn: its task did not come along into a forked child."""
        self.leaving = set()

    async def aclose(self) -> None:
        """Wait until everybody who was hung up on is gone."""
        if self.leaving:
            await asyncio.wait(self.leaving)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: hedges by how they went, and characters of the last while."""
        asked, twice = self._budget.totals(self._clock())
        return {**self._counts, "characters": asked, "hedged_characters": twice}


def _latency_class_of(call: ProviderCall) -> object:
    return latency_class(call.provider.name, call.request, call.offer)
