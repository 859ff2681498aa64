"""A circuit's state across a restart, as JSON-ready values.

Durations are what remains of them: a clock from before a restart means nothing after it. Probes die with their
process, so a half-open circuit comes back open with its cooldown over: the next caller probes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from steadyvoice.breaker import checks
from steadyvoice.breaker.history import History, time_of_day
from steadyvoice.breaker.moving import go
from steadyvoice.breaker.rules import Verdict
from steadyvoice.breaker.states import Cause, CircuitState
from steadyvoice.breaker.window import Run, window_for

if TYPE_CHECKING:
    from steadyvoice.breaker.machine import Machine

VERSION = 1


def saved(machine: Machine, history: History, now: float, wall: float) -> dict[str, Any]:
    """What a new machine needs to go on from here. `opened_at` is a time of day, in seconds since 1970."""
    return {
        "version": VERSION,
        "name": machine.name,
        "state": machine.state.value,
        "reason": machine.reason,
        "remaining": None if machine.until is None else max(0.0, machine.until - now),
        "level": machine.cooldown.level,
        "opened_at": history.opened,
        "streak": machine.streak,
        "window": [list(run) for run in machine.window.runs(now)],
    }


def restore(now: float, machine: Machine, state: Mapping[str, Any]) -> None:
    """Go on from there. Raises ValueError for values that no export has; the machine is untouched then."""
    try:
        if _number(state["version"]) != VERSION:
            raise ValueError(f"version {state['version']!r}, not {VERSION}")
        to = CircuitState(state["state"])
        remaining = _seconds(state["remaining"])
        runs = [_run(*run) for run in state["window"]]
        streak, level = _at_least_zero(state["streak"]), int(_number(state["level"]))
        opened = _wall(state.get("opened_at"))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"not an exported circuit: {error!r}") from error
    if to in (CircuitState.OPEN, CircuitState.HALF_OPEN):
        to, remaining = CircuitState.OPEN, remaining or 0.0
    machine.window = window_for(machine.config, now, runs)
    machine.streak = streak
    cooldown = machine.cooldown.copy()
    cooldown.restore(machine.config, max(level, -1), remaining if to is CircuitState.OPEN else None)
    reason, until = str(state.get("reason", "")), None if remaining is None else now + remaining
    opened_at = now if to is CircuitState.OPEN else None
    fields = {"cooldown": cooldown, "opened_at": opened_at, "outage_at": opened_at}
    verdict = Verdict(Cause.RESTORED, reason)
    go(machine, to, now, verdict, until, **fields)  # the table of ways does not apply to a new life
    if machine.news:
        machine.news[-1].opened = opened


def aged(state: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """An export as it is after so many seconds in which nobody ran. Raises ValueError for what is none."""
    try:
        remaining = state["remaining"]
        window = [[*run[:-1], run[-1] + seconds] for run in state["window"]]
        left = None if remaining is None else max(0.0, remaining - seconds)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not an exported circuit: {error!r}") from error
    return {**state, "remaining": left, "window": window}


def _run(calls: object, failed: object, failures: object, slow: object, age: object) -> Run:
    run = Run(int(_number(calls)), int(_number(failed)), _number(failures), int(_number(slow)), _number(age))
    if min(run) < 0 or max(run.failed, run.slow) > run.calls or run.failures > run.failed:
        raise ValueError(f"{run} does not add up")
    return run


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    return _at_least_zero(value)


def _wall(value: object) -> float | None:
    """A time of day that can be shown; exports from before it was kept have none."""
    if value is None:
        return None
    number = _number(value)
    time_of_day(number)
    return number


def _at_least_zero(value: object) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError(f"{number} is less than nothing")
    return number


def _number(value: object) -> float:
    if not checks.is_finite(value):
        raise ValueError(f"{value!r} is not a number")
    return value
