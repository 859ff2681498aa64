"""Calls in flight: their clocks, when they count as hanging, and the results of probes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.eras import InFlightCall
from steadyvoice.breaker.rules import pluralize, was_or_were
from steadyvoice.breaker.states import Cause

LEARNED_CALLS = 100
"""Calls that must have answered before their latency is known; at most twice as many are remembered."""


class InFlightCalls:
    """Calls of one era that have not ended: running, hanging, or paused. Requires the machine's external locking.

    Running calls are kept in the order of their last progress, so the next one to hang is always the first.
    """

    # Progress in time takes no lock: it is written on the call itself, and the order is restored only when the first
    # call is not where it belongs. Progress makes a call younger, so that is the only place where an outdated order
    # can matter. Sorting whenever a call hangs would take longer than the calls themselves, with thousands in flight.

    __slots__ = ("hung", "hung_in_streak", "paused", "running", "unwatched")

    def __init__(self) -> None:
        self.running = _NONE_RUNNING  # with the `last_progress_at` by which each has its place
        self.hung = _NO_CALLS
        self.hung_in_streak = _NO_CALLS  # those of `hung` without a success after they hung
        self.paused = _NO_CALLS
        self.unwatched: dict[InFlightCall, float] | None = None  # of quiet periods of a circuit in which no call hangs

    def __len__(self) -> int:
        return len(self.running) + len(self.hung) + len(self.paused)

    def begin(self) -> dict[InFlightCall, float]:
        """Return the dictionary of running calls, to add to."""
        if self.running is _NONE_RUNNING:
            self.running = {}
        return self.running

    def oldest(self) -> InFlightCall | None:
        """Return the running call whose last progress is the longest ago."""
        call = self._first()
        if call is None or (call.last_progress_at == self.running[call] and not call.paused):
            return call
        self._restore_order()
        return self._first()

    def _first(self) -> InFlightCall | None:
        while True:
            try:
                return next(iter(self.running), None)
            except RuntimeError:  # a call was admitted without the lock, between the two steps
                continue

    def remove(self, call: InFlightCall) -> None:
        """Forget a call that ended."""
        if call in self.running:
            del self.running[call]
        else:
            self.hung.pop(call, None)
            self.hung_in_streak.pop(call, None)
            self.paused.pop(call, None)
            if self.unwatched:
                self.unwatched.pop(call, None)

    def mark_hung(self, call: InFlightCall) -> None:
        """Count a running call as hanging."""
        if self.hung is _NO_CALLS:
            self.hung = {}
        if self.hung_in_streak is _NO_CALLS:
            self.hung_in_streak = {}
        del self.running[call]
        self.hung[call] = self.hung_in_streak[call] = None

    def mark_paused(self, call: InFlightCall) -> None:
        """Stop the clocks of a call that was removed."""
        if self.paused is _NO_CALLS:
            self.paused = {}
        self.paused[call] = None

    def reclassify(self, now: float, threshold: float | None) -> None:
        """Decide anew which calls hang, by another threshold in seconds; None: no call does."""
        excused = [call for call in self.hung if call not in self.hung_in_streak]
        self.paused = {call: None for call in self.paused if not call.settled}
        self.running = _in_order(call for call in (*self.hung, *self.running) if not call.settled)
        self.hung, self.hung_in_streak = {}, {}
        for call in [c for c in self.running if threshold is not None and c.last_progress_at + threshold <= now]:
            self.mark_hung(call)
        for call in excused:
            self.hung_in_streak.pop(call, None)

    def probe_deadlines(self, timeout: float, success_after: float) -> Iterator[tuple[float, InFlightCall]]:
        """Return when each probe is decided without further progress, earliest first.

        A probe that is paused before its first output has no deadline: it waits for its own caller.
        """
        deadlines = [(call.last_progress_at + timeout, call) for call in list(self.running)]
        deadlines += [
            (call.first_output_at + success_after, call) for call in self.paused if call.first_output_at is not None
        ]
        return iter(sorted(deadlines, key=lambda deadline: deadline[0]))

    def _restore_order(self) -> None:
        """Put the calls with progress since they were placed where they belong."""
        running = list(self.running)  # in one step: a call may be admitted without the lock meanwhile
        paused = {call: None for call in running if call.paused}
        # In this order: an exception in between leaves a call in neither, which does no harm. In both, `remove` would
        # leave it in one for ever.
        self.running = _in_order(call for call in running if not call.paused)
        self.paused = self.paused | paused


_NO_CALLS: dict[InFlightCall, None] = {}
_NONE_RUNNING: dict[InFlightCall, float] = {}
"""Placeholders of dictionaries not needed yet, which stay empty: four real ones would be a fifth of a circuit."""


def _in_order(calls: Iterable[InFlightCall]) -> dict[InFlightCall, float]:
    return {call: call.last_progress_at for call in sorted(calls, key=lambda call: call.last_progress_at)}


class HangThreshold:
    """Seconds without progress after which a call hangs: as configured, or longer where the provider is slow.

    With `hung_factor`, remembers the longest time that recent calls took to their first progress.
    """

    __slots__ = ("_calls", "_longest", "_longest_before")

    def __init__(self) -> None:
        self._calls = 0
        self._longest = 0.0
        self._longest_before = 0.0

    def copy(self) -> HangThreshold:
        """Return a threshold with the same memory."""
        copy = HangThreshold()
        copy._calls, copy._longest, copy._longest_before = self._calls, self._longest, self._longest_before
        return copy

    @property
    def missing_calls(self) -> int:
        """Number of calls after which the threshold may be lower."""
        return LEARNED_CALLS - self._calls % LEARNED_CALLS

    def record(self, silence: float) -> bool:
        """Record the seconds before a call's first progress; return whether the threshold may be lower from now on."""
        self._calls += 1
        self._longest = max(self._longest, silence)
        if self._calls % LEARNED_CALLS:
            return False
        self._longest_before, self._longest = self._longest, 0.0
        return True

    def record_all(self, silences: list[float]) -> bool:
        """Record several, in their order; return whether the threshold may be lower from now on."""
        missing, lowered = self.missing_calls, False
        while len(silences) >= missing:
            self._longest_before, self._longest = max(self._longest, *silences[:missing]), 0.0
            self._calls += missing
            silences, missing, lowered = silences[missing:], LEARNED_CALLS, True
        self._calls += len(silences)
        self._longest = max(self._longest, *silences, 0.0)
        return lowered

    def seconds(self, config: CircuitBreakerConfig) -> float | None:
        """Return the threshold, None if no call hangs. While latencies are unknown: a probe's timeout."""
        if config.hung_after is None or config.hung_factor is None:
            return config.hung_after
        if self._calls < LEARNED_CALLS:
            return max(config.hung_after, config.half_open_timeout)
        return max(config.hung_after, config.hung_factor * max(self._longest, self._longest_before))


