"""Calls in the model: begin, progress, end."""

from __future__ import annotations

from steadyvoice.breaker import Cause, Outcome
from steadyvoice.breaker.states import CLOSED, DISABLED, FORCED_OPEN, HALF_OPEN, MONITORING, OPEN
from tests.breaker.model.model import Model
from tests.breaker.model.records import Call
from tests.breaker.model.rules import largest_minimum_of_calls


def begin(model: Model, now: float) -> Call | None:
    """Begin a call as `call` does: without a clock, while a success could change nothing."""
    c, window = model.config, model.window(now)
    timed = c.hung_after or c.slow_call_duration or c.window_seconds or model.watched
    judged = len(window) >= largest_minimum_of_calls(model.rule) or not any(r.weight for r in window)
    if model.state in (CLOSED, MONITORING) and model.until is None and judged and not timed:
        return Call(model.era, False, None, 0.0)
    return admit(model, now)


def admit(model: Model, now: float) -> Call | None:
    model.advance(now)
    if model.until is not None and now >= model.until:
        model.time_is_up(now)
    full = model.state is HALF_OPEN and len(model.out) >= model.config.half_open_max_calls
    if full or model.state in (OPEN, FORCED_OPEN) or model.is_held_back(now):
        model.totals["refused"] += 1
        model.tell_of_call("refused", model.state, model.retry_after(now), now)
        return None
    call = Call(model.era, model.state is DISABLED, now, now)
    if model.watching:
        model.out.append(call)
    return call


def succeed(model: Model, call: Call, now: float, duration: float | None = None) -> None:
    model.advance(now)
    model.count_success(call, now, call.duration(now) if duration is None else duration)


def fail(
    model: Model,
    call: Call,
    now: float,
    error: str,
    duration: float | None = None,
    weight: float = 1.0,
    cooldown: float | None = None,
    trip: bool = False,
) -> None:
    model.advance(now)
    duration = call.duration(now) if duration is None else duration
    model.relent(now)
    if not model.counts(call, Outcome.FAILURE, duration, error, now):
        return
    model.last_error = error, now, duration
    if model.state is HALF_OPEN:
        model.failed_probes.append(Cause.PROBE_FAILED)
        if trip:
            model.open(now, Cause.PROBE_FAILED, cooldown)
        else:
            model.judge_probes(now, cooldown)
        return
    limit = model.config.slow_call_duration
    model.streak += weight
    model.run.append(weight)
    model.add(now, weight, limit is not None and duration is not None and duration >= limit)
    # A failure that names itself decisive needs no rule.
    if trip:
        model.condemn(now, Cause.TRIPPED, cooldown)
    else:
        model.judge(now, cooldown)


def ignore(model: Model, call: Call, now: float) -> None:
    model.advance(now)
    drop(model, call, now)


def drop(model: Model, call: Call, now: float) -> None:
    if not call.settled:
        model.settle(call)
        if not call.disabled:
            model.totals[Outcome.IGNORED] += 1
            model.tell_of_call("call", Outcome.IGNORED, call.duration(now), None, now)


def abandon(model: Model, call: Call, now: float, weight: float = 1.0) -> None:
    model.advance(now)
    if call.hung and call in model.out:
        keep_failure(model, call, now, weight)
    elif call.useful is None:
        ignore(model, call, now)
    else:
        succeed(model, call, now)


def keep_failure(model: Model, call: Call, now: float, weight: float) -> None:
    """Turn a hanging call whose caller left into a failure, in the run only if no success came since."""
    model.relent(now)
    # A success since it began to hang has ended the run that it would belong to.
    in_a_row, duration = not call.excused, call.duration(now)
    model.counts(call, Outcome.FAILURE, duration, "hanging", now)
    model.last_error = "hanging", now, duration
    limit = model.config.slow_call_duration
    if in_a_row:
        model.streak += weight
        model.run.append(weight)
    model.add(now, weight, limit is not None and duration is not None and duration >= limit)
    model.judge(now)


def progress(model: Model, call: Call, now: float, held: bool = False) -> None:
    model.advance(now)
    call.useful = now if call.useful is None else call.useful
    _live(model, call, now, held)
    if model.state is HALF_OPEN and now - call.useful >= model.config.stream_probe_success_after:
        succeed(model, call, now)


def suspend(model: Model, call: Call, now: float) -> None:
    model.advance(now)
    _live(model, call, now, held=True)


def resume(model: Model, call: Call, now: float) -> None:
    model.advance(now)
    _live(model, call, now, held=False)


def _live(model: Model, call: Call, now: float, held: bool) -> None:
    if model.watching and not call.settled and call.era is model.era:
        model.out = [*(c for c in model.out if c is not call), call]
        # Calls that become due together are handled in the order of their last sign of life.
        call.since, call.held, call.hung, call.excused = now, held, False, False
