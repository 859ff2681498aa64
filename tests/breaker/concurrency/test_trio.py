"""The breaker under trio: no asyncio event loop is needed, and cancellations are recognised."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import ProviderDownError


def test_outage_and_recovery_under_trio(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=2, success_threshold=1), clock=clock)

    @breaker
    async def speak(works: bool) -> str:
        await trio.lowlevel.checkpoint()
        if not works:
            raise ProviderDownError
        return "spoken"

    async def scenario() -> None:
        with pytest.raises(ProviderDownError):
            await speak(False)
        with pytest.raises(CircuitOpenError):
            await speak(True)
        clock.advance(60)
        assert await speak(True) == "spoken"

    trio.run(scenario)
    assert breaker.state == "closed"


def test_exactly_the_permitted_probes_are_admitted_under_trio(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1, half_open_max_calls=2), clock=clock)
    breaker.acquire().failure()
    clock.advance(60)
    reached = refused = 0

    async def caller(end: trio.Event) -> None:
        nonlocal reached, refused
        try:
            async with breaker:
                reached += 1
                await end.wait()
        except CircuitOpenError:
            refused += 1
            if refused == 48:
                end.set()

    async def scenario() -> None:
        end = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(caller, end)

    trio.run(scenario)
    assert (reached, refused) == (2, 48)


def test_cancelled_calls_and_streams_are_ignored_under_trio() -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(failure_threshold=None, consecutive_failures=3))

    @breaker
    async def stream() -> AsyncIterator[bytes]:
        await trio.sleep_forever()
        yield b"never"

    async def scenario() -> None:
        for _ in range(5):
            with trio.CancelScope() as scope:
                scope.cancel()
                await breaker.call_async(trio.sleep_forever)
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(aiter(stream()))

    trio.run(scenario)
    totals = breaker.snapshot().totals
    assert (breaker.state, totals.ignored, totals.failures) == ("closed", 10, 0)
