"""A call on the record, with the clock and the lock: where the circuit is not healthy, or its settings ask for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from steadyvoice.breaker.era import Flight
from steadyvoice.breaker.unfinished import UNFINISHED, finish_later, refuse_to_call

if TYPE_CHECKING:
    from steadyvoice.breaker.locked import LockedMachine

T = TypeVar("T")

NOTHING_YET: Any = object()
"""What a function has answered before it was called."""


def call_recorded(breaker: LockedMachine, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Call `fn` if the circuit allows it, and tell the machine what came of it."""
    if shut := breaker._era.shut:
        breaker._refuse_quickly(shut)
    flight = Flight()
    try:
        breaker._admit(flight)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            if not callable(fn):
                refuse_to_call(fn)
            breaker._ended(flight, error)
            raise
        if result.__class__ in UNFINISHED:
            return finish_later(breaker, flight, fn, result)
        breaker._returned(flight, result)
    except BaseException:
        breaker._drop(flight)  # unless settled: a signal handler raised before or behind the call
        raise
    return result


async def await_recorded(
    breaker: LockedMachine, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> T:
    """The same, awaited."""
    if shut := breaker._era.shut:
        breaker._refuse_quickly(shut)
    flight = Flight()
    try:
        breaker._admit(flight)
        awaitable = NOTHING_YET
        try:
            awaitable = fn(*args, **kwargs)
            result = await awaitable
        except BaseException as error:
            if not callable(fn):
                refuse_to_call(fn)
            breaker._ended(flight, callers_own(error, awaitable))
            raise
        breaker._returned(flight, result)
    except BaseException:
        breaker._drop(flight)
        raise
    return result


def callers_own(error: BaseException, awaitable: object) -> BaseException:
    """What was no coroutine function could not be awaited: that says nothing about the provider, as leaving does."""
    if type(error) is TypeError and awaitable is not NOTHING_YET and not hasattr(awaitable, "__await__"):
        return GeneratorExit()
    return error
