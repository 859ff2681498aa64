"""New settings over the same evidence, judged at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steadyvoice.breaker import news
from steadyvoice.breaker.judging import judge, judge_probes
from steadyvoice.breaker.moving import ALWAYS, NEVER, commit, end_of_ramp
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
    before, fields = machine.config, {"config": config, **heeded(config, machine.watched)}
    if (before.window_size, before.window_seconds) != (config.window_size, config.window_seconds):
        fields["window"] = window_for(config, now, machine.window.runs(now))
    commit(machine, fields, news.changed(machine, config, now))
    heed_hanging(machine, now)
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
    commit(machine, heeded(machine.config, watched), None)


def heeded(config: CircuitBreakerConfig, watched: bool) -> dict[str, Any]:
    """Return the machine's fields that follow from its settings."""
    timeless = config.hung_after is None and config.slow_call_duration is None
    rule = config.rule
    return {
        "watched": watched,
        "plain": timeless and config.window_seconds is None and config.failure_result is None and not watched,
        "rule": rule,
        "minimums": minimums(rule),
        "slow_share": slow_share(rule),
        "learns": any(isinstance(part, UnlikelyFailures) for part in rule.parts()),
    }


def heed_hanging(machine: Machine, now: float) -> None:
    """Take from the settings which calls hang. Doing so again changes nothing."""
    patience = machine.patience.seconds(machine.config)
    machine.tracking = machine.state is HALF_OPEN or (machine.counting and patience is not None)
    machine.due = ALWAYS if machine.tracking else NEVER
    if machine.state is not HALF_OPEN:
        machine.flights.sort_anew(now, patience)
