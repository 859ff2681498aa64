"""Life of one call in the state machine: admission, progress, and its end as success, failure or ignored.

Every function requires the machine's external locking and takes the time as `now`.
"""

from __future__ import annotations

from typing import NamedTuple

from steadyvoice.breaker.errors import RecordedFailure
from steadyvoice.breaker.failure_classification import Failure, hung_failure
from steadyvoice.breaker.in_flight_calls import NO_LATENCIES, Era, InFlightCall
from steadyvoice.breaker.rules import pluralize
from steadyvoice.breaker.state_machine import ALWAYS, NEVER, StateMachine
from steadyvoice.breaker.states import CLOSED, DISABLED, FORCED_OPEN, HALF_OPEN, OPEN, CircuitState


class CallRefusal(NamedTuple):
    """Reason why a call is refused; `retry_after` in seconds, None where it is unknown."""

    state: CircuitState
    reason: str
    retry_after: float | None
    last_error: RecordedFailure | None


# ---------------------------------------------------------------- admission


def admit(machine: StateMachine, now: float, call: InFlightCall) -> CallRefusal | None:
    """Admit a call; return the refusal if it is not admitted.

    The caller made the call object before and drops it on any exception. So one that a signal handler raises on the way
    back from here cannot lose a call that occupies one of the few places of a half-open circuit.
    """
    if now >= machine.next_timer_at:
        machine.run_timers(now)
    if machine.state_until is not None:
        if now >= machine.state_until:
            if not machine.lacks_grant(now):
                machine.expire_state(now)
        elif machine.state is CLOSED and not _ramp_up_admits(machine, now):
            return _refuse(machine, now)
    if not machine.records_results and (machine.is_full or machine.lacks_grant(now)):
        return _refuse(machine, now)
    call.admit(machine.era, now)
    if machine.tracks_calls:
        _track(machine, call)
    return None


def _ramp_up_admits(machine: StateMachine, now: float) -> bool:
    """Return whether the next call is admitted after a recovery: evenly spread, as many as the time since allows."""
    machine.ramp_up_credit += machine.admitted_share(now)
    if machine.ramp_up_credit < 1:
        return False
    machine.ramp_up_credit -= 1
    return True


def _refuse(machine: StateMachine, now: float) -> CallRefusal:
    machine.refused += 1
    reason, retry_after = _refusal_reason(machine, now), machine.retry_after(now)
    machine.notify_call_refused(reason, retry_after, now)
    return CallRefusal(machine.state, reason, retry_after, machine.last_error)


def _refusal_reason(machine: StateMachine, now: float) -> str:
    match machine.state:
        case CircuitState.HALF_OPEN if machine.lacks_grant(now):
            return "no probe is granted at present"
        case CircuitState.HALF_OPEN:
            return f"{machine.in_flight_count} of {pluralize(machine.config.half_open_max_calls, 'probe')} in flight"
        case CircuitState.CLOSED:
            return f"just recovered: {machine.admitted_share(now):.0%} of the calls are admitted"
        case _:
            return machine.reason


# ---------------------------------------------------------------- progress


def progress(machine: StateMachine, now: float, call: InFlightCall, paused: bool = False) -> None:
    """Record that something useful arrived; with `paused`, its consumer has it and the call's clocks stand still."""
    if now >= machine.next_timer_at:
        machine.run_timers(now)
    if machine.config.hung_factor is not None:
        _record_silence(machine, now, call)
    if call.first_output_at is None:
        call.first_output_at = now
    _restart_clocks(machine, now, call, paused)
    if machine.state is HALF_OPEN and now - call.first_output_at >= machine.config.stream_probe_success_after:
        succeed(machine, now, call)


def suspend(machine: StateMachine, now: float, call: InFlightCall) -> None:
    """Stop the call's clocks until `resume()`; this is no progress."""
    if now >= machine.next_timer_at:
        machine.run_timers(now)
    _restart_clocks(machine, now, call, paused=True)


def resume(machine: StateMachine, now: float, call: InFlightCall) -> None:
    """Restart the call's clocks: its consumer wants more."""
    if now >= machine.next_timer_at:
        machine.run_timers(now)
    _restart_clocks(machine, now, call, paused=False)


def _restart_clocks(machine: StateMachine, now: float, call: InFlightCall, paused: bool) -> None:
    if machine.tracks_calls and not call.settled and call.era is machine.era:
        machine.in_flight.remove(call)
        call.last_progress_at, call.paused = now, paused
        if paused:
            machine.in_flight.mark_paused(call)
            if machine.state is HALF_OPEN and call.first_output_at is not None:
                proven_at = call.first_output_at + machine.config.stream_probe_success_after
                machine.next_timer_at = min(machine.next_timer_at, proven_at)
        else:
            _track(machine, call)


def _track(machine: StateMachine, call: InFlightCall) -> None:
    """Watch a running call from now on: for the probes' timeout, or for hanging."""
    machine.in_flight.begin()[call] = call.last_progress_at
    if machine.state is HALF_OPEN:
        machine.next_timer_at = min(machine.next_timer_at, call.last_progress_at + machine.probe_timeout)
    elif machine.next_timer_at == NEVER and (threshold := machine.hang_threshold.seconds(machine.config)) is not None:
        # Only where no timer is set: otherwise it belongs to an older call, which hangs first.
        machine.next_timer_at = call.last_progress_at + threshold


def _record_silence(machine: StateMachine, now: float, call: InFlightCall) -> None:
    """Learn from a call's first progress how long a working provider is silent, late results included."""
    if call.first_output_at is not None or call.settled:
        return
    if machine.hang_threshold is NO_LATENCIES:
        machine.hang_threshold = NO_LATENCIES.copy()
    if machine.hang_threshold.record(now - call.last_progress_at):
        machine.next_timer_at = ALWAYS  # calls may hang sooner now


