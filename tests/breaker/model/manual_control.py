"""Manual control of the model: other states, other settings, another process."""

from __future__ import annotations

from math import inf

from steadyvoice.breaker import Cause, CircuitBreakerConfig, CircuitState
from steadyvoice.breaker.states import CLOSED, HALF_OPEN, MONITORING, OPEN
from tests.breaker.model.model import Model
from tests.breaker.model.records import averaged_by_bucket


def force(model: Model, state: CircuitState, now: float, duration: float | None) -> None:
    model.advance(now)
    until = None if duration is None else now + duration
    if model.state is not state:
        model.enter(state, now, Cause.MANUAL, until)
        model.results, model.streak, model.run, model.outage_at = [], 0.0, [], None
    model.until = until


def close(model: Model, now: float, cause: Cause = Cause.MANUAL) -> None:
    model.advance(now)
    if cause is Cause.RESET:
        model.cooldown.forget()
    if model.state is not CLOSED:
        model.close(now, cause)
    else:
        model.begin_era(CLOSED)
        model.results, model.streak, model.run, model.until = [], 0.0, [], None
        model.events.append(("reset", now))


def update(model: Model, config: CircuitBreakerConfig, now: float) -> None:
    model.advance(now)
    kept, was_timed = model.window(now), model.config.window_seconds is not None
    resized = (config.window_size, config.window_seconds) != (model.config.window_size, model.config.window_seconds)
    model.config = config
    if resized:
        model.results = []
        # Windows of time keep totals of each bucket, so results lose their order within it.
        for r in averaged_by_bucket(kept) if was_timed and config.window_seconds is None else kept:
            model.add(r.at if was_timed else now, r.weight, r.slow)
    model.events.append(("updated", now))
    if model.state is HALF_OPEN:
        model.judge_probes(now)
        return
    for call in model.out:
        patience = inf if config.hung_after is None else config.hung_after
        call.hung = not call.held and call.since + patience <= now
        call.excused = call.excused and call.hung
    if model.state is OPEN and model.opened_at is not None:
        model.until = model.opened_at + model.cooldown.seconds(config)
    elif model.state in (CLOSED, MONITORING):
        if model.state is CLOSED and model.until is not None:
            model.ramp_up(model.closed_at, now)
        model.judge(now)


def restart(model: Model, now: float) -> None:
    """Exported, and restored in a new life of the same settings."""
    remaining = None if model.until is None else max(0.0, model.until - now)
    # Probes end with their process.
    state = OPEN if model.state is HALF_OPEN else model.state
    kept, streak, run, level = model.window(now), model.streak, model.run, model.cooldown.level
    # When the outage began is shown across a restart; all other times begin anew.
    shown_at = model.shown_at
    Model.__init__(model, model.config, now, model.cooldown.random, model.watched)
    model.results, model.streak, model.run = kept, streak, [streak] if run else []
    model.cooldown.continue_at(model.config, level)
    if state is OPEN:
        model.cooldown.named = remaining = remaining or 0.0
        model.opened_at = model.outage_at = now
    if state is not CLOSED:
        model.enter(state, now, Cause.RESTORED, None if remaining is None else now + remaining)
    elif remaining is not None:
        model.until = now + remaining
    model.shown_at = shown_at
