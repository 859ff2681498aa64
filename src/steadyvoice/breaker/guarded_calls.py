"""Calls under the lock and the clock, and calls that return before their work is done: coroutines, generators, Futures.

A circuit that is not healthy, or whose settings need a clock, makes all its calls here; the lock-free path is in
`CircuitBreaker.call` and in the decorator.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from steadyvoice._option_rules import short_repr
from steadyvoice.breaker._validators import deferred_kind

if TYPE_CHECKING:
    from steadyvoice.breaker.permit import Permit

T = TypeVar("T")

NOT_CALLED: Any = object()
"""Placeholder for the result of a function that has not been called yet."""

# Compared by exact class, in one lookup in a set: that costs 6 ns, and a whole guarded call about 140.
UNFINISHED_TYPES: set[type] = {CoroutineType, GeneratorType, AsyncGeneratorType}
"""Types of results whose work is not done when a call returns them."""

_FUTURE_TYPES = (
    ("concurrent.futures", "Future"),
    ("asyncio.futures", "Future"),
    ("asyncio.futures", "_PyFuture"),
    ("asyncio.tasks", "Task"),
    ("asyncio.tasks", "_PyTask"),
    ("asyncio.tasks", "_GatheringFuture"),
)


def call_locked(
    acquire: Callable[[], Permit], fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> T:
    """Call `fn` if the circuit admits it, and record the result. Raises CircuitOpenError, and what `fn` raises."""
    permit = acquire()
    try:
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            if not callable(fn):
                raise_not_callable(fn)
            permit.settle(error)
            raise
        if result.__class__ in UNFINISHED_TYPES:
            return settle_when_done(permit, fn, result)
        permit._settle_result(result)
    except BaseException:
        permit._drop()  # unless it is settled: a signal handler raised before or behind the call of `fn`
        raise
    return result


async def await_locked(
    acquire: Callable[[], Permit], fn: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> T:
    """Await `fn(...)` if the circuit admits it, and record the result. Raises as `call_locked` does."""
    permit = acquire()
    try:
        awaitable = NOT_CALLED
        try:
            awaitable = fn(*args, **kwargs)
            result = await awaitable
        except BaseException as error:
            if not callable(fn):
                raise_not_callable(fn)
            permit.settle(unless_not_awaitable(error, awaitable))
            raise
        permit._settle_result(result)
    except BaseException:
        permit._drop()
        raise
    return result


def unless_not_awaitable(error: BaseException, awaitable: object) -> BaseException:
    """Return the error to record: a cancellation if the result of `fn` could not be awaited, else the error itself.

    Awaiting the result of a plain function is the caller's mistake and says nothing about the provider.
    """
    if type(error) is TypeError and awaitable is not NOT_CALLED and not hasattr(awaitable, "__await__"):
        return GeneratorExit()
    return error


def register_future_types() -> None:
    """Recognise the Futures of modules that are loaded by now. Loads none: importing asyncio takes 60 ms."""
    # Called for each new breaker and each decoration: by then, code that returns Futures has imported their module.
    for module, name in _FUTURE_TYPES:
        if module in sys.modules and (kind := getattr(sys.modules[module], name, None)):
            UNFINISHED_TYPES.add(kind)


def settle_when_done(permit: Permit, fn: Callable[..., Any], result: T) -> T:
    """Return the unfinished result of `fn`, and settle the call when it is done.

    The work of a coroutine or generator has not begun: raises TypeError, which names the method to use instead, and
    counts nothing.
    """
    if isinstance(result, CoroutineType):
        permit.ignore()
        result.close()
        instead = "await call_async() instead of call(), or decorate the `async def` itself"
        raise TypeError(f"{result.__qualname__} is a coroutine: {instead}")
    if isinstance(result, GeneratorType | AsyncGeneratorType):
        if kind := deferred_kind(fn):
            permit.ignore()
            method = "stream_async()" if isinstance(result, AsyncGeneratorType) else "stream()"
            raise TypeError(f"{result.__qualname__} is {kind}: use {method} instead of call(), or decorate it")
        permit._settle_result(result)
        return result
    future: Any = result
    future.add_done_callback(partial(_settle, permit))
    return result


def raise_not_callable(fn: object) -> NoReturn:
    """Raise TypeError for a value that cannot be called: that is no failure of a provider."""
    hint = "; pass the function itself, and its arguments after it" if hasattr(fn, "__await__") else ""
    raise TypeError(f"{short_repr(fn)} is not callable{hint}")


def _settle(permit: Permit, future: Any) -> None:
    """Settle a call by the end of its Future. One that never ends releases the permit when it is garbage-collected."""
    if future.cancelled():
        permit.abandon()
    elif (error := future.exception()) is not None:
        permit.settle(error)
    else:
        permit._settle_result(future.result())
