"""`@breaker`: the same function, guarded. Which kind it is is asked once, when it is decorated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from steadyvoice.breaker.recorded import await_recorded, call_recorded, refuse_coroutine
from steadyvoice.breaker.stream import guard_stream, guard_stream_async, wrapping

if TYPE_CHECKING:
    from steadyvoice.breaker.breaker import CircuitBreaker


def guard(breaker: CircuitBreaker, fn: Any) -> Any:
    """Wrap `fn` in a function of its own kind: plain, coroutine, generator or async generator."""
    if isinstance(fn, staticmethod | classmethod):
        return type(fn)(guard(breaker, fn.__func__))
    if _is(iscoroutinefunction, fn):
        return _guard_coroutine(breaker, fn)
    if _is(isasyncgenfunction, fn):
        return guard_stream_async(breaker, fn)
    if _is(isgeneratorfunction, fn):
        return guard_stream(breaker, fn)
    return _guard_function(breaker, fn)


def _is(kind: Callable[[Any], bool], fn: Any) -> bool:
    while isinstance(fn, partial):
        fn = fn.func
    return kind(fn) or (not isinstance(fn, type) and kind(getattr(fn, "__call__", None)))  # noqa: B004


# The two below are CircuitBreaker.call and call_async once more: one Python call less is a third of their price.


def _guard_function(breaker: CircuitBreaker, fn: Callable[..., Any]) -> Any:
    @wrapping(fn)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        era = breaker._era
        if not era.quiet:
            return call_recorded(breaker, fn, args, kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            breaker._ended_quietly(era, error)
            raise
        if result.__class__ is CoroutineType:
            refuse_coroutine(result)
        era.tick()
        if not era.quiet:
            breaker._reconcile(era)
        return result

    return guarded


def _guard_coroutine(breaker: CircuitBreaker, fn: Callable[..., Any]) -> Any:
    @wrapping(fn)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        era = breaker._era
        if not era.quiet:
            return await await_recorded(breaker, fn, args, kwargs)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            breaker._ended_quietly(era, error)
            raise
        era.tick()
        if not era.quiet:
            breaker._reconcile(era)
        return result

    return guarded
