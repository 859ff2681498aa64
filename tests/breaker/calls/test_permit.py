"""Permits: settled once, given back when dropped, entered and left in any nesting."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import sys
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from steadyvoice.breaker import CallRefused, CircuitBreaker, CircuitBreakerConfig, CircuitOpenError, Event
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import ProviderDownError


@pytest.fixture
def breaker(clock: VirtualClock) -> CircuitBreaker:
    return CircuitBreaker("voice", CircuitBreakerConfig(window_size=8), clock=clock)


def test_permit_is_settled_once(breaker: CircuitBreaker) -> None:
    permit = breaker.acquire()
    assert not permit.settled
    permit.success()
    permit.failure()
    permit.ignore()
    permit.success()
    assert permit.settled
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.ignored) == (1, 0, 0)


def test_with_permit_settles_by_itself(breaker: CircuitBreaker) -> None:
    with breaker.acquire():
        pass
    with pytest.raises(ProviderDownError), breaker.acquire():
        raise ProviderDownError
    with breaker.acquire() as permit:
        permit.failure("not what was ordered")
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures) == (1, 2)


async def test_async_with_permit_settles_by_itself(breaker: CircuitBreaker) -> None:
    async with breaker.acquire():
        pass
    with pytest.raises(ProviderDownError):
        async with breaker.acquire():
            raise ProviderDownError
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures) == (1, 1)


def test_permit_collected_while_the_lock_is_held_does_not_deadlock(clock: VirtualClock) -> None:
    lucky: list[float] = []

    def random() -> float:  # the machine asks for it with the lock held
        lucky.append(0.0)
        gc.collect()
        return 0.0

    config = CircuitBreakerConfig(window_size=1, cooldown_jitter=0.5)
    breaker = CircuitBreaker("voice", config, clock=clock, random=random)
    cycle: list[object] = [breaker.acquire()]
    cycle.append(cycle)
    del cycle
    breaker.acquire().failure()
    assert lucky
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    assert breaker.snapshot().totals.ignored == 1


def test_with_breaker_nests_with_itself_and_with_others(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    other = CircuitBreaker("other", clock=clock)
    with breaker as outer:
        with other, breaker as inner:
            assert inner is not outer
        assert inner.settled
        assert not outer.settled
    assert outer.settled
    assert breaker.snapshot().totals.successes == 2
    assert other.snapshot().totals.successes == 1


def test_with_blocks_may_end_out_of_order(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    other = CircuitBreaker("other", clock=clock)
    first = breaker.__enter__()
    second = other.__enter__()
    breaker.__exit__(None, None, None)
    assert (first.settled, second.settled) == (True, False)
    other.__exit__(None, None, None)
    assert second.settled


async def test_each_task_exits_its_own_permit(breaker: CircuitBreaker) -> None:
    inside = asyncio.Event()
    go_on = asyncio.Event()

    async def fails() -> None:
        async with breaker:
            inside.set()
            await go_on.wait()
            raise ProviderDownError

    async def succeeds() -> None:
        await inside.wait()
        async with breaker:
            go_on.set()

    await asyncio.gather(fails(), succeeds(), return_exceptions=True)
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures) == (1, 1)


def test_exit_without_enter_raises_with_a_hint(breaker: CircuitBreaker) -> None:
    with pytest.raises(RuntimeError, match=r"with breaker\.acquire\(\)"):
        breaker.__exit__(None, None, None)


async def test_timeout_inside_is_a_failure_and_cancellation_from_outside_is_ignored(
    breaker: CircuitBreaker,
) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async def with_its_own_timeout() -> None:
        async with asyncio.timeout(0):
            await hang()

    with pytest.raises(TimeoutError):
        await breaker.call_async(with_its_own_timeout)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await breaker.call_async(hang)
    totals = breaker.snapshot().totals
    assert (totals.failures, totals.ignored) == (1, 1)


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(1),
        GeneratorExit(),
        asyncio.CancelledError(),
        concurrent.futures.CancelledError(),
        BaseExceptionGroup("cancelled", [asyncio.CancelledError()]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_interrupted_call_is_ignored(clock: VirtualClock, error: BaseException) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1), clock=clock)

    def interrupted() -> None:
        raise error

    for _ in range(5):
        with pytest.raises(type(error)) as raised:
            breaker.call(interrupted)
        assert raised.value is error
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.calls, snapshot.totals.ignored) == ("closed", 0, 5)


@pytest.mark.parametrize("weight", [0, -1, 1.5, float("nan"), "half", None, True, [1]])
def test_invalid_weight_is_refused(breaker: CircuitBreaker, weight: Any) -> None:
    permit = breaker.acquire()
    with pytest.raises(ValueError, match="weight"):
        permit.failure(weight=weight)
    assert not permit.settled


def test_weight_of_one_half_counts_half(breaker: CircuitBreaker) -> None:
    for _ in range(2):
        breaker.acquire().failure(weight=0.5)
        breaker.acquire().success()
    assert breaker.snapshot().failure_rate == 0.25
    for _ in range(8):
        assert breaker.state == "closed"
        breaker.acquire().failure(weight=0.5)
    assert breaker.state == "open"
    assert breaker.snapshot().failure_rate == 0.5


def test_trip_opens_the_circuit_at_once(breaker: CircuitBreaker) -> None:
    breaker.acquire().failure("out of credit", trip=True, cooldown=3600)
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.retry_after) == ("open", 3600)
    assert snapshot.last_transition is not None
    assert snapshot.last_transition.cause == "tripped"


def test_duration_can_be_passed_by_the_caller(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(window_size=1, slow_call_duration=2, slow_call_threshold=1.0)
    breaker = CircuitBreaker("voice", config, clock=clock)
    permit = breaker.acquire()
    clock.advance(10)
    permit.success(duration=1.0)
    assert breaker.state == "closed"
    breaker.acquire().success(duration=2.0)
    assert breaker.state == "open"


@pytest.mark.parametrize("error", [5, ValueError, ["503"], b"503"], ids=repr)
def test_invalid_error_is_refused(breaker: CircuitBreaker, error: Any) -> None:
    permit = breaker.acquire()
    for settle in (permit.failure, permit.settle):
        with pytest.raises(TypeError, match=r"^error="):
            settle(error)
    assert not permit.settled


def test_duration_may_be_a_timedelta(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(slow_call_duration=2, minimum_calls=2), clock=clock)
    breaker.acquire().success(timedelta(seconds=2))
    breaker.acquire().failure("503", timedelta(seconds=1))
    assert breaker.snapshot().slow_calls == 1


@pytest.mark.parametrize("duration", [-1.0, float("nan"), float("inf"), "x", True, timedelta(-1), 10**400])
def test_invalid_duration_is_refused_and_the_permit_stays_unsettled(clock: VirtualClock, duration: Any) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(slow_call_duration=2), clock=clock)
    permit = breaker.acquire()
    for settle in (permit.success, partial(permit.failure, "503")):
        with pytest.raises(ValueError, match="seconds, 0 or more"):
            settle(duration=duration)
    assert breaker.snapshot().totals.calls == 0
    permit.success(0.0)
    assert breaker.snapshot().totals.successes == 1


def test_try_acquire_returns_a_permit_or_none_and_counts_the_refusal(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1, success_threshold=1), clock=clock)
    permit = breaker.try_acquire()
    assert permit is not None
    permit.failure()
    for _ in range(3):
        assert breaker.try_acquire() is None
    assert breaker.snapshot().totals.refused == 3
    clock.advance(60)
    probe = breaker.try_acquire()
    assert probe is not None
    assert breaker.try_acquire() is None  # half-open, the probe is out
    assert breaker.snapshot().totals.refused == 4
    with probe:
        pass
    assert breaker.state == "closed"


@pytest.mark.parametrize("watched", [False, True])
def test_try_acquire_raises_no_exception(clock: VirtualClock, watched: bool) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1), clock=clock)
    refused: list[Event] = []
    if watched:
        breaker.subscribe(refused.append, calls=True)
    breaker.acquire().failure()
    raised: list[object] = []

    def trace(_frame: object, event: str, about: object) -> Any:
        if event == "exception":
            raised.append(about)
        return trace

    sys.settrace(trace)
    try:
        assert breaker.try_acquire() is None
    finally:
        sys.settrace(None)
    assert raised == []
    assert breaker.snapshot().totals.refused == 1
    assert sum(isinstance(event, CallRefused) for event in refused) == watched


def test_refused_try_acquire_leaves_no_permit_behind(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", clock=clock, state="forced_open")
    for _ in range(1000):
        assert breaker.try_acquire() is None
    assert breaker.snapshot().totals.refused == 1000
    assert breaker.snapshot().totals.ignored == 0
