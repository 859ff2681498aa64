"""Saved state of a circuit: export and restore across a restart, as JSON-ready values.

Durations are exported as what remains of them: a monotonic clock from before a restart means nothing after it. Probes
end with their process, so a half-open circuit is restored as open with its cooldown over: the next caller probes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steadyvoice._option_rules import is_finite
from steadyvoice.breaker._notifications import TransitionHistory, to_datetime
from steadyvoice.breaker.sliding_window import ResultRun, window_for
from steadyvoice.breaker.state_machine import StateMachine
from steadyvoice.breaker.states import Cause, CircuitState

VERSION = 1


def export_state(machine: StateMachine, history: TransitionHistory, now: float, wall_time: float) -> dict[str, Any]:
    """Return what a new machine needs to continue. `opened_at` is a time of day, in seconds since 1970."""
    return {
        "version": VERSION,
        "name": machine.name,
        "state": machine.state.value,
        "reason": machine.reason,
        "remaining": None if machine.state_until is None else max(0.0, machine.state_until - now),
        "level": machine.cooldown.level,
        "opened_at": history.opened_wall_time,
        "streak": machine.results.streak,
        "window": [list(run) for run in machine.results.window.runs(now)],
    }


def restore_state(machine: StateMachine, now: float, state: Mapping[str, Any]) -> None:
    """Continue from an exported state. Raises ValueError for any other values, and changes nothing then."""
    try:
        if _number(state["version"]) != VERSION:
            raise ValueError(f"version {state['version']!r}, not {VERSION}")
        to = CircuitState(state["state"])
        remaining = _optional_seconds(state["remaining"])
        runs = [_run(*run) for run in state["window"]]
        streak, level = _not_negative(state["streak"]), int(_number(state["level"]))
        opened_wall_time = _optional_wall_time(state.get("opened_at"))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"not an exported circuit state: {error!r}") from error
    if to in (CircuitState.OPEN, CircuitState.HALF_OPEN):
        to, remaining = CircuitState.OPEN, remaining or 0.0
    machine.results.window = window_for(machine.config, now, runs)
    machine.results.streak = streak
    cooldown = machine.cooldown.copy()
    cooldown.restore(machine.config, max(level, -1), remaining if to is CircuitState.OPEN else None)
    reason, until = str(state.get("reason", "")), None if remaining is None else now + remaining
    opened_at = now if to is CircuitState.OPEN else None
    # Not `transition`: the table of transitions holds within one process, and a restored circuit may begin anywhere.
    machine.enter_state(
        to, now, Cause.RESTORED, reason, until, cooldown=cooldown, opened_at=opened_at, outage_started_at=opened_at
    )
    if machine.notifications:
        machine.notifications[-1].opened_wall_time = opened_wall_time


def age_exported_state(state: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return an exported state as it is after so many seconds without a process. Raises ValueError for other values."""
    try:
        remaining = state["remaining"]
        window = [[*run[:-1], run[-1] + seconds] for run in state["window"]]
        remaining_now = None if remaining is None else max(0.0, remaining - seconds)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not an exported circuit state: {error!r}") from error
    return {**state, "remaining": remaining_now, "window": window}


def _run(calls: object, failed: object, failures: object, slow: object, age: object) -> ResultRun:
    run = ResultRun(int(_number(calls)), int(_number(failed)), _number(failures), int(_number(slow)), _number(age))
    if min(run) < 0 or max(run.failed, run.slow) > run.calls or run.failures > run.failed:
        raise ValueError(f"{run} does not add up")
    return run


def _optional_seconds(value: object) -> float | None:
    if value is None:
        return None
    return _not_negative(value)


def _optional_wall_time(value: object) -> float | None:
    """Return a time of day that can be shown; exports of earlier versions have none."""
    if value is None:
        return None
    number = _number(value)
    to_datetime(number)
    return number


def _not_negative(value: object) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number


def _number(value: object) -> float:
    if not is_finite(value):
        raise ValueError(f"{value!r} is not a number")
    return value
