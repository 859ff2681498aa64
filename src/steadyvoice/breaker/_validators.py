"""Validators of settings and arguments: each passes, or raises an error that names the field and the reason."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import UnionType
from typing import Any, Union, get_args, get_origin

from steadyvoice._option_rules import (
    FACTOR,
    POSITIVE_SECONDS,
    POSITIVE_SHARE,
    PROBABILITY,
    SECONDS,
    Number,
    OptionRule,
    is_number,
    is_whole_number,
    short_repr,
)
from steadyvoice.breaker.errors import CircuitArgumentError, CircuitConfigError

MAX_COUNT = 1_000_000_000
"""Largest count that is accepted: a rate cannot be computed beyond what a float holds."""


# ---------------------------------------------------------------- numbers and durations


def check(field: str, value: object, rule: OptionRule, hint: str = "") -> None:
    """Validate a value by a rule. Raises CircuitConfigError with the rule, and the hint behind it."""
    if not rule.accepts(value):
        raise CircuitConfigError(field, value, f"{rule.expected}{hint}")


def require(field: str, validate: Callable[[str, object], None], value: object) -> None:
    """Validate a value that must not be None. Raises CircuitConfigError."""
    if value is None:
        raise CircuitConfigError(field, None, "is required")
    validate(field, value)


def rate(field: str, value: object) -> None:
    """Validate a rate in (0, 1], or None. Raises CircuitConfigError."""
    if value is None:
        return
    hint = ""
    if field == "failure_threshold" and is_whole_number(value) and value > 1:
        hint = (
            "; to open after so many consecutive failures, use "
            f'CircuitBreakerConfig.consecutive({short_repr(value)}), in a file preset = "consecutive"'
        )
    elif value == 0:
        hint = ": a rate of 0 is reached without any failure"
    check(field, value, POSITIVE_SHARE, hint)


def probability(field: str, value: object) -> None:
    """Validate a probability in (0, 1), or None. Raises CircuitConfigError."""
    if value is not None:
        check(field, value, PROBABILITY, ": at 0 the circuit never opens, at 1 always")


def duration(field: str, value: object) -> None:
    """Validate a number of seconds above 0, or None. Raises CircuitConfigError."""
    if value is not None:
        check(field, value, POSITIVE_SECONDS)


def cooldown(field: str, value: object) -> None:
    """Validate a number of seconds, 0 included. Raises CircuitConfigError."""
    check(field, value, SECONDS, "; with 0, the next caller is a probe")


def factor(field: str, value: object) -> None:
    """Validate a factor of 1 or more, or None. Raises CircuitConfigError."""
    if value is not None:
        check(field, value, FACTOR, ": with less, calls that just worked would hang")


def count(field: str, value: object, *, least: int = 1) -> None:
    """Validate a whole number from `least` to MAX_COUNT, or None. Raises CircuitConfigError."""
    if value is None:
        return
    check(field, value, Number(integer=True, minimum=least))
    check(field, value, Number(integer=True, maximum=MAX_COUNT))


def to_seconds(value: object) -> Any:
    """Return a timedelta in seconds, and anything else as it is."""
    # A timedelta can only come from a caller that has loaded datetime, which takes 3 ms to import.
    datetime = sys.modules.get("datetime")
    if datetime is not None and isinstance(value, datetime.timedelta):
        return value.total_seconds()
    return value


def optional_duration(field: str, value: object, hint: str) -> float | None:
    """Return a duration given as an argument in seconds, None when it is absent.

    Raises CircuitArgumentError or CircuitConfigError, both ValueErrors. `hint` explains what None means.
    """
    seconds = to_seconds(value)
    if seconds is None:
        return None
    if not SECONDS.accepts(seconds):
        kind = CircuitConfigError if is_number(seconds) else CircuitArgumentError
        raise kind(field, value, f"{SECONDS.expected}, or a timedelta; {hint}")
    return float(seconds)


def weight(value: object) -> float:
    """Return a failure's weight. Raises CircuitArgumentError or CircuitConfigError, both ValueErrors."""
    if not is_number(value):
        raise CircuitArgumentError("weight", value, POSITIVE_SHARE.expected)
    if not 0 < value <= 1:
        raise CircuitConfigError("weight", value, POSITIVE_SHARE.expected)
    return value


# ---------------------------------------------------------------- exception types and predicates

_EXCEPTION_TYPES = (
    "must be exception types (A, A | B, or a tuple, list or set of them), or a predicate of one exception"
)


def exception_types(value: Any) -> Any:
    """Return several exception types as one tuple: `A | B`, or a list, set or tuple of them. Anything else as it is."""
    if isinstance(value, UnionType) or get_origin(value) is Union:
        return exception_types(get_args(value))
    if isinstance(value, set | frozenset):
        return exception_types(sorted(value, key=repr))  # equal sets become equal settings
    if isinstance(value, list | tuple):
        flat: list[Any] = []
        for each in map(exception_types, value):
            flat.extend(each if isinstance(each, tuple) else (each,))
        return tuple(flat)
    return value


def errors_or_predicate(field: str, value: object) -> None:
    """Validate one exception type, a tuple of them, or a predicate. Raises CircuitConfigError."""
    if value is None:
        return
    several = isinstance(value, tuple)
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, type) and issubclass(item, BaseException):
            if field == "failure_on" and not _can_fail(item):
                reason = f"{item.__name__} never counts: cancelled, interrupted or closed calls are no failures"
                raise CircuitConfigError(field, value, reason)
        elif isinstance(item, BaseException):
            raise CircuitConfigError(field, value, f"must be the class {type(item).__name__}, not an instance of it")
        elif several or isinstance(item, type) or not callable(item) or get_origin(item) is not None:
            raise CircuitConfigError(field, value, _EXCEPTION_TYPES)
        else:
            predicate(field, item)
    if value == () and field == "failure_on":
        raise CircuitConfigError(field, value, "must name an exception type: without any, nothing is ever a failure")


def predicate(field: str, value: object) -> None:
    """Validate a function that judges errors or results, or None. Raises CircuitConfigError."""
    if value is None:
        return
    if not callable(value):
        raise CircuitConfigError(field, value, "must be a function")
    if kind := deferred_kind(value):
        raise CircuitConfigError(field, value, f"must be a plain function, not {kind}: it is never awaited or iterated")


def _can_fail(error: type[BaseException]) -> bool:
    """Return whether any error of this type can count: only an Exception can, or a group that contains one."""
    if error in (BaseException, BaseExceptionGroup):
        return True
    futures = sys.modules.get("concurrent.futures")
    if futures is not None and issubclass(error, futures.CancelledError):
        return False
    return issubclass(error, Exception)


# ---------------------------------------------------------------- kinds of callables


def is_kind(kind: Callable[[Any], bool], fn: Any) -> bool:
    """Return whether a function is of a kind, or the function that a partial or an object with `__call__` calls."""
    while isinstance(fn, partial):
        fn = fn.func
    return kind(fn) or (not isinstance(fn, type) and kind(getattr(fn, "__call__", None)))  # noqa: B004


def deferred_kind(fn: Any) -> str | None:
    """Return the kind of a function whose call only makes something to be awaited or iterated. None for others."""
    if is_kind(iscoroutinefunction, fn):
        return "a coroutine function"
    if is_kind(isasyncgenfunction, fn):
        return "an async generator function"
    if is_kind(isgeneratorfunction, fn):
        return "a generator function"
    return None
