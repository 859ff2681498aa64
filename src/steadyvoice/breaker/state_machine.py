"""State machine of a circuit breaker: transitions, rule evaluation, timers, manual control, reconfiguration.

The machine reads no clock, takes no lock and does no I/O. Time comes in as `now`; randomness and the time of day (only
shown) come in as functions; what happened goes out as `notifications`. The caller holds a lock around every method and
delivers the notifications afterwards: see `_locking.py`. Begin, progress and end of calls are in `CallLifecycle`, which
extends the machine; their results are in `CallResults`, which it owns. The permitted transitions are the table in
`states.py`, from which the diagram in the documentation is drawn.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from steadyvoice.breaker import _notifications
from steadyvoice.breaker._notifications import Notification
from steadyvoice.breaker.backoff import NO_COOLDOWN
from steadyvoice.breaker.call_results import CallResults
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.failure_classification import Failure
from steadyvoice.breaker.in_flight_calls import NO_LATENCIES, NO_PROBES, Era, InFlightCall, InFlightCalls, ProbeResults
from steadyvoice.breaker.rules import RuleBroken
from steadyvoice.breaker.states import (
    CLOSED,
    DISABLED,
    FORCED_OPEN,
    HALF_OPEN,
    MONITORING,
    NO_RECOVERIES,
    OPEN,
    TRANSITIONS,
    Cause,
    CircuitState,
    Outcome,
)

ALWAYS, NEVER = -math.inf, math.inf
RAMP_UP_START = 0.1
"""Share of the calls that is admitted right after a recovery, where `ramp_up` is set."""


class StateMachine:
    """State of one circuit, and everything that changes it. Requires external locking."""

    __slots__ = (
        "closed_at", "config", "cooldown", "emits_call_events", "era", "hang_threshold", "in_flight",
        "lock_free_allowed", "name", "next_timer_at", "notifications", "opened_at", "outage_started_at",
        "pending_commit", "probes", "probes_until", "quiet_allowed", "ramp_up_credit", "random", "reason",
        "records_results", "recoveries", "results", "state", "state_until", "tracks_calls", "wall_clock", "warned",
    )  # fmt: skip

    # Set by `derive_settings`, whenever the configuration changes.
    lock_free_allowed: bool  # no setting needs a clock, and no listener wants an event of each call
    quiet_allowed: bool  # durations of calls are not compared, and no listener wants an event of each call
    emits_call_events: bool  # a listener wants an event of each call

    # Set by `_new_era`, with each transition.
    in_flight: InFlightCalls
    probes: ProbeResults
    records_results: bool  # closed or monitoring: results go into the window
    tracks_calls: bool  # calls in flight are watched for hanging or for the probes' timeout
    next_timer_at: float  # the earliest time at which `run_timers` can have work
    ramp_up_credit: float
    warned: bool  # monitoring only: the rule is broken, and the listeners have been told

    def __init__(
        self,
        name: str,
        config: CircuitBreakerConfig,
        now: float,
        random: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.wall_clock = wall_clock
        self.config = config
        self.results = CallResults(config, now)
        self.notifications: deque[Notification] | None = None  # made when first needed: a deque takes 760 bytes
        self.pending_commit: tuple[dict[str, Any], Notification | None] | None = None
        self.state = CircuitState.CLOSED
        self.reason = "new"
        self.opened_at: float | None = None
        self.outage_started_at: float | None = None
        self.closed_at = now
        self.state_until: float | None = None
        self.random = random
        self.cooldown = NO_COOLDOWN
        self.probes_until = NEVER
        self.hang_threshold = NO_LATENCIES
        self.recoveries = NO_RECOVERIES
        self.era = Era(self.state)
        self._commit({**self._new_era(self.state), **derive_settings(config, emit_call_events=False)}, None)

    # ---------------------------------------------------------------- readings

    @property
    def calls(self) -> int:
        """Results in the window, plus calls that hang."""
        return self.results.window.calls + len(self.in_flight.hung)

    @property
    def failure_sum(self) -> float:
        """Failures in the window by weight, plus calls that hang."""
        return self.results.window.failures + len(self.in_flight.hung)

    @property
    def consecutive_failures(self) -> float:
        """Failures since the last success, plus calls that hang and began to after it."""
        return self.results.streak + len(self.in_flight.hung_in_streak)

    @property
    def in_flight_count(self) -> int | None:
        """Calls of this era in flight; None while they are not tracked."""
        return len(self.in_flight) if self.tracks_calls else None

    @property
    def probe_timeout(self) -> float:
        """Seconds without progress after which a probe has failed."""
        config = self.config
        return min(config.half_open_timeout, self.hang_threshold.seconds(config) or config.half_open_timeout)

    @property
    def is_full(self) -> bool:
        """True if the state admits no further call: open, or half-open with all probes in flight."""
        if self.state is HALF_OPEN:
            in_flight = self.in_flight
            return len(in_flight.running) + len(in_flight.paused) >= self.config.half_open_max_calls
        return self.state in (OPEN, FORCED_OPEN)

    def lacks_grant(self, now: float) -> bool:
        """Return whether the next caller would be a probe but for the grant that probes need: see `grant_probe`."""
        return now >= self.probes_until and self.state in (OPEN, FORCED_OPEN, HALF_OPEN)

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until the next caller becomes a probe; None unless open, or where it is unknown."""
        if self.state_until is None or self.state not in (OPEN, FORCED_OPEN):
            return None
        if now >= self.state_until and self.lacks_grant(now):
            return None
        return max(0.0, self.state_until - now)

    def admitted_share(self, now: float) -> float:
        """Return the share of calls that is admitted: below 1 during `ramp_up`, 0 where no call is."""
        if not self.records_results:
            return 0.0 if self.is_full else 1.0
        ramp_up = self.config.ramp_up
        if ramp_up is None or self.state_until is None or self.state is not CLOSED:
            return 1.0
        return min(1.0, max(RAMP_UP_START, 1 - (self.state_until - now) / ramp_up))

    # ---------------------------------------------------------------- transitions

    def transition(
        self, to: CircuitState, at: float, cause: Cause, reason: str, until: float | None = None, **fields: Any
    ) -> None:
        """Move to another state where the table permits it. Raises RuntimeError where it does not."""
        if to not in TRANSITIONS[self.state]:
            raise RuntimeError(f"no transition from {self.state.value} to {to.value}")
        self.enter_state(to, at, cause, reason, until, **fields)

    def enter_state(
        self, to: CircuitState, at: float, cause: Cause, reason: str, until: float | None, **fields: Any
    ) -> None:
        """Move to a state from any other. `fields` are attributes that change together with it."""
        self.results.window.expire(at)
        notification = None
        if self.state is not to:
            notification = _notifications.state_changed(
                at,
                name=self.name,
                from_state=self.state,
                to_state=to,
                cause=cause,
                reason=reason,
                calls=self.calls,
                failures=self.failure_sum,
                retry_after=max(0.0, until - at) if until is not None and to in (OPEN, FORCED_OPEN) else None,
                jitter=fields["cooldown"].jitter if to is OPEN else 0.0,
            )
        self._commit({"state_until": until, "reason": reason, **self._new_era(to), **fields}, notification)

    def _enter_open(
        self,
        at: float,
        cause: Cause,
        reason: str,
        requested_cooldown: float | None = None,
        level: int | None = None,
    ) -> None:
        """Refuse calls for the next cooldown or the requested one, at its level of the backoff or another."""
        healthy = 0.0 if self.state is HALF_OPEN else at - self.closed_at
        cooldown = self.cooldown.copy()
        until = at + cooldown.start(self.config, requested_cooldown, healthy, self.random)
        if level is not None:
            cooldown.restore(self.config, level, requested_cooldown)
        outage_started_at = at if self.outage_started_at is None else self.outage_started_at
        self.transition(
            OPEN, at, cause, reason, until, cooldown=cooldown, opened_at=at, outage_started_at=outage_started_at
        )

    def _enter_closed(self, at: float, cause: Cause, reason: str, **fields: Any) -> None:
        """Admit calls again, with an empty window; gradually, if probes succeeded and `ramp_up` is set."""
        recovered = cause in (Cause.PROBES_SUCCEEDED, Cause.ADOPTED)
        if recovered and self.outage_started_at is not None:
            fields["recoveries"] = self.recoveries.with_another(at - self.outage_started_at)
        until = self._end_of_ramp_up(at, at) if recovered else None
        fields |= {"closed_at": at, "opened_at": None, "outage_started_at": None}
        self.transition(
            CLOSED, at, cause, reason, until, results=self.results.with_empty_window(self.config, at), **fields
        )

    def _end_of_ramp_up(self, closed_at: float, now: float) -> float | None:
        """Return the time at which a circuit that closed at `closed_at` admits every call; None if it does by now."""
        ramp_up = self.config.ramp_up
        return closed_at + ramp_up if ramp_up is not None and now < closed_at + ramp_up else None

    def _new_era(self, state: CircuitState) -> dict[str, Any]:
        """Return the attributes with which an era begins. Calls still in flight belong to the era before."""
        records_results = state in (CLOSED, MONITORING)
        return {
            "state": state,
            "era": Era(state),
            "in_flight": InFlightCalls(),
            "probes": ProbeResults() if state is HALF_OPEN else NO_PROBES,
            "records_results": records_results,
            "tracks_calls": state is HALF_OPEN or (records_results and self.config.hung_after is not None),
            "next_timer_at": ALWAYS if state is HALF_OPEN else NEVER,
            "ramp_up_credit": 1.0,  # so that the first call is admitted
            "warned": False,
        }

    # A signal handler may raise between any two bytecodes (Celery's soft time limit, Ctrl-C). A transition changes a
    # dozen attributes, so it is computed first, as the values they will have and the notification to send, and then
    # stored in one assignment, `pending_commit`. Before that assignment nothing has happened; after it, applying the
    # values again finishes the transition, however often and from wherever it was interrupted.

    def _commit(self, fields: dict[str, Any], notification: Notification | None) -> None:
        """Decide that these attributes change and that this notification is sent, and apply it."""
        self._apply_commit()
        self.pending_commit = fields, notification
        self._apply_commit()

    def _apply_commit(self) -> None:
        """Apply the pending commit from its beginning. Idempotent."""
        if self.pending_commit is None:
            return
        fields, notification = self.pending_commit
        # Before the era is replaced: a lock-free success that ticks from here on must see the flag and come to the
        # lock, where it is counted as late.
        self.era.lock_free = False
        for name, value in fields.items():
            setattr(self, name, value)
        if notification is not None and not (self.notifications and self.notifications[-1] is notification):
            self.notify(notification)
        self.pending_commit = None

    def repair(self, now: float) -> None:
        """Restore consistency after an exception interrupted a method, perhaps one that a signal handler raised.

        A pending transition is finished and everything that can be recounted is; of the one call that was being
        recorded, a part may be lost.
        """
        self._apply_commit()
        self.results.window.recount()
        self._refresh_hang_detection(now)

    # ---------------------------------------------------------------- rule evaluation

    def evaluate_rules(self, now: float, requested_cooldown: float | None = None) -> None:
        """Open the circuit if its rule is broken, for the requested cooldown in seconds if there is one."""
        broken = self._broken_rule(now)
        if broken is None:
            self.warned = False
        else:
            self._trip_or_warn(now, broken, requested_cooldown)

    def recheck_warning(self, now: float) -> None:
        """Clear the monitoring warning if the rule no longer holds, so that the next breach is reported."""
        self.warned = self._broken_rule(now) is not None

    def _trip_or_warn(self, now: float, broken: RuleBroken, requested_cooldown: float | None = None) -> None:
        """Open a closed circuit; for a monitored one, report once that it would have opened."""
        self.results.window.expire(now)
        if self.state is CLOSED:
            self._enter_open(now, broken.cause, broken.reason, requested_cooldown)
        elif not self.warned:
            self.warned = True
            self.notify(
                _notifications.would_have_opened(
                    now,
                    name=self.name,
                    cause=broken.cause,
                    reason=broken.reason,
                    calls=self.calls,
                    failures=self.failure_sum,
                )
            )

    def _evaluate_probes(self, now: float, requested_cooldown: float | None = None) -> None:
        """Close the circuit or open it again, once the probes have decided."""
        decision = self.probes.evaluate(self.config, self.results.rules.slow_threshold)
        if decision is None:
            return
        if decision.cause is Cause.PROBES_SUCCEEDED:
            self._enter_closed(now, decision.cause, decision.reason)
        else:
            self._enter_open(now, decision.cause, decision.reason, requested_cooldown)

    def _broken_rule(self, now: float) -> RuleBroken | None:
        """Return the rule that is broken now, None if there is none."""
        in_flight = self.in_flight
        return self.results.broken_rule(
            now,
            hung=len(in_flight.hung),
            hung_in_streak=len(in_flight.hung_in_streak),
            durations_count=self.config.slow_call_duration is not None,
        )

    # ---------------------------------------------------------------- result counting

    def settle_once(self, call: InFlightCall, now: float) -> bool:
        """Settle a call; return whether its result counts: it is the first, and of the present era."""
        # Before it is settled: an exception in between must not leave a settled call in a probe's place.
        self.in_flight.remove(call)
        if not call.settle():
            return False
        call.ended_at = now
        if call.era is None or call.era.state is DISABLED:
            return False
        if call.era is not self.era:
            self.record_late(call.latency(now), now)
            return False
        return True

    def record_success(self, now: float, duration: float | None) -> None:
        """Count a success of this era."""
        if self.emits_call_events:  # also checked in `notify_call_ended`; this saves most circuits a Python call
            self.notify_call_ended(Outcome.SUCCESS, duration, None, now)
        results, slow = self.results, self._is_slow(duration)
        if not self.records_results:
            results.successes += 1
            self.probes.succeed(slow)
            self._evaluate_probes(now)
            return
        results.add_success(now, slow=slow)
        self._end_hung_streak()
        window = results.window
        if window.failures or slow or window.slow or self.in_flight.hung or self.warned:
            self.evaluate_rules(now)

    def record_successes(self, now: float, count: int) -> None:
        """Count successes of a closed circuit whose durations were not measured."""
        if count:
            self.results.add_successes(now, count)
            self._end_hung_streak()
            self.evaluate_rules(now)

    def record_failure(self, now: float, failure: Failure, duration: float | None, extends_streak: bool = True) -> None:
        """Count a failure of this era. Without `extends_streak`, it is no part of the present run of failures."""
        results = self.results
        results.count_failure(failure.kind, failure.message, self.wall_clock(), duration)
        if self.emits_call_events:
            self.notify_call_ended(Outcome.FAILURE, duration, failure.kind, now)
        if not self.records_results:
            self._record_failed_probe(now, failure)
            return
        results.add_failure(now, failure.weight, slow=self._is_slow(duration), extends_streak=extends_streak)
        if failure.trip:
            self._trip_or_warn(now, RuleBroken(Cause.TRIPPED, f"tripped by {failure.kind}"), failure.cooldown)
        else:
            self.evaluate_rules(now, failure.cooldown)

    def _record_failed_probe(self, now: float, failure: Failure) -> None:
        reason = failure.describe("a probe failed")
        self.probes.fail(Cause.PROBE_FAILED, reason)
        if failure.trip:
            self._enter_open(now, Cause.PROBE_FAILED, reason, failure.cooldown)
        else:
            self._evaluate_probes(now, failure.cooldown)

    def _record_expired_probe(self, due: float, now: float, latency: float | None, timeout: float) -> None:
        """Count a probe whose timeout ran out at `due`, which is noticed `now`."""
        reason = f"a probe made no progress for {timeout:g} s"
        wall_time = self.wall_clock() - (now - due)
        self.results.count_failure(Cause.PROBE_EXPIRED.value, reason, wall_time, latency)
        self.notify_call_ended(Outcome.FAILURE, latency, Cause.PROBE_EXPIRED, due)
        self.probes.fail(Cause.PROBE_EXPIRED, reason)
        self._evaluate_probes(due)

    def record_late(self, duration: float | None, now: float) -> None:
        """Count the end of a call from an earlier era, which changes nothing else."""
        self.results.late += 1
        self.notify_call_ended(Outcome.LATE, duration, None, now)

    def record_ignored(self, call: InFlightCall, now: float) -> None:
        """Count the end of a call that says nothing about the provider."""
        self.results.ignored += 1
        self.notify_call_ended(Outcome.IGNORED, call.latency(now), None, now)

    def _is_slow(self, duration: float | None) -> bool:
        limit = self.config.slow_call_duration
        return limit is not None and duration is not None and duration >= limit

    def _end_hung_streak(self) -> None:
        """End the present run of failures for calls that hang already: one that comes back is no sign of trouble."""
        if self.in_flight.hung_in_streak:
            self.in_flight.hung_in_streak.clear()

    # ---------------------------------------------------------------- timers

    # No timer runs by itself: a thread or an event loop for it would need an owner, and would not survive a fork.
    # The next caller runs what is due, as of the time at which it was due, so results do not depend on the traffic.

    def run_timers(self, now: float) -> None:
        """Mark calls that hang, and expire probes, that became due by `now`."""
        if self.state is HALF_OPEN:
            self._expire_probes(now)
        elif (threshold := self.hang_threshold.seconds(self.config)) is not None:
            self._mark_hung_calls(now, threshold)

    def expire_state(self, now: float) -> None:
        """Leave a state whose time is over, for a caller that arrived."""
        match self.state:
            case CircuitState.CLOSED:
                self.state_until = None  # `ramp_up` is over
            case CircuitState.OPEN:
                self.transition(HALF_OPEN, now, Cause.COOLDOWN_OVER, "the cooldown is over")
            case CircuitState.FORCED_OPEN:
                self.transition(HALF_OPEN, now, Cause.DURATION_OVER, "the duration of forced open is over")
            case _:
                reason = f"the duration of {self.state.value} is over"
                self._enter_closed(now, Cause.DURATION_OVER, reason)

    def _mark_hung_calls(self, now: float, threshold: float) -> None:
        in_flight = self.in_flight
        while (oldest := in_flight.oldest()) is not None:
            self.next_timer_at = due = oldest.last_progress_at + threshold
            if due > now:
                return
            in_flight.mark_hung(oldest)
            self.evaluate_rules(due)
            if oldest.era is not self.era:  # the calls that hang opened the circuit
                self.results.remember_hung_calls(in_flight.hung, due, self.wall_clock() - (now - due))
                return
        self.next_timer_at = NEVER

    def _expire_probes(self, now: float) -> None:
        """Fail the probes without progress; a stream that delivered and waits for its consumer has succeeded."""
        timeout = self.probe_timeout
        for due, call in self.in_flight.probe_deadlines(timeout, self.config.stream_probe_success_after):
            if self.state is not HALF_OPEN:
                return
            if due > now:
                self.next_timer_at = due
                return
            succeeded = call in self.in_flight.paused
            self.settle_once(call, due)
            if succeeded:
                self.record_success(due, call.latency(due))
            else:
                self._record_expired_probe(due, now, call.latency(due), timeout)
        if self.state is HALF_OPEN:
            self.next_timer_at = NEVER

    # ---------------------------------------------------------------- manual control

    def force(self, now: float, state: CircuitState, reason: str, duration: float | None) -> None:
        """Set a manual state until it is released, or for a duration in seconds."""
        self.run_timers(now)
        until = None if duration is None else now + duration
        if self.state is not state:
            results = self.results.with_empty_window(self.config, now)
            self.transition(state, now, Cause.MANUAL, reason, until, outage_started_at=None, results=results)
        self.reason, self.state_until = reason, until

    def close(self, now: float, cause: Cause, reason: str, **fields: Any) -> None:
        """Close from any state and empty the window. `fields` are attributes that change together with it."""
        self.run_timers(now)
        if self.state is not CLOSED:
            self._enter_closed(now, cause, reason, **fields)
            return
        results = self.results.with_empty_window(self.config, now)
        changed = {**self._new_era(CLOSED), "results": results, "state_until": None, **fields}
        self._commit(changed, _notifications.circuit_reset(now, name=self.name, reason=reason))

    def reset(self, now: float, reason: str) -> None:
        """Close as if new: with an empty window and the first cooldown of the backoff."""
        cooldown = self.cooldown.copy()
        cooldown.reset()
        self.close(now, Cause.RESET, reason, cooldown=cooldown)

    # ---------------------------------------------------------------- decisions from outside

    def trip(self, now: float, reason: str, cooldown: float | None, level: int | None) -> bool:
        """Open the circuit, or keep it open for so many seconds from now; return whether it is open by this."""
        self.run_timers(now)
        match self.state:
            case CircuitState.CLOSED | CircuitState.HALF_OPEN:
                self._enter_open(now, Cause.ADOPTED, reason, cooldown, level)
            case CircuitState.OPEN if cooldown is not None and now + cooldown > (self.state_until or ALWAYS):
                prolonged = self.cooldown.copy()
                prolonged.restore(self.config, self.cooldown.level if level is None else level, cooldown)
                self._commit({"state_until": now + cooldown, "opened_at": now, "cooldown": prolonged}, None)
            case CircuitState.MONITORING:
                self._trip_or_warn(now, RuleBroken(Cause.ADOPTED, reason))
                return False
            case _:
                return False
        return True

    def recover(self, now: float, reason: str) -> bool:
        """Close the circuit as successful probes would; return whether it was open or half-open."""
        self.run_timers(now)
        if self.state not in (OPEN, HALF_OPEN):
            return False
        self._enter_closed(now, Cause.ADOPTED, reason)
        return True

    def grant_probe(self, now: float, until: float) -> None:
        """Admit probes only before `until`."""
        self.run_timers(now)
        self.probes_until = until

    # ---------------------------------------------------------------- reconfiguration

    def update(self, now: float, config: CircuitBreakerConfig) -> None:
        """Replace the configuration, keep the results, and evaluate them at once.

        A running cooldown and a running `ramp_up` are measured anew from their beginning.
        """
        self.run_timers(now)
        before, results = self.config, self.results.with_config(self.config, config, now)
        fields = {"config": config, "results": results, **derive_settings(config, self.emits_call_events)}
        self._commit(fields, _notifications.config_changed(now, name=self.name, before=before, after=config))
        self._refresh_hang_detection(now)
        match self.state:
            case CircuitState.OPEN if self.opened_at is not None:
                self.state_until = self.opened_at + self.cooldown.seconds(config)
            case CircuitState.HALF_OPEN:
                self._evaluate_probes(now)
            case CircuitState.CLOSED | CircuitState.MONITORING:
                if self.state is CLOSED and self.state_until is not None:
                    self.state_until = self._end_of_ramp_up(self.closed_at, now)
                self.evaluate_rules(now)

    def set_call_events(self, enabled: bool) -> None:
        """Emit an event for each call, or stop doing so. Lock-free successes emit none, so they end while wanted."""
        self._commit(derive_settings(self.config, enabled), None)

    def _refresh_hang_detection(self, now: float) -> None:
        """Derive from the configuration which calls hang. Idempotent."""
        threshold = self.hang_threshold.seconds(self.config)
        self.tracks_calls = self.state is HALF_OPEN or (self.records_results and threshold is not None)
        self.next_timer_at = ALWAYS if self.tracks_calls else NEVER
        if self.state is not HALF_OPEN:
            self.in_flight.reclassify(now, threshold)

    # ---------------------------------------------------------------- notifications

    def notify(self, notification: Notification) -> None:
        """Append a notification behind those not yet delivered."""
        if self.notifications is None:
            self.notifications = deque()
        self.notifications.append(notification)

    def notify_call_ended(self, outcome: Outcome, duration: float | None, error: str | None, at: float) -> None:
        """Report the end of a call, if a listener wants an event of each."""
        if self.emits_call_events:
            self.notify(_notifications.call_recorded(at, self.name, outcome, duration, error))

    def notify_call_refused(self, reason: str, retry_after: float | None, at: float) -> None:
        """Report a refusal, if a listener wants an event of each call."""
        if self.emits_call_events:
            self.notify(_notifications.call_refused(at, self.name, self.state, reason, retry_after))


def derive_settings(config: CircuitBreakerConfig, emit_call_events: bool) -> dict[str, Any]:
    """Return the machine's attributes that follow from its configuration, computed once instead of at every call.

    While a listener wants an event of each call (`emit_call_events`), no success may go uncounted.
    """
    needs_clock = not (
        config.hung_after is None and config.slow_call_duration is None and config.window_seconds is None
    )
    return {
        "emits_call_events": emit_call_events,
        "lock_free_allowed": not (needs_clock or config.failure_result is not None or emit_call_events),
        "quiet_allowed": config.slow_call_duration is None and not emit_call_events,
    }
