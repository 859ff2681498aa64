"""Decorator of a breaker, for functions, coroutines, generators and async generators.

A stream is one call over its life: its permit is acquired with the first item asked for, and settled at the end, at a
failure, or when the consumer leaves. A stream that is never iterated holds nothing. While the consumer has an item, the
call's clocks stand still: a slow consumer is not a slow provider.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from inspect import isasyncgenfunction, isawaitable, iscoroutinefunction, isgeneratorfunction
from types import CodeType
from typing import Any

from steadyvoice._option_rules import short_repr
from steadyvoice.breaker._locking import LockedStateMachine
from steadyvoice.breaker._validators import deferred_kind, is_kind
from steadyvoice.breaker.errors import CircuitOpenError
from steadyvoice.breaker.guarded_calls import (
    UNFINISHED_TYPES,
    await_locked,
    call_locked,
    register_future_types,
    settle_when_done,
)
from steadyvoice.breaker.in_flight_calls import InFlightCall
from steadyvoice.breaker.permit import Permit, forget_nothing


def guard(breaker: LockedStateMachine, acquire: Callable[[], Permit], fn: Any) -> Any:
    """Wrap `fn` in a function of its own kind: plain, coroutine, generator or async generator.

    The kind is determined once, at decoration. Raises TypeError if `fn` has none of these kinds, or its calls do not
    show whether the work succeeded.
    """
    if isinstance(fn, staticmethod | classmethod):
        return type(fn)(guard(breaker, acquire, fn.__func__))
    if reason := _unsupported_reason(fn):
        raise TypeError(f"circuit {breaker._machine.name!r} cannot guard {short_repr(fn)}: {reason}")
    register_future_types()
    if is_kind(iscoroutinefunction, fn):
        return _guard_coroutine(breaker, acquire, fn)
    if is_kind(isasyncgenfunction, fn):
        return guard_async_stream(acquire, fn)
    if is_kind(isgeneratorfunction, fn):
        return guard_stream(acquire, fn)
    return _guard_function(breaker, acquire, fn)


def _unsupported_reason(fn: Any) -> str | None:
    """Return why calls of `fn` do not show whether the work succeeded, None if they do."""
    if isinstance(fn, type):
        return "a class; decorate its methods, or a function that makes its instances"
    if isinstance(fn, property | functools.cached_property | functools.partialmethod | functools.singledispatchmethod):
        return f"a {type(fn).__name__}; decorate the function inside it, with @{type(fn).__name__} above"
    if isinstance(fn, LockedStateMachine):
        return "another circuit; decorate a function with one above the other"
    if not callable(fn):
        begun = hasattr(fn, "__await__") or hasattr(fn, "__next__") or hasattr(fn, "__anext__")
        return "not a function, but the result of one; decorate the function" if begun else "not a function"
    if isinstance(fn, contextlib.ContextDecorator | contextlib.AsyncContextDecorator) or _makes_context(fn):
        return "a context manager, which returns before the block; write `with breaker:` inside it, or around the block"
    if isinstance(fn, _CACHED) and (kind := deferred_kind(fn.__wrapped__)):
        return f"a cache of {kind}, which would return the same object twice; decorate the function below the cache"
    return None


def _makes_context(fn: Any) -> bool:
    """Return whether `contextlib.contextmanager` or `asynccontextmanager` made it."""
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


def preserve_signature(fn: Any) -> Callable[[Any], Any]:
    """Return a `functools.wraps` that also handles partials: the function's name, with the partial's signature."""

    def wrap(guarded: Any) -> Any:
        functools.wraps(fn.func if isinstance(fn, functools.partial) else fn)(guarded)
        guarded.__wrapped__ = fn
        return guarded

    return wrap


# ---------------------------------------------------------------- functions and coroutines

# These two repeat CircuitBreaker.call and call_async: a Python call less is a third of the price of a guarded call. In
# both, the flag is read before `fn` and again after the tick; `Era` explains why no success is lost or counted twice.


def _guard_function(breaker: LockedStateMachine, acquire: Callable[[], Permit], fn: Callable[..., Any]) -> Any:
    @preserve_signature(fn)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        era = breaker._era
        if not era.lock_free:
            if (refusal := era.open_refusal) and (shown := breaker._refuse_without_lock(refusal)):
                raise CircuitOpenError.from_fields(shown)
            return call_locked(acquire, fn, args, kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            breaker._record_lock_free_error(era, error)
            raise
        if result.__class__ in UNFINISHED_TYPES:
            return settle_when_done(Permit.of(breaker, InFlightCall.new(era)), fn, result)
        next(era.ticks)
        if not era.lock_free:
            breaker._collect_late_ticks(era)
        return result

    return guarded


def _guard_coroutine(breaker: LockedStateMachine, acquire: Callable[[], Permit], fn: Callable[..., Any]) -> Any:
    @preserve_signature(fn)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        era = breaker._era
        if not era.lock_free:
            if (refusal := era.open_refusal) and (shown := breaker._refuse_without_lock(refusal)):
                raise CircuitOpenError.from_fields(shown)
            return await await_locked(acquire, fn, args, kwargs)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            breaker._record_lock_free_error(era, error)
            raise
        next(era.ticks)
        if not era.lock_free:
            breaker._collect_late_ticks(era)
        return result

    return guarded


# ---------------------------------------------------------------- streams


def guard_stream(acquire: Callable[[], Permit], fn: Callable[..., Any]) -> Any:
    """Wrap `fn`, which returns an iterable, in a generator function. Sent values and thrown errors are passed on."""

    @preserve_signature(fn)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        permit = acquire()
        thrown: BaseException | None = None
        forget = permit.__del__
        try:
            # The collector closes this generator, which settles the permit. In a cycle of garbage the permit's own
            # finaliser might come first, as it does on free-threaded Python: the call would be ignored, whatever came.
            permit.__del__ = forget_nothing
            source: Any = _iterator(permit, fn(*args, **kwargs))
            item = next(source)
            while True:
                permit.pause()
                try:
                    sent = yield item
                except GeneratorExit:
                    _close(source)
                    raise
                except BaseException as error:
                    thrown = error
                    permit.resume()
                    item = _throw(source, error)
                else:
                    permit.resume()
                    item = next(source) if sent is None else source.send(sent)
        except StopIteration as end:
            permit.__del__ = forget  # a signal handler may raise before the permit is settled
            permit.success()
            return end.value
        except BaseException as error:
            permit.__del__ = forget
            _settle(permit, error, thrown)
            raise

    return guarded


def guard_async_stream(acquire: Callable[[], Permit], fn: Callable[..., Any]) -> Any:
    """Wrap `fn`, which returns an async iterable or an awaitable of one, in an async generator function."""

    @preserve_signature(fn)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        permit = acquire()
        thrown: BaseException | None = None
        try:
            source: Any = await _async_iterator(permit, fn(*args, **kwargs))
            item = await anext(source)
            while True:
                permit.pause()
                try:
                    sent = yield item
                except GeneratorExit:
                    await _aclose(source)
                    raise
                except BaseException as error:
                    thrown = error
                    permit.resume()
                    item = await _athrow(source, error)
                else:
                    permit.resume()
                    item = await (anext(source) if sent is None else source.asend(sent))
        except StopAsyncIteration:
            permit.success()
        except BaseException as error:
            _settle(permit, error, thrown)
            raise

    return guarded


def _settle(permit: Permit, error: BaseException, thrown: BaseException | None) -> None:
    if error is thrown:
        permit.abandon()  # the consumer's own error came back to it
    else:
        permit.settle(error)


def _iterator(permit: Permit, stream: Iterable[Any]) -> Iterator[Any]:
    """Return the iterator. A value that cannot be iterated is the caller's mistake, and no failure of the provider."""
    if not (hasattr(type(stream), "__iter__") or hasattr(type(stream), "__getitem__")):
        permit.ignore()
    return iter(stream)


async def _async_iterator(
    permit: Permit, stream: Awaitable[AsyncIterator[Any]] | AsyncIterator[Any]
) -> AsyncIterator[Any]:
    """Return the async iterator, awaiting it first where necessary."""
    opened = await stream if isawaitable(stream) else stream
    if not hasattr(type(opened), "__aiter__"):
        permit.ignore()
    return aiter(opened)


def _close(source: Iterator[Any]) -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()


async def _aclose(source: AsyncIterator[Any]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()


def _throw(source: Iterator[Any], error: BaseException) -> Any:
    throw = getattr(source, "throw", None)
    if throw is None:
        raise error
    return throw(error)


async def _athrow(source: AsyncIterator[Any], error: BaseException) -> Any:
    throw = getattr(source, "athrow", None)
    if throw is None:
        raise error
    return await throw(error)
