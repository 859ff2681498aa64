"""New settings over the same evidence, judged at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadyvoice.breaker import news
from steadyvoice.breaker.judging import judge, judge_probes
from steadyvoice.breaker.moving import ALWAYS, NEVER, end_of_ramp
from steadyvoice.breaker.overdue import advance
from steadyvoice.breaker.rules import UnlikelyFailures, minimums, slow_share
from steadyvoice.breaker.states import CLOSED, HALF_OPEN, CircuitState
from steadyvoice.breaker.window import window_for

if TYPE_CHECKING:
    from steadyvoice.breaker.config import CircuitBreakerConfig
    from steadyvoice.breaker.machine import Machine


def update(now: float, machine: Machine, config: CircuitBreakerConfig) -> None:
    """Go by other settings from now on; a running cooldown and a gentle return are measured anew."""
    advance(machine, now)
    before, machine.config = machine.config, config
    if (before.window_size, before.window_seconds) != (config.window_size, config.window_seconds):
        machine.window = window_for(config, now, machine.window.runs(now))
    news.changed(machine, before, now)
    heed(machine, machine.watched)
    _heed_hanging(machine, now)
    match machine.state:
        case CircuitState.OPEN if machine.opened_at is not None:
            machine.until = machine.opened_at + machine.cooldown.current(config)
        case CircuitState.HALF_OPEN:
            judge_probes(machine, now)
        case CircuitState.CLOSED | CircuitState.MONITORING:
            if machine.state is CLOSED and machine.until is not None:
                machine.until = end_of_ramp(machine, machine.closed_at, now)
            judge(machine, now)


def heed(machine: Machine, watched: bool) -> None:
    """Take from the settings what is asked at every call.

    `watched` is whether anybody wants an event for each; if so, no success may go uncounted.
    """
    config = machine.config
    timeless = config.hung_after is None and config.slow_call_duration is None
    machine.watched = watched
    machine.plain = timeless and config.window_seconds is None and config.failure_result is None and not watched
    machine.rule = config.rule
    machine.minimums = minimums(machine.rule)
    machine.slow_share = slow_share(machine.rule)
    machine.learns = any(isinstance(part, UnlikelyFailures) for part in machine.rule.parts())


def _heed_hanging(machine: Machine, now: float) -> None:
    patience = machine.patience.seconds(machine.config)
    machine.tracking = machine.state is HALF_OPEN or (machine.counting and patience is not None)
    machine.due = ALWAYS if machine.tracking else NEVER
    if machine.state is not HALF_OPEN:
        machine.flights.sort_anew(now, patience)
