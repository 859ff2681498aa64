"""Eras, calls in flight and their clocks, what callers leave without the lock, and the results of probes.

Plain calls leave ticks, permits leave results in quiet periods, and an open circuit's callers leave their refusals. The
next locked section records them; see `CallLifecycle`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import NamedTuple, TypeAlias

from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.errors import RecordedFailure
from steadyvoice.breaker.failure_classification import Failure
from steadyvoice.breaker.rules import pluralize, was_or_were
from steadyvoice.breaker.states import Cause, CircuitState

LEARNED_CALLS = 100
"""Calls that must have answered before their latency is known; at most twice as many are remembered."""
MOST_QUIET_RESULTS = 100
"""Results of a quiet period after which a locked section records them."""
HAS_INTERPRETER_LOCK: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


class OpenRefusal(NamedTuple):
    """Refusal that every caller receives before `until`, on the breaker's own clock."""

    name: str
    until: float
    reason: str
    last_error: RecordedFailure | None


class Era:
    """Time between two transitions, with a counter that needs no lock.

    While `lock_free` is set, a success cannot change the state, so all that a caller does is `next(ticks)`. While
    `open_refusal` is set, the same is true of a refusal.
    """

    # Why every tick is counted exactly once, without a lock:
    #
    # * `next()` of an itertools.count is one atomic step in C, with the interpreter's lock and, in free-threaded
    #   builds, without it; no two threads draw the same number and none is skipped.
    # * A locked section first takes `lock_free` and `open_refusal` away and then collects the ticks. A caller first
    #   ticks and then looks at the flag again. Whichever order the two threads' steps interleave in, either the tick
    #   came before the collection and is in it, or the caller finds the flag gone and comes to the lock itself, where
    #   the rest of the ticks is collected (`CallLifecycle.collect_ticks`).
    # * A failure draws a tick and appends itself in one step, `failed.extend(zip(...))`, which needs the interpreter's
    #   lock. Its tick is its place among the successes. As many as `harmless` has numbers can break no rule.
    # * A new era has a new counter. So a caller that ticks on an old era can never be counted for the new one.

    __slots__ = ("_collected", "failed", "harmless", "lock_free", "open_refusal", "quiet_results", "state", "ticks")

    def __init__(self, state: CircuitState) -> None:
        self.state = state
        self.lock_free = False
        self.open_refusal: OpenRefusal | None = None
        self.quiet_results: QuietResults | None = None  # made for its first quiet period
        self.ticks = _NO_TICKS  # replaced before the first flag is set: most circuits never need one
        self._collected = 0  # including the ticks that collecting makes itself
        self.failed = _NO_TICKED_FAILURES
        self.harmless = _NONE_HARMLESS  # as many failures may be left without the lock as it has numbers

    def begin_ticks(self) -> None:
        """Prepare the counter for a flag that is about to be set."""
        if self.ticks is _NO_TICKS:
            self.ticks, self.failed = count(), []

    def collect_ticks(self) -> tuple[int, int]:
        """Return the first tick since the last collection, and the number of them.

        Requires the lock, and neither `lock_free` nor `open_refusal`.
        """
        ticks, first = next(self.ticks), self._collected
        self._collected = ticks + 1  # a count can only be read by stepping it
        return first, ticks - first

    def failed_before(self, tick: int) -> list[TickedFailure]:
        """Return the plain calls that failed before a tick; they are in their order."""
        failed = self.failed.copy()
        while failed and failed[-1][1] >= tick:
            failed.pop()
        return failed

    def return_ticks(self, ticks: int) -> None:
        """Leave so many ticks to the next collection."""
        self._collected -= ticks


NotedFailure: TypeAlias = tuple[Failure, float, float | None]
"""Failure that was left without the lock, with its time of day, and its latency where a clock was running."""
TickedFailure: TypeAlias = tuple[NotedFailure, int]
"""Failure of a plain call, and its tick."""
_NO_TICKS = count()
_NO_TICKED_FAILURES: list[TickedFailure] = []
_NONE_HARMLESS: Iterator[int] = iter(())


class InFlightCall:
    """Call in flight: the era in which it began, and its clocks. Settled until it is admitted, and from its end on.

    `started_at` is None where no clock was read; `last_progress_at` is restarted by each progress; `first_output_at`
    is set by the first. While `paused`, its consumer is busy with what was delivered and no clock runs.
    """

    # No `__init__`: a Python call would take as long as all assignments. `new()` and `admit()` make all of them.
    #
    # `unsettled` is there until the call is settled, and `del call.unsettled` is one step for all threads. So of two
    # that settle one permit at once, one without the lock and one with it, exactly one succeeds and counts its result.
    __slots__ = ("ended_at", "era", "first_output_at", "last_progress_at", "paused", "started_at", "unsettled")

    era: Era | None
    started_at: float | None
    last_progress_at: float
    first_output_at: float | None
    ended_at: float  # set when it is settled
    unsettled: bool
    paused: bool

    @classmethod
    def new(cls, era: Era | None = None) -> InFlightCall:
        """Return a call that is not admitted yet; with an era, one that began in it without a clock."""
        call = cls()
        call.era = era
        if era is not None:
            call.unsettled = True
        call.started_at = call.first_output_at = None
        call.last_progress_at, call.paused = 0.0, False
        return call

    def admit(self, era: Era, now: float) -> None:
        """Begin in an era. From here on, the owner has to settle the call."""
        self.era = era
        self.started_at = self.last_progress_at = now
        self.first_output_at, self.paused, self.unsettled = None, False, True

    @property
    def settled(self) -> bool:
        """True if the call has ended, or was never admitted."""
        return not hasattr(self, "unsettled")

    def settle(self) -> bool:
        """End the call; return whether it was this that ended it, not another thread before."""
        try:
            del self.unsettled
        except AttributeError:
            return False
        return True

    def latency(self, now: float) -> float | None:
        """Return the seconds until the first output, or until `now` where there was none."""
        if self.started_at is None:
            return None
        return (now if self.first_output_at is None else self.first_output_at) - self.started_at


