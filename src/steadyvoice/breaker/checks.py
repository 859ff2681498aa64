"""What a setting must be to be taken: each check passes, or says which field cannot work and why."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import TypeGuard

from steadyvoice.breaker.errors import CircuitConfigError


def present(field: str, check: Callable[[str, object], None], value: object) -> None:
    if value is None:
        raise CircuitConfigError(field, None, "must be given: there is no circuit without it")
    check(field, value)


def rate(field: str, value: object) -> None:
    if value is None:
        return
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


def within(field: str, value: object, low: float, high: float, reason: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CircuitConfigError(field, value, f"{reason}; not a {type(value).__name__}")
    if not is_finite(value):
        raise CircuitConfigError(field, value, f"{reason}; not {value}")
    if not low <= value <= high:
        raise CircuitConfigError(field, value, reason)


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float can hold; a whole number may be too large for one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max
