"""The ways into a breaker, so that one story can be played through all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock

Act = Callable[[], object]
Door = Callable[[CircuitBreaker, Act], object]


class ProviderDownError(Exception):
    """What a broken provider raises in these stories."""


class CallersMistakeError(Exception):
    """What says nothing about the provider."""


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never really waits; no event loop is needed for that."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the coroutine waits for something")


def by_call(breaker: CircuitBreaker, act: Act) -> object:
    return breaker.call(act)


def by_call_async(breaker: CircuitBreaker, act: Act) -> object:
    async def acting() -> object:
        return act()

    return finish(breaker.call_async(acting))


def by_decorator(breaker: CircuitBreaker, act: Act) -> object:
    @breaker
    def acting() -> object:
        return act()

    return acting()


def by_async_decorator(breaker: CircuitBreaker, act: Act) -> object:
    @breaker
    async def acting() -> object:
        return act()

    return finish(acting())


def by_with(breaker: CircuitBreaker, act: Act) -> object:
    with breaker:
        return act()


def by_async_with(breaker: CircuitBreaker, act: Act) -> object:
    async def acting() -> object:
        async with breaker:
            return act()

    return finish(acting())


def by_permit(breaker: CircuitBreaker, act: Act) -> object:
    with breaker.acquire():
        return act()


def by_generator(breaker: CircuitBreaker, act: Act) -> object:
    @breaker
    def acting() -> Any:
        yield act()

    return next(iter(list(acting())))


def by_async_generator(breaker: CircuitBreaker, act: Act) -> object:
    @breaker
    async def acting() -> Any:
        yield act()

    async def collect() -> object:
        return next(iter([item async for item in acting()]))

    return finish(collect())


DOORS: list[Door] = [
    by_call,
    by_call_async,
    by_decorator,
    by_async_decorator,
    by_with,
    by_async_with,
    by_permit,
    by_generator,
    by_async_generator,
]


class Story:
    """A breaker under a virtual clock, and letters for what happens to it.

    S success, F failure, X ignored by configuration, C cancelled, W a success that takes `slow` seconds,
    V a failure that takes as long.
    """

    def __init__(self, door: Door, clock: VirtualClock, config: CircuitBreakerConfig, slow: float = 5.0) -> None:
        self.door = door
        self.clock = clock
        self.slow = slow
        self.reached = 0
        self.breaker = CircuitBreaker("voice", config, clock=clock)
        self.events: list[object] = []
        self.breaker.subscribe(self.events.append)

    @property
    def state(self) -> str:
        return self.breaker.state.value

    def play(self, letters: str, every: float = 0.0) -> str:
        """What the circuit is after these letters; a call every so many seconds."""
        for letter in letters:
            self.one(letter)
            self.clock.advance(every)
        return self.state

    def one(self, letter: str) -> None:
        try:
            self.door(self.breaker, lambda: self._act(letter))
        except (ProviderDownError, CallersMistakeError, asyncio.CancelledError):
            assert letter in "FVXC"

    def refused(self) -> CircuitOpenError:
        """The refusal that the next call meets; it must not reach the provider."""
        before = self.reached
        try:
            self.door(self.breaker, lambda: self._act("S"))
        except CircuitOpenError as refusal:
            assert self.reached == before
            return refusal
        raise AssertionError(f"admitted while {self.state}")

    def _act(self, letter: str) -> object:
        self.reached += 1
        if letter in "WV":
            self.clock.advance(self.slow)
        match letter:
            case "F" | "V":
                raise ProviderDownError("no voice today")
            case "X":
                raise CallersMistakeError
            case "C":
                raise asyncio.CancelledError
        return letter