# ---------------------------------------------------------------- the end


def succeed(machine: StateMachine, now: float, call: InFlightCall, duration: float | None = None) -> None:
    """Settle a call that succeeded. `duration` in seconds is measured when it is None."""
    if now >= machine.next_timer_at:
        machine.run_timers(now)
    if machine.config.hung_factor is not None:
        _record_silence(machine, now, call)
    if machine.warned:
        machine.recheck_warning(now)
    if machine.settle_once(call, now):
        machine.record_success(now, call.latency(now) if duration is None else duration)


def fail(
    machine: StateMachine, now: float, call: InFlightCall, failure: Failure, duration: float | None = None
) -> None:
    """Settle a call that failed. `duration` in seconds is measured when it is None."""
    if now >= machine.next_timer_at:
        machine.run_timers(now)
    if machine.warned:
        machine.recheck_warning(now)
    if machine.settle_once(call, now):
        machine.record_failure(now, failure, call.latency(now) if duration is None else duration)


def fail_lock_free_call(machine: StateMachine, now: float, era: Era, failure: Failure) -> None:
    """Count the failure of a call for which no call object was made: it began while its era was lock-free."""
    if machine.warned:
        machine.recheck_warning(now)
    if era is machine.era:
        machine.record_failure(now, failure, None)
    else:
        machine.record_late(None, now)


def ignore(machine: StateMachine, now: float, call: InFlightCall) -> None:
    """Settle a call that says nothing about the provider: cancelled, dropped, or the caller's own mistake."""
    if now >= machine.next_timer_at:
        machine.run_timers(now)
    drop(machine, now, call)


def drop(machine: StateMachine, now: float, call: InFlightCall) -> None:
    """Ignore a call that ended at an unknown time, not by `now`: so no timers run for it."""
    machine.in_flight.remove(call)  # also if it is settled: a signal handler may have raised in between
    if call.settled:
        return
    call.settled = True
    if call.era is not None and call.era.state is not DISABLED:
        machine.record_ignored(call, now)


def abandon(machine: StateMachine, now: float, call: InFlightCall, weight: float = 1.0) -> None:
    """Settle a call whose consumer left.

    A call that hangs keeps the failure that it counts as already, by `weight`: that its caller gave up is no sign of
    life. Any other is a success if something useful had come, and ignored if nothing had.
    """
    if now >= machine.next_timer_at:
        machine.run_timers(now)
    if call in machine.in_flight.hung:
        _keep_hung_failure(machine, now, call, weight)
    elif call.first_output_at is None:
        drop(machine, now, call)
    else:
        succeed(machine, now, call)


def _keep_hung_failure(machine: StateMachine, now: float, call: InFlightCall, weight: float) -> None:
    """Turn the provisional failure of a hanging call into a permanent one."""
    if machine.warned:
        machine.recheck_warning(now)
    # A success since then took the call out of the run of failures. Otherwise ten callers who gave up, all of whose
    # calls began before the provider recovered, would open the circuit again.
    extends_streak = call in machine.in_flight.hung_in_streak
    failure, latency = hung_failure(now - call.last_progress_at, weight), call.latency(now)
    if machine.settle_once(call, now):
        machine.record_failure(now, failure, latency, extends_streak)


def admit_again(machine: StateMachine, now: float, call: InFlightCall) -> CallRefusal | None:
    """Admit a call whose quiet period was over before it could be sure of it; return the refusal otherwise."""
    machine.in_flight.remove(call)
    call.settled = True
    return admit(machine, now, call)


def settle_quiet_call(machine: StateMachine, now: float, era: Era, call: InFlightCall) -> None:
    """Finish the success of a call whose quiet period was over before it could be sure of it."""
    machine.in_flight.remove(call)
    record_quiet_results(machine, now, era)


def record_quiet_results(machine: StateMachine, now: float, era: Era) -> None:
    """Record the results that callers left in quiet periods of an era."""
    if era is machine.era:
        machine.record_quiet_results(now)
    elif results := era.quiet_results:
        for late in (results.ended, results.failed):
            for _ in range(len(late)):
                machine.record_late(None, now)
                del late[0]


def collect_lock_free_results(machine: StateMachine, now: float, era: Era) -> None:
    """Count the ticks that callers left on an era without the lock: refusals of an open one, results of any other."""
    first, remaining = era.collect_ticks()
    if not remaining:
        return
    if era.state in (OPEN, FORCED_OPEN):
        machine.refused += remaining
        return
    failed = [each for each in era.failed.copy() if each[1] < first + remaining]
    try:
        for (failure, wall_time), tick in failed:
            successes = max(0, tick - first)
            _count_successes(machine, now, era, successes)
            remaining -= successes + 1
            first = tick + 1
            if era is machine.era:
                machine.record_harmless_failure(now, failure, wall_time)
            else:
                machine.record_late(None, now)
            del era.failed[0]
        _count_successes(machine, now, era, remaining)
        remaining = 0
        if failed and era is machine.era:
            machine.evaluate_rules(now)
    except BaseException:
        era.return_ticks(remaining)  # a signal handler raised: thousands of calls may be among them
        raise


def _count_successes(machine: StateMachine, now: float, era: Era, successes: int) -> None:
    """Count successes of an era, and evaluate where one completed a minimum of calls: there it may open the circuit."""
    for minimum in machine.rules.minimum_call_counts:
        missing = minimum - machine.window.calls
        if era is machine.era and 0 < missing < successes:
            machine.record_successes(now, missing)
            successes -= missing
    if era is machine.era:
        machine.record_successes(now, successes)
    else:
        machine.late += successes
