"""Plain calls that return before their work is done: a coroutine, a generator, a Future.

A coroutine or generator has not even begun: such a call is refused, with the method to use instead. A Future or Task is
under way: the call ends when it is done. These are recognised by their exact class, in one look at a set, for a guarded
call costs little more than that.
"""

from __future__ import annotations

import sys
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from steadyvoice.breaker.callables import deferred
from steadyvoice.breaker.errors import brief
from steadyvoice.breaker.permit import Permit

if TYPE_CHECKING:
    from collections.abc import Callable

    from steadyvoice.breaker.era import Flight
    from steadyvoice.breaker.locked import LockedMachine

T = TypeVar("T")

UNFINISHED: set[type] = {CoroutineType, GeneratorType, AsyncGeneratorType}

_FUTURES = (
    ("concurrent.futures", "Future"),
    ("asyncio.futures", "Future"),
    ("asyncio.futures", "_PyFuture"),
    ("asyncio.tasks", "Task"),
    ("asyncio.tasks", "_PyTask"),
    ("asyncio.tasks", "_GatheringFuture"),
)


def know_futures() -> None:
    """Recognise the Futures of modules that are loaded by now. Loads none: asyncio takes 60 ms."""
    for module, name in _FUTURES:
        if module in sys.modules and (kind := getattr(sys.modules[module], name, None)):
            UNFINISHED.add(kind)


def finish_later(breaker: LockedMachine, flight: Flight, fn: Callable[..., Any], result: T) -> T:
    """Return what `fn` returned, and have the call end when that is done.

    Raises TypeError, and counts nothing, where the work has not begun.
    """
    if isinstance(result, CoroutineType):
        breaker._ignore(flight)
        result.close()
        instead = "await call_async() instead of call(), or decorate the `async def` itself"
        raise TypeError(f"{result.__qualname__} is a coroutine: {instead}")
    if isinstance(result, GeneratorType | AsyncGeneratorType):
        if kind := deferred(fn):
            breaker._ignore(flight)
            door = "stream_async()" if isinstance(result, AsyncGeneratorType) else "stream()"
            raise TypeError(f"{result.__qualname__} is {kind}: use {door} instead of call(), or decorate it")
        breaker._returned(flight, result)
        return result
    future: Any = result
    future.add_done_callback(partial(_settle, Permit(breaker, flight)))
    return result


def refuse_to_call(fn: object) -> NoReturn:
    """Raise TypeError for what cannot be called: that is no failure of a provider."""
    hint = "; pass the function itself, and its arguments after it" if hasattr(fn, "__await__") else ""
    raise TypeError(f"{brief(fn)} is not a function that could be called{hint}")


def _settle(permit: Permit, future: Any) -> None:
    """Settle a call by how its Future ended. One that never ends lets go of the permit when it is forgotten."""
    if future.cancelled():
        permit.abandon()
    elif (error := future.exception()) is not None:
        permit.settle(error)
    else:
        permit._breaker._returned(permit._flight, future.result())
        permit._disarm()