NO_LATENCIES = HangThreshold()
"""Threshold of every circuit of which no latency is known. Each change is made to a copy."""


class ProbeDecision(NamedTuple):
    """Decision of the probes: PROBES_SUCCEEDED closes the circuit, every other cause opens it again."""

    cause: Cause
    reason: str


class ProbeResults:
    """Results of the probes of one half-open era. The `slow` ones are among those that succeeded."""

    __slots__ = ("_last_failure", "failed", "slow", "succeeded")

    def __init__(self) -> None:
        self.succeeded = self.failed = self.slow = 0
        self._last_failure: ProbeDecision | None = None

    def succeed(self, slow: bool) -> None:
        """Count a success."""
        self.succeeded += 1
        self.slow += slow

    def fail(self, cause: Cause, reason: str) -> None:
        """Count a failure."""
        self.failed += 1
        self._last_failure = ProbeDecision(cause, reason)

    def evaluate(self, config: CircuitBreakerConfig, slow_threshold: float | None) -> ProbeDecision | None:
        """Return the decision, None while there is none.

        `slow_threshold` is the share of slow calls that would open a closed circuit, None where no share would.
        """
        needed = config.success_threshold
        if self._last_failure and self.failed > config.half_open_failures:
            return self._last_failure if self.failed == 1 else self._after_several(self._last_failure)
        if slow_threshold is not None and self.slow and self.slow / needed >= slow_threshold:
            reason = f"{self.slow} of {pluralize(needed, 'probe')} {was_or_were(self.slow)} slow"
            return ProbeDecision(Cause.PROBES_SLOW, reason)
        if self.succeeded < needed:
            return None
        if self.failed:
            reason = f"{self.succeeded} of {pluralize(self.succeeded + self.failed, 'probe')} succeeded"
        else:
            reason = f"{pluralize(self.succeeded, 'probe')} in a row succeeded"
        return ProbeDecision(Cause.PROBES_SUCCEEDED, reason)

    def _after_several(self, last: ProbeDecision) -> ProbeDecision:
        return ProbeDecision(last.cause, f"{last.reason}, the last of {self.failed} that failed")


NO_PROBES = ProbeResults()
"""Results of every era that is not half-open. Nothing is added to them."""