class CallTiming(NamedTuple):
    """Times of one call on its circuit's clock, in seconds; `read_at` is the time at which they were read."""

    began: float
    first_output: float | None
    last_progress: float  # `began` before any
    settled: float | None  # None while it is not
    is_probe: bool
    read_at: float


QuietFailure: TypeAlias = tuple[NotedFailure, int, float]
"""Failure in a quiet period, the number of successes before it, and its time."""


class QuietResults:
    """Results of one era that callers left for the next locked section.

    `ended` are the times at which calls succeeded; `silences` the seconds that calls took to their first output.
    """

    __slots__ = ("ended", "failed", "silences")

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.failed: list[QuietFailure] = []
        self.silences: list[float] = []


class QuietPeriod:
    """Time in which a closed circuit admits every call, and no success and no sign of progress can change that."""

    # What makes a period quiet (`CallLifecycle.begin_quiet_period`): the circuit is closed or monitored, and
    #
    # * the failures in its window break no rule, however many successes join them and however many results expire. A
    #   rate compares failures with at least the minimum of calls, and they stay below the threshold even there; a run
    #   of failures only ends. So a success may be recorded later, as of the time at which it happened. The same holds
    #   with as many more failures as `harmless` has numbers: a failure takes one, or comes to the lock;
    # * no call in flight hangs, and none begins to before `until`, for one that is admitted later hangs later;
    # * no ramp-up limits admissions, no listener wants an event of each call, and no duration is compared.
    #
    # What ends it: `until`, and each locked section, which begins a new one if it can. Whatever could change a verdict
    # (a failure more than are harmless, a setting, manual control) needs such a section.
    #
    # Why no call and no result is lost without the lock. Only under the interpreter's lock: there, each step on a
    # dictionary or list is one step for all threads; without it, every permit takes the breaker's lock.
    #
    # * A section first takes the breaker's period away and then records the results. A caller first does its step
    #   and then looks whether the period is still the breaker's. Whichever way two threads interleave, either the
    #   section saw the step, or the caller finds the period gone and comes to the lock itself.
    # * `running.pop(call)` succeeds once, so of two threads that settle one permit without the lock, one records it.
    #   The other, or a third one, comes to the lock, perhaps between the two steps of the first; see `InFlightCall`.
    # * Results belong to the era of their period: one that comes after a transition is counted as late.
    # * A signal handler may raise between two steps. Then the call is still running, and its permit gives it back; or
    #   it is not, and only its own result is missing.

    __slots__ = (
        "counted_errors",
        "ended",
        "era",
        "failed",
        "harmless",
        "running",
        "silences",
        "silences_wanted",
        "until",
    )

    def __init__(
        self,
        era: Era,
        until: float,
        running: dict[InFlightCall, float],
        results: QuietResults,
        *,
        silences_wanted: int,
        harmless: int,
        counted_errors: Mapping[type[BaseException], str],
    ) -> None:
        self.era = era
        self.until = until
        self.running = running
        self.ended = results.ended
        self.failed = results.failed
        self.silences = results.silences
        self.harmless = iter(range(harmless))
        self.counted_errors = counted_errors  # see `RuleSet`
        self.silences_wanted = silences_wanted  # as many silences may lower the time after which a call hangs


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
        self._restore_order()  # pauses that were noted on the calls alone: a paused call does not hang
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
        missing, lowered = LEARNED_CALLS - self._calls % LEARNED_CALLS, False
        if len(silences) == missing:  # as nearly always: a quiet period ends then
            self._longest_before, self._longest = max(self._longest, max(silences)), 0.0
            self._calls += missing
            return True
        while len(silences) >= missing:
            self._longest_before, self._longest = max(self._longest, *silences[:missing]), 0.0
            self._calls += missing
            silences, missing, lowered = silences[missing:], LEARNED_CALLS, True
        self._calls += len(silences)
        self._longest = max(self._longest, *silences, 0.0)
        return lowered

    def is_below(self, before: HangThreshold, config: CircuitBreakerConfig) -> bool:
        """Return whether calls hang sooner by this threshold than by the one before."""
        seconds, former = self.seconds(config), before.seconds(config)
        return seconds is not None and (former is None or seconds < former)

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
