"""Eras, the calls that begin in them, and what callers leave there without the lock.

Plain calls leave ticks, permits leave results in quiet periods, and an open circuit's callers leave their refusals. The
next locked section records them; see `CallLifecycle`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import count
from typing import NamedTuple, TypeAlias

from steadyvoice.breaker.errors import RecordedFailure
from steadyvoice.breaker.failure_classification import Failure
from steadyvoice.breaker.states import CircuitState

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
    __slots__ = ("era", "first_output_at", "last_progress_at", "paused", "settled", "started_at")

    era: Era | None
    started_at: float | None
    last_progress_at: float
    first_output_at: float | None
    settled: bool
    paused: bool

    @classmethod
    def new(cls, era: Era | None = None) -> InFlightCall:
        """Return a call that is not admitted yet; with an era, one that began in it without a clock."""
        call = cls()
        call.era, call.settled = era, era is None
        call.started_at = call.first_output_at = None
        call.last_progress_at, call.paused = 0.0, False
        return call

    def admit(self, era: Era, now: float) -> None:
        """Begin in an era. From here on, the owner has to settle the call."""
        self.era = era
        self.started_at = self.last_progress_at = now
        self.first_output_at, self.paused, self.settled = None, False, False

    def latency(self, now: float) -> float | None:
        """Return the seconds until the first output, or until `now` where there was none."""
        if self.started_at is None:
            return None
        return (now if self.first_output_at is None else self.first_output_at) - self.started_at


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
    # * `running.pop(call)` succeeds once, so of two threads that settle one permit, one records it.
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
