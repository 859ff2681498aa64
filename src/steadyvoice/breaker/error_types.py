"""Exception types and predicates as settings: what is accepted, and whether an error is among them."""

from __future__ import annotations

import sys
from types import UnionType
from typing import Any, Union, get_args, get_origin

from steadyvoice.breaker.callables import deferred
from steadyvoice.breaker.errors import CircuitConfigError


def types_of(value: Any) -> Any:
    """Return several exception types as one tuple: `A | B`, or a list, set or tuple of them. Anything else as it is."""
    if isinstance(value, UnionType) or get_origin(value) is Union:
        return types_of(get_args(value))
    if isinstance(value, set | frozenset):
        return types_of(sorted(value, key=repr))  # the same set is the same setting
    if isinstance(value, list | tuple):
        flat: list[Any] = []
        for each in map(types_of, value):
            flat.extend(each if isinstance(each, tuple) else (each,))
        return tuple(flat)
    return value


def check_errors(field: str, value: object) -> None:
    """Check one exception type, a tuple of them, or a predicate. Raises CircuitConfigError."""
    if value is None:
        return
    several = isinstance(value, tuple)
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, type) and issubclass(item, BaseException):
            if field == "failure_on" and not _can_fail(item):
                told = f"{item.__name__} never counts: cancelled, interrupted or closed calls are no failures"
                raise CircuitConfigError(field, value, told)
        elif isinstance(item, BaseException):
            raise CircuitConfigError(field, value, f"must be the class {type(item).__name__}, not an instance of it")
        elif several or isinstance(item, type) or not callable(item) or get_origin(item) is not None:
            raise CircuitConfigError(field, value, _WANTED)
        else:
            check_predicate(field, item)
    if value == () and field == "failure_on":
        raise CircuitConfigError(field, value, "must name an exception type: without any, nothing is ever a failure")


def check_predicate(field: str, value: object) -> None:
    """Check a function that is asked about errors or results. Raises CircuitConfigError."""
    if value is None:
        return
    if not callable(value):
        raise CircuitConfigError(field, value, "must be a function")
    if kind := deferred(value):
        raise CircuitConfigError(field, value, f"must be a plain function, not {kind}: nothing here would wait for it")


_WANTED = "must be exception types (A, A | B, or a tuple, list or set of them), or a predicate of one exception"


def _can_fail(error: type[BaseException]) -> bool:
    """Whether any error of this type can count: only an Exception can, or a group in which there is one."""
    if error in (BaseException, BaseExceptionGroup):
        return True
    futures = sys.modules.get("concurrent.futures")
    if futures is not None and issubclass(error, futures.CancelledError):
        return False
    return issubclass(error, Exception)
