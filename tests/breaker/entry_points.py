"""Entry points of a breaker, so that one scenario can run through all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock

Work = Callable[[], object]
EntryPoint = Callable[[CircuitBreaker, Work], object]


class ProviderDownError(Exception):
    """Error of a broken provider."""


class CallerError(Exception):
    """Mistake of the caller, which says nothing about the provider."""


class LockingBreaker(CircuitBreaker):
    """Breaker whose permits always take the lock, as in a Python without the interpreter's lock."""

    __slots__ = ()
    quiet_periods = False


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never really waits; no event loop is needed for that."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the coroutine waits for something")


def by_call(breaker: CircuitBreaker, act: Work) -> object:
    return breaker.call(act)


def by_call_async(breaker: CircuitBreaker, act: Work) -> object:
    async def acting() -> object:
        return act()

    return run_coroutine(breaker.call_async(acting))


def by_decorator(breaker: CircuitBreaker, act: Work) -> object:
    @breaker
    def acting() -> object:
        return act()

    return acting()


def by_async_decorator(breaker: CircuitBreaker, act: Work) -> object:
    @breaker
    async def acting() -> object:
        return act()

    return run_coroutine(acting())


def by_with(breaker: CircuitBreaker, act: Work) -> object:
    with breaker:
        return act()


def by_async_with(breaker: CircuitBreaker, act: Work) -> object:
    async def acting() -> object:
        async with breaker:
            return act()

    return run_coroutine(acting())


def by_permit(breaker: CircuitBreaker, act: Work) -> object:
    with breaker.acquire():
        return act()


def by_generator(breaker: CircuitBreaker, act: Work) -> object:
    @breaker
    def acting() -> Any:
        yield act()

    return next(iter(list(acting())))


def by_async_generator(breaker: CircuitBreaker, act: Work) -> object:
    @breaker
    async def acting() -> Any:
        yield act()

    async def collect() -> object:
        return next(iter([item async for item in acting()]))

    return run_coroutine(collect())


ENTRY_POINTS: list[EntryPoint] = [
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


class Scenario:
    """Breaker under a virtual clock, with letters for the outcomes of its calls.

    S success, F failure, X ignored by configuration, C cancelled, W a success that takes `slow` seconds,
    V a failure that takes as long.
    """

    def __init__(
        self, entry_point: EntryPoint, clock: VirtualClock, config: CircuitBreakerConfig, slow: float = 5.0
    ) -> None:
        self.entry_point = entry_point
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
        """Make one call for each letter, with so many seconds between them; return the state."""
        for letter in letters:
            self.one(letter)
            self.clock.advance(every)
        return self.state

    def one(self, letter: str) -> None:
        try:
            self.entry_point(self.breaker, lambda: self._act(letter))
        except (ProviderDownError, CallerError, asyncio.CancelledError):
            # A success that raises would otherwise pass for a failure of the scenario.
            assert letter in "FVXC"

    def refused(self) -> CircuitOpenError:
        """Return the refusal of the next call, which must not reach the provider."""
        before = self.reached
        try:
            self.entry_point(self.breaker, lambda: self._act("S"))
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
                raise CallerError
            case "C":
                raise asyncio.CancelledError
        return letter
