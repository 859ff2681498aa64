"""Hedging: settings, budget, choice of the second provider, and statistics of one service."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from steadyvoice._option_rules import COUNT, POSITIVE_SECONDS, POSITIVE_SHARE, PROBABILITY
from steadyvoice.providers.base import Provider, SynthesisOffer
from steadyvoice.service.resilience.failover import CandidateStatus, TryProvider, next_step
from steadyvoice.service.resilience.latency import LatencyPercentiles, latency_class
from steadyvoice.speech.option_validation import validate_option
from steadyvoice.speech.request import SpeechRequest


@dataclass(frozen=True, slots=True)
class HedgeConfig:
    """Settings of hedging: when a second provider is asked as well, and how much that may cost.

    The second request is made when the first provider has been silent for longer than `percentile` of its own answers
    to similar texts, of which `minimum_samples` must be known. The first audio wins, and the other request is
    cancelled. Over the last `window_seconds`, at most a share of `budget` of all requested characters is requested
    twice. Raises TTSConfigurationError.
    """

    percentile: float = 0.95  # share of a provider's answers that are in time
    budget: float = 0.05  # share of all characters that may be requested twice
    minimum_samples: int = 20  # answers before any is called late
    window_seconds: float = 3600.0  # seconds over which the budget is computed

    def __post_init__(self) -> None:
        validate_option("percentile", self.percentile, PROBABILITY)
        validate_option("budget", self.budget, POSITIVE_SHARE)
        validate_option("minimum_samples", self.minimum_samples, COUNT)
        validate_option("window_seconds", self.window_seconds, POSITIVE_SECONDS)


class HedgeableCall(Protocol):
    """Call of a provider, as far as hedging reads it. Durations are in seconds."""

    provider: Provider
    request: SpeechRequest
    offer: SynthesisOffer
    first_sound: float | None

    @property
    def waited(self) -> float:
        """Seconds that the provider has taken so far."""
        ...

    @property
    def timing_unreliable(self) -> bool:
        """True if this process lost so much time that the latency is not worth learning from."""
        ...


@dataclass(frozen=True, slots=True)
class HedgeCandidate:
    """Status of a provider that might be hedged to."""

    status: CandidateStatus
    closed: bool  # its circuit: a provider that is suspected or on probation is not used for hedges
    free: bool  # has a free concurrency slot: hedges do not queue
    account: Hashable  # that is billed


def choose_hedge(
    candidates: Sequence[HedgeCandidate], late: int, *, now: float, remaining: float, max_attempts: int
) -> TryProvider | None:
    """Return the step of a hedge to another provider than the one that is late (index `late`), or None.

    `remaining` is the remaining time in seconds. The hedge goes to the next provider in order of preference that would
    answer at once, and was not tried with this text. Never to the same account, which would be charged twice, and never
    to a local voice: it is never late, so it would win each time.
    """
    account = candidates[late].account
    chosen = next((i for i, each in enumerate(candidates) if _is_available(each) and each.account != account), None)
    if chosen is None or remaining <= 0:
        return None
    rest = [each.status for i, each in enumerate(candidates) if i not in (late, chosen)]
    step = next_step([candidates[chosen].status, *rest], now=now, remaining=remaining, max_attempts=max_attempts)
    return replace(step, index=chosen) if isinstance(step, TryProvider) else None


def _is_available(candidate: HedgeCandidate) -> bool:
    status = candidate.status
    untouched = not (status.refused or status.tries or status.billed)
    return untouched and candidate.closed and candidate.free and status.probe is None and not status.local


MAX_STREAK = 3
"""Number of hedged calls in a row from which on lateness is no exception any more."""


class HedgeStreak:
    """Streak of hedged calls of one provider, which tells an exception from an outage.

    A cancelled call tells its circuit nothing. When several calls in a row were cancelled, and none was heard in
    between, every second one is therefore not hedged: those are the calls that open the circuit.
    """

    def __init__(self) -> None:
        self._length = self._late_calls = 0

    def record_heard(self) -> None:
        """Record that the provider was heard."""
        self._length = self._late_calls = 0

    def record_cancelled(self) -> None:
        """Record a late call that was cancelled because another provider was heard."""
        self._length += 1

    def allows(self) -> bool:
        """Return whether the present late call may be hedged."""
        if self._length < MAX_STREAK:
            return True
        # Hedges that always win would keep a failed provider in use: its circuit opened after 19 s instead of 5 s in
        # the simulation of benchmarks/hedge.py.
        self._late_calls += 1
        return self._late_calls % 2 == 0


_BUCKETS = 60  # in which the window is counted


class HedgeBudget:
    """Budget of hedges: a share of the characters requested in a sliding window, which is never exceeded.

    The window moves by whole buckets. Requested characters are forgotten a bucket too early, hedged ones a bucket too
    late, so that the share holds in the window as it is, and in all of history.
    """

    def __init__(self, share: float, seconds: float) -> None:
        self._share, self._bucket_seconds = share, seconds / _BUCKETS
        # Of each bucket: its number, characters requested, characters hedged.
        self._counts: deque[list[float]] = deque()

    def record_requested(self, characters: int, now: float) -> None:
        """Record requested characters."""
        self._latest(now)[1] += characters

    def spend(self, characters: int, now: float) -> bool:
        """Record hedged characters if the budget allows them. Return whether it does."""
        requested, hedged = self.totals(now)
        # The share holds at each hedge for the window before it, and therefore for all of history (decision 19).
        if hedged + characters > self._share * requested:
            return False
        self._latest(now)[2] += characters
        return True

    def totals(self, now: float) -> tuple[float, float]:
        """Return the characters requested and the characters hedged in the window."""
        self._latest(now)
        oldest = now // self._bucket_seconds - _BUCKETS
        requested = sum(requested for bucket, requested, _ in self._counts if bucket > oldest)
        return requested, sum(hedged for _, _, hedged in self._counts)

    def _latest(self, now: float) -> list[float]:
        bucket = now // self._bucket_seconds
        if not self._counts or self._counts[-1][0] < bucket:
            self._counts.append([bucket, 0, 0])
        while self._counts[0][0] < bucket - _BUCKETS:
            self._counts.popleft()
        return self._counts[-1]


class Hedging:
    """Hedging of one service: latencies, budget, and counts of outcomes.

    `clock` returns monotonic seconds.
    """

    def __init__(self, config: HedgeConfig, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._budget = HedgeBudget(config.budget, config.window_seconds)
        self._latencies = LatencyPercentiles(config.percentile, config.minimum_samples)
        self._streaks: defaultdict[str, HedgeStreak] = defaultdict(HedgeStreak)  # by provider
        counts = ("started", "won", "lost", "budget_exhausted", "no_candidate", "deferred_to_circuit")
        self._counts = dict.fromkeys(counts, 0)
        self.closing: set[asyncio.Task[None]] = set()
        """Tasks that close cancelled attempts. A provider that takes long for that keeps no listener waiting."""

    def delay_for(self, call: HedgeableCall) -> float | None:
        """Return the seconds of silence after which this call is hedged; None while unknown."""
        return self._latencies.limit(_latency_class_of(call))

    def record_requested(self, characters: int) -> None:
        """Record characters that are requested for the first time."""
        self._budget.record_requested(characters, self._clock())

    def allows(self, call: HedgeableCall) -> bool:
        """Return whether this late call may be hedged: its provider is not plainly out of order."""
        allowed = self._streaks[call.provider.name].allows()
        self._counts["deferred_to_circuit"] += not allowed
        return allowed

    def reserve(self, call: HedgeableCall) -> bool:
        """Return whether the budget allows this call as a hedge, and count it as started or refused."""
        granted = self._budget.spend(len(call.request.text), self._clock())
        self._counts["started" if granted else "budget_exhausted"] += 1
        return granted

    def record_unavailable(self) -> None:
        """Count a hedge that was due when no provider was available."""
        self._counts["no_candidate"] += 1

    def record_outcome(self, *, won: bool) -> None:
        """Count a finished hedge: `won` when it was heard, lost when the first spoke, it failed, or the
        listener left.
        """
        self._counts["won" if won else "lost"] += 1

    def learn(self, call: HedgeableCall, *, cancelled: bool = False) -> None:
        """Record the latency of the first sound, or a lower bound of it if the call was cancelled."""
        if call.timing_unreliable:
            return
        if call.first_sound is not None:
            self._latencies.record(_latency_class_of(call), call.first_sound)
            self._streaks[call.provider.name].record_heard()
        elif cancelled and self._latencies.record_cancelled(_latency_class_of(call), call.waited):
            self._streaks[call.provider.name].record_cancelled()

    def forget(self) -> None:
        """Forget the closing tasks, none of which exists in a forked child."""
        self.closing = set()

    async def aclose(self) -> None:
        """Wait until all cancelled attempts are closed."""
        if self.closing:
            await asyncio.wait(self.closing)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready counts: hedges by outcome, and characters in the window."""
        requested, hedged = self._budget.totals(self._clock())
        return {**self._counts, "characters": requested, "hedged_characters": hedged}


def _latency_class_of(call: HedgeableCall) -> object:
    return latency_class(call.provider.name, call.request, call.offer)
