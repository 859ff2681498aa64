"""`@breaker`: the same function, guarded. Which kind it is is asked once, when it is decorated."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import CodeType
from typing import TYPE_CHECKING, Any

from steadyvoice.breaker.callables import deferred, is_kind
from steadyvoice.breaker.era import Flight
from steadyvoice.breaker.errors import brief
from steadyvoice.breaker.locked import LockedMachine
from steadyvoice.breaker.recorded import await_recorded, call_recorded
from steadyvoice.breaker.stream import guard_stream, guard_stream_async, wrapping
from steadyvoice.breaker.unfinished import UNFINISHED, finish_later, know_futures

if TYPE_CHECKING:
    from steadyvoice.breaker.breaker import CircuitBreaker


def guard(breaker: CircuitBreaker, fn: Any) -> Any:
    """Wrap `fn` in a function of its own kind: plain, coroutine, generator or async generator.

    Raises TypeError for what is none of these, or cannot be guarded by looking at its calls.
    """
    if isinstance(fn, staticmethod | classmethod):
        return type(fn)(guard(breaker, fn.__func__))
    if reason := _unsuitable(fn):
        raise TypeError(f"circuit {breaker.name!r} cannot guard {brief(fn)}: {reason}")
    know_futures()
    if is_kind(iscoroutinefunction, fn):
        return _guard_coroutine(breaker, fn)
    if is_kind(isasyncgenfunction, fn):
        return guard_stream_async(breaker, fn)
    if is_kind(isgeneratorfunction, fn):
        return guard_stream(breaker, fn)
    return _guard_function(breaker, fn)


def _unsuitable(fn: Any) -> str | None:
    """Why its calls say nothing about the work, None for functions whose calls do."""
    if isinstance(fn, type):
        return "a class; decorate its methods, or a function that makes its instances"
    if isinstance(fn, property | functools.cached_property | functools.partialmethod | functools.singledispatchmethod):
        return f"a {type(fn).__name__}; decorate the function inside it, with @{type(fn).__name__} above"
    if isinstance(fn, LockedMachine):
        return "another circuit; decorate a function with one above the other"
    if not callable(fn):
        begun = hasattr(fn, "__await__") or hasattr(fn, "__next__") or hasattr(fn, "__anext__")
        return "not a function, but what one has returned; decorate the function" if begun else "not a function"
    if isinstance(fn, contextlib.ContextDecorator | contextlib.AsyncContextDecorator) or _makes_context(fn):
        return "a context manager, which returns before the block; write `with breaker:` inside it, or around the block"
    if isinstance(fn, _CACHED) and (kind := deferred(fn.__wrapped__)):
        return f"a cache of {kind}, which would return the same object twice; decorate the function below the cache"
    return None


def _makes_context(fn: Any) -> bool:
    """Whether `contextlib.contextmanager` or `asynccontextmanager` made it."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    code = getattr(getattr(fn, "__func__", fn), "__code__", None)
    return code is not None and code in _CONTEXT_MANAGERS


_CACHED = type(functools.cache(lambda: None))
_CONTEXT_MANAGERS = frozenset(
    const
    for maker in (contextlib.contextmanager, contextlib.asynccontextmanager)
    for const in maker.__code__.co_consts
    if isinstance(const, CodeType)
)


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
        if result.__class__ in UNFINISHED:
            return finish_later(breaker, Flight(era), fn, result)
        next(era.ticks)
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
        next(era.ticks)
        if not era.quiet:
            breaker._reconcile(era)
        return result

    return guarded
