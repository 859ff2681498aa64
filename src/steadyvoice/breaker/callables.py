"""Kinds of callables: what calling one does, as far as can be known without calling it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any


def is_kind(kind: Callable[[Any], bool], fn: Any) -> bool:
    """Whether a function is of a kind, or what a partial or an object with `__call__` calls is."""
    while isinstance(fn, partial):
        fn = fn.func
    return kind(fn) or (not isinstance(fn, type) and kind(getattr(fn, "__call__", None)))  # noqa: B004


def deferred(fn: Any) -> str | None:
    """Name the kind of a function whose call only makes something to be awaited or iterated. None for others."""
    if is_kind(iscoroutinefunction, fn):
        return "a coroutine function"
    if is_kind(isasyncgenfunction, fn):
        return "an async generator function"
    if is_kind(isgeneratorfunction, fn):
        return "a generator function"
    return None
