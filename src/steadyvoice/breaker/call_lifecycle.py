"""Calls in the state machine: admission, progress, end, and the results that callers leave without the lock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.errors import RecordedFailure
from steadyvoice.breaker.failure_classification import Failure, hung_failure
from steadyvoice.breaker.in_flight_calls import (
    MOST_QUIET_RESULTS,
    NO_LATENCIES,
    Era,
    InFlightCall,
    QuietPeriod,
    QuietResults,
    TickedFailure,
)
from steadyvoice.breaker.rules import pluralize
from steadyvoice.breaker.state_machine import ALWAYS, NEVER, StateMachine
from steadyvoice.breaker.states import CLOSED, DISABLED, FORCED_OPEN, HALF_OPEN, OPEN, CircuitState


class CallRefusal(NamedTuple):
    """Reason why a call is refused; `retry_after` in seconds, None where it is unknown."""

    state: CircuitState
    reason: str
    retry_after: float | None
    last_error: RecordedFailure | None


class RecordedResults(NamedTuple):
    """Numbers of results that callers left and a commit has recorded: they are still in their lists."""

    ended: int = 0
    failed: int = 0
    silences: int = 0
    ticked: int = 0


NOTHING_RECORDED = RecordedResults()


class CallLifecycle(StateMachine):
    """State machine with the life of its calls. Requires external locking, and the time as `now`."""

    __slots__ = ("recorded",)

    def __init__(
        self,
        name: str,
        config: CircuitBreakerConfig,
        now: float,
        random: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, config, now, random, wall_clock)
        self.recorded = NOTHING_RECORDED
        if self.lock_free_allowed:
            self.update_lock_free()

    def repair(self, now: float) -> None:
        """Restore consistency after an exception; the results that were left are recorded once."""
        self._apply_commit()
        self._forget_recorded_results()
        super().repair(now)

    # ---------------------------------------------------------------- admission

    def admit(self, now: float, call: InFlightCall) -> CallRefusal | None:
        """Admit a call; return the refusal if it is not admitted.

        The caller made the call object before and drops it on any exception. So one that a signal handler raises on
        the way back from here cannot lose a call that occupies one of the few places of a half-open circuit.
        """
        if now >= self.next_timer_at:
            self.run_timers(now)
        if self.state_until is not None:
            if now >= self.state_until:
                if not self.lacks_grant(now):
                    self.expire_state(now)
            elif self.state is CLOSED and not self._ramp_up_admits(now):
                return self._refuse(now)
        if not self.records_results and (self.is_full or self.lacks_grant(now)):
            return self._refuse(now)
        call.admit(self.era, now)
        if self.tracks_calls:
            self._track(call)
        return None

    def _ramp_up_admits(self, now: float) -> bool:
        """Return whether the next call is admitted after a recovery: evenly spread, as many as its age allows."""
        self.ramp_up_credit += self.admitted_share(now)
        if self.ramp_up_credit < 1:
            return False
        self.ramp_up_credit -= 1
        return True

    def _refuse(self, now: float) -> CallRefusal:
        self.results.refused += 1
        reason, retry_after = self._refusal_reason(now), self.retry_after(now)
        self.notify_call_refused(reason, retry_after, now)
        return CallRefusal(self.state, reason, retry_after, self.results.last_error)

    def _refusal_reason(self, now: float) -> str:
        match self.state:
            case CircuitState.HALF_OPEN if self.lacks_grant(now):
                return "no probe is granted at present"
            case CircuitState.HALF_OPEN:
                return f"{self.in_flight_count} of {pluralize(self.config.half_open_max_calls, 'probe')} in flight"
            case CircuitState.CLOSED:
                return f"just recovered: {self.admitted_share(now):.0%} of the calls are admitted"
            case _:
                return self.reason

    # ---------------------------------------------------------------- progress

    def progress(self, now: float, call: InFlightCall, paused: bool = False) -> None:
        """Record that something useful arrived; with `paused`, its consumer has it and no clock runs."""
        if now >= self.next_timer_at:
            self.run_timers(now)
        if self.config.hung_factor is not None:
            self._record_silence(now, call)
        if call.first_output_at is None:
            call.first_output_at = now
        self._restart_clocks(now, call, paused)
        if self.state is HALF_OPEN and now - call.first_output_at >= self.config.stream_probe_success_after:
            self.succeed(now, call)

    def suspend(self, now: float, call: InFlightCall) -> None:
        """Stop the call's clocks until `resume()`; this is no progress."""
        if now >= self.next_timer_at:
            self.run_timers(now)
        self._restart_clocks(now, call, paused=True)

    def resume(self, now: float, call: InFlightCall) -> None:
        """Restart the call's clocks: its consumer wants more."""
        if now >= self.next_timer_at:
            self.run_timers(now)
        self._restart_clocks(now, call, paused=False)

    def _restart_clocks(self, now: float, call: InFlightCall, paused: bool) -> None:
        if self.tracks_calls and not call.settled and call.era is self.era:
            self.in_flight.remove(call)
            call.last_progress_at, call.paused = now, paused
            if paused:
                self.in_flight.mark_paused(call)
                if self.state is HALF_OPEN and call.first_output_at is not None:
                    proven_at = call.first_output_at + self.config.stream_probe_success_after
                    self.next_timer_at = min(self.next_timer_at, proven_at)
            else:
                self._track(call)

    def _track(self, call: InFlightCall) -> None:
        """Watch a running call from now on: for the probes' timeout, or for hanging."""
        self.in_flight.begin()[call] = call.last_progress_at
        if self.state is HALF_OPEN:
            self.next_timer_at = min(self.next_timer_at, call.last_progress_at + self.probe_timeout)
        elif self.next_timer_at == NEVER and (threshold := self.hang_threshold.seconds(self.config)) is not None:
            # Only where no timer is set: otherwise it belongs to an older call, which hangs first.
            self.next_timer_at = call.last_progress_at + threshold

    def _record_silence(self, now: float, call: InFlightCall) -> None:
        """Learn from a call's first progress how long a working provider is silent, late results included."""
        if call.first_output_at is not None or call.settled:
            return
        if self.hang_threshold is NO_LATENCIES:
            self.hang_threshold = NO_LATENCIES.copy()
        if self.hang_threshold.record(now - call.last_progress_at):
            self.next_timer_at = ALWAYS  # calls may hang sooner now

    # ---------------------------------------------------------------- the end

    def succeed(self, now: float, call: InFlightCall, duration: float | None = None) -> None:
        """Settle a call that succeeded. `duration` in seconds is measured when it is None."""
        if now >= self.next_timer_at:
            self.run_timers(now)
        if self.config.hung_factor is not None:
            self._record_silence(now, call)
        if self.warned:
            self.recheck_warning(now)
        if self.settle_once(call, now):
            self.record_success(now, call.latency(now) if duration is None else duration)

    def fail(self, now: float, call: InFlightCall, failure: Failure, duration: float | None = None) -> None:
        """Settle a call that failed. `duration` in seconds is measured when it is None."""
        if now >= self.next_timer_at:
            self.run_timers(now)
        if self.warned:
            self.recheck_warning(now)
        if self.settle_once(call, now):
            self.record_failure(now, failure, call.latency(now) if duration is None else duration)

    def fail_lock_free_call(self, now: float, era: Era, failure: Failure) -> None:
        """Count the failure of a call for which no call object was made: it began while its era was lock-free."""
        if now >= self.next_timer_at:
            self.run_timers(now)
        if self.warned:
            self.recheck_warning(now)
        if era is self.era:
            self.record_failure(now, failure, None)
        else:
            self.record_late(None, now)

    def ignore(self, now: float, call: InFlightCall) -> None:
        """Settle a call that says nothing about the provider: cancelled, dropped, or the caller's own mistake."""
        if now >= self.next_timer_at:
            self.run_timers(now)
        self.drop(now, call)

    def drop(self, now: float, call: InFlightCall) -> None:
        """Ignore a call that ended at an unknown time, not by `now`: so no timers run for it."""
        self.in_flight.remove(call)  # also if it is settled: a signal handler may have raised in between
        if not call.settle():
            return
        call.ended_at = now
        if call.era is not None and call.era.state is not DISABLED:
            self.record_ignored(call, now)

    def abandon(self, now: float, call: InFlightCall, weight: float = 1.0) -> None:
        """Settle a call whose consumer left.

        A call that hangs keeps the failure that it counts as already, by `weight`: that its caller gave up is no sign
        of life. Any other is a success if something useful had come, and ignored if nothing had.
        """
        if now >= self.next_timer_at:
            self.run_timers(now)
        if call in self.in_flight.hung:
            self._keep_hung_failure(now, call, weight)
        elif call.first_output_at is None:
            self.drop(now, call)
        else:
            self.succeed(now, call)

    def _keep_hung_failure(self, now: float, call: InFlightCall, weight: float) -> None:
        """Turn the provisional failure of a hanging call into a permanent one."""
        if self.warned:
            self.recheck_warning(now)
        # A success since then took the call out of the run of failures. Otherwise ten callers who gave up, all of whose
        # calls began before the provider recovered, would open the circuit again.
        extends_streak = call in self.in_flight.hung_in_streak
        failure, latency = hung_failure(now - call.last_progress_at, weight), call.latency(now)
        if self.settle_once(call, now):
            self.record_failure(now, failure, latency, extends_streak)

    def admit_again(self, now: float, call: InFlightCall) -> CallRefusal | None:
        """Admit a call whose quiet period was over before it could be sure of it; return the refusal otherwise."""
        self.in_flight.remove(call)
        call.settle()
        return self.admit(now, call)

    # ---------------------------------------------------------------- results that callers leave without the lock

    def settle_quiet_call(self, now: float, era: Era, call: InFlightCall) -> None:
        """Finish the success of a call whose quiet period was over before it could be sure of it."""
        self.in_flight.remove(call)
        self.record_quiet_results(now, era)

    def record_quiet_results(self, now: float, era: Era) -> None:
        """Record the results that callers left in quiet periods of an era."""
        results = era.quiet_results
        if results is None or not (results.ended or results.silences or results.failed):
            return
        if era is not self.era:
            for late in (results.ended, results.failed):
                for _ in range(len(late)):
                    self.record_late(None, now)
                    del late[0]
            return
        # Each in one step: other callers append. The failures first, for they stand behind successes.
        failed, ended, silences = results.failed.copy(), results.ended.copy(), results.silences.copy()
        # One commit, like a transition: an exception that a signal handler raises must neither lose nor double a
        # hundred results. So the results, too, are a copy that takes the place of the one that was read.
        fields: dict[str, Any] = {"recorded": RecordedResults(len(ended), len(failed), len(silences))}
        if ended or failed:
            fields["results"] = self.results.with_quiet_results(ended, failed)
        if silences and self.config.hung_factor is not None:
            fields["hang_threshold"] = threshold = self.hang_threshold.copy()
            # Nearly always it stays, and the timer with it: to look at all calls anew takes another locked section.
            if threshold.record_all(silences) and threshold.is_below(self.hang_threshold, self.config):
                fields["next_timer_at"] = ALWAYS  # calls may hang sooner now
        self._commit(fields, None)
        self._forget_recorded_results()
        if failed:
            # None of them breaks a rule, unless it came too late for its own period and another one had begun.
            self.evaluate_rules(now)

    def _forget_recorded_results(self) -> None:
        """Delete the results that a commit has recorded. Idempotent."""
        era, recorded = self.era, self.recorded
        if recorded is NOTHING_RECORDED:
            return
        # No call in between, so no signal: either these results are still there and the numbers say so, or neither.
        if quiet := era.quiet_results:
            del quiet.ended[: recorded.ended]
            del quiet.failed[: recorded.failed]
            del quiet.silences[: recorded.silences]
        del era.failed[: recorded.ticked]
        self.recorded = NOTHING_RECORDED

    def collect_late_ticks(self, now: float, era: Era) -> None:
        """Count ticks that came behind the section that collected the others of their era: the ends of calls."""
        if now >= self.next_timer_at:
            self.run_timers(now)
        self.collect_ticks(now, era)

    def collect_ticks(self, now: float, era: Era) -> None:
        """Count the ticks that callers left on an era: refusals of an open one, results of any other."""
        first, ticks = era.collect_ticks()
        if not ticks:
            return
        before = self.results
        try:
            if era.state in (OPEN, FORCED_OPEN):
                before.refused += ticks
            elif era is not self.era:
                before.late += ticks
            elif failed := era.failed_before(first + ticks):
                self._record_ticks(now, first, ticks, failed)
            else:
                self._count_successes(now, ticks)
        except BaseException:
            # A signal handler raised: thousands of calls may be among them. A commit, once decided, records them.
            if self.results is before and self.pending_commit is None:
                era.return_ticks(ticks)
            raise

    def _record_ticks(self, now: float, first: int, ticks: int, failed: list[TickedFailure]) -> None:
        """Record plain calls of this era, some of which failed. They are so many as to break no rule: see `Era`."""
        results = self.results.with_ticks(now, first, ticks, failed)
        self._commit({"results": results, "recorded": RecordedResults(ticked=len(failed))}, None)
        self._forget_recorded_results()
        self._end_hung_streak()
        self.evaluate_rules(now)

    def _count_successes(self, now: float, successes: int) -> None:
        """Count successes, and evaluate where one completed a minimum of calls: there it may open the circuit."""
        era = self.era
        for minimum in self.results.rules.minimum_call_counts:
            missing = minimum - self.results.window.calls
            if era is self.era and 0 < missing < successes:
                self.record_successes(now, missing)
                successes -= missing
        if era is self.era:
            self.record_successes(now, successes)
        else:
            self.results.late += successes

    # ---------------------------------------------------------------- when callers need no lock

    def update_lock_free(self) -> None:
        """Allow successes to skip the lock until the next locked section, if none of them can change the state.

        Beyond the largest minimum of calls another success can only lower the rates; below it, the success that
        completes a minimum may open the circuit, so each must be evaluated, unless there is no failure to evaluate.
        """
        results, window = self.results, self.results.window
        enough_calls = not window.failures or window.calls >= results.rules.minimum_call_counts[-1]
        if self.records_results and enough_calls and self.state_until is None:
            self.era.begin_ticks()
            self.era.lock_free = True
        else:
            self.era.lock_free = False

    def begin_quiet_period(self, now: float) -> QuietPeriod | None:
        """Return the quiet period that begins now; None if a call could change something. See `QuietPeriod`."""
        if not (self.quiet_allowed and self.records_results) or self.warned or self.state_until is not None:
            return None
        if self.lock_free_allowed and not self.era.lock_free:
            return None  # each result counts on the way to a minimum of calls, from which on no call needs a clock
        in_flight, results = self.in_flight, self.results
        if in_flight.hung or results.window.slow:
            return None
        harmless = results.harmless_failures(MOST_QUIET_RESULTS)
        if harmless is None:
            return None
        if self.tracks_calls and self.next_timer_at == NEVER:
            # No call is in flight. One that begins from now on does not hang before; a timer too early does no harm.
            self.next_timer_at = now + (self.hang_threshold.seconds(self.config) or NEVER)
        if self.next_timer_at <= now:
            return None
        if self.era.quiet_results is None:
            self.era.quiet_results = QuietResults()
        max_calls = MOST_QUIET_RESULTS if self.config.hung_factor is None else self.hang_threshold.missing_calls
        running = in_flight.begin()
        if not self.tracks_calls:
            running = in_flight.unwatched = {} if in_flight.unwatched is None else in_flight.unwatched
        if self.lock_free_allowed:
            # There, successes of plain calls are counted by ticks, among which a failure has its place. Before there
            # are enough calls, it would end the time without a lock.
            enough_calls = results.window.calls >= results.rules.minimum_call_counts[-1]
            self.era.harmless, harmless = iter(range(harmless if enough_calls else 0)), 0
        return QuietPeriod(
            self.era,
            self.next_timer_at,
            running,
            self.era.quiet_results,
            silences_wanted=max_calls,
            harmless=harmless,
            counted_errors=results.rules.counted_errors,
        )
