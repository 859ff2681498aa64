"""Checks of settings and arguments: each passes, or raises an error that names the field and the reason."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, TypeGuard

from steadyvoice.breaker.errors import CircuitArgumentError, CircuitConfigError, brief

MOST = 1_000_000_000
"""Largest count that is accepted. Beyond what a float holds, rates could not be computed."""


def present(field: str, check: Callable[[str, object], None], value: object) -> None:
    if value is None:
        raise CircuitConfigError(field, None, "must be given: there is no circuit without it")
    check(field, value)


def rate(field: str, value: object) -> None:
    if value is None:
        return
    if field == "failure_threshold" and isinstance(value, int) and not isinstance(value, bool) and value > 1:
        reason = (
            "must be a rate above 0 and at most 1; to open after so many failures in a row, use "
            f'CircuitBreakerConfig.consecutive({brief(value)}), in a file preset = "consecutive"'
        )
        raise CircuitConfigError(field, value, reason)
    within(field, value, 0, 1, "must be a rate above 0 and at most 1")
    if value == 0:
        raise CircuitConfigError(field, value, "must be above 0: a rate of 0 is reached without any failure")


def chance(field: str, value: object) -> None:
    if value is None:
        return
    within(field, value, 0, 1, "must be a chance between 0 and 1")
    if value in (0, 1):
        raise CircuitConfigError(field, value, "must lie between 0 and 1: at 0 it never opens, at 1 always")


def duration(field: str, value: object) -> None:
    if value is None:
        return
    within(field, value, 0, math.inf, "must be seconds, more than 0")
    if value == 0:
        raise CircuitConfigError(field, value, "must be seconds, more than 0")


def cooldown(field: str, value: object) -> None:
    within(field, value, 0, math.inf, "must be seconds, 0 or more; with 0, the next caller is a probe")


def multiple(field: str, value: object) -> None:
    if value is not None:
        within(field, value, 1, math.inf, "must be 1 or more: less would be impatient with what just worked")


def count(field: str, value: object, *, least: int = 1) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise CircuitConfigError(field, value, "must be a whole number")
    if value < least:
        raise CircuitConfigError(field, value, f"must be {least} or more")
    if value > MOST:
        raise CircuitConfigError(field, value, f"must be at most {MOST}")


def within(field: str, value: object, low: float, high: float, reason: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CircuitConfigError(field, value, f"{reason}; not a {type(value).__name__}")
    if not is_finite(value):
        raise CircuitConfigError(field, value, f"{reason}; not {brief(value)}")
    if not low <= value <= high:
        raise CircuitConfigError(field, value, reason)


def seconds_of(value: object) -> Any:
    """Return a timedelta in seconds, and anything else as it is. Loads no module that the caller has not loaded."""
    datetime = sys.modules.get("datetime")
    if datetime is not None and isinstance(value, datetime.timedelta):
        return value.total_seconds()
    return value


def span(field: str, value: object, hint: str) -> float | None:
    """Return a duration given as an argument in seconds, None when it is absent.

    Raises CircuitArgumentError or CircuitConfigError, both ValueErrors. `hint` says what None means.
    """
    seconds = seconds_of(value)
    if seconds is None:
        return None
    reason = f"must be seconds, 0 or more, or a timedelta; {hint}"
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise CircuitArgumentError(field, value, reason)
    if not is_finite(seconds) or seconds < 0:
        raise CircuitConfigError(field, value, reason)
    return seconds


def weight(value: object) -> float:
    """Return a failure's weight. Raises CircuitArgumentError or CircuitConfigError, both ValueErrors."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CircuitArgumentError("weight", value, "must be a number above 0 and at most 1")
    if not 0 < value <= 1:
        raise CircuitConfigError("weight", value, "must be above 0 and at most 1")
    return value


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float can hold; a whole number may be too large for one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max
