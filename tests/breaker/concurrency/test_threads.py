"""Many threads with one breaker: no result is lost or counted twice, and no call waits for another."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

import pytest

from steadyvoice.breaker import (
    CallRecorded,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitRegistry,
)
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import ProviderDownError


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_protected_calls_overlap(kind: type[CircuitBreaker]) -> None:
    breaker = kind("voice")
    all_inside = Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(breaker.call, all_inside.wait, 10) for _ in range(8)]
        assert sorted(call.result() for call in calls) == list(range(8))


def test_totals_are_exact_when_successes_need_no_lock(kind: type[CircuitBreaker]) -> None:
    breaker = kind("voice", CircuitBreakerConfig(failure_threshold=1.0, window_size=50))
    start = Barrier(16)

    @breaker
    def speak(number: int) -> int:
        if number % 10 == 0:
            raise ProviderDownError
        return number

    def caller(_: int) -> None:
        start.wait(10)
        for number in range(250):
            try:
                speak(number)
            except ProviderDownError:
                breaker.snapshot()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(caller, range(16)))
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.calls) == (16 * 225, 16 * 25, 16 * 250)


def test_totals_are_exact_across_transitions(kind: type[CircuitBreaker]) -> None:
    breaker = kind("voice", CircuitBreakerConfig(window_size=50))
    start = Barrier(9)

    def caller(_: int) -> None:
        start.wait(10)
        for _ in range(500):
            breaker.call(lambda: "spoken")

    def meddler() -> None:
        start.wait(10)
        for _ in range(200):
            breaker.reset()

    with ThreadPoolExecutor(9) as pool:
        callers = [pool.submit(caller, n) for n in range(8)]
        pool.submit(meddler).result()
        for each in callers:
            each.result()
    totals = breaker.snapshot().totals
    assert totals.successes + totals.late == totals.calls == 4000


def by_permit(breaker: CircuitBreaker, number: int) -> None:
    permit = breaker.acquire()
    permit.failure() if number % 2 else permit.success()


def by_call(breaker: CircuitBreaker, number: int) -> None:
    def speak() -> str:
        if number % 5 == 4:
            raise ProviderDownError
        return "spoken"

    with suppress(ProviderDownError):
        breaker.call(speak)


@pytest.mark.parametrize("entry_point", [by_permit, by_call])
def test_snapshot_is_consistent_under_threads(
    kind: type[CircuitBreaker], entry_point: Callable[[CircuitBreaker, int], None]
) -> None:
    breaker = kind("voice", CircuitBreakerConfig(failure_threshold=1.0, window_size=20))
    start = Barrier(16)
    torn = []

    def caller(_: int) -> None:
        start.wait(10)
        for number in range(150):
            entry_point(breaker, number)
            snapshot = breaker.snapshot()
            totals = snapshot.totals
            if snapshot.calls != min(20, totals.calls) or totals.calls != totals.successes + totals.failures:
                torn.append(snapshot)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(caller, range(16)))
    assert torn == []
    assert breaker.snapshot().totals.calls == 16 * 150


def test_every_call_of_sixteen_threads_is_reported_once(kind: type[CircuitBreaker], clock: VirtualClock) -> None:
    breaker = kind("voice", CircuitBreakerConfig(failure_threshold=1.0, window_size=50), clock=clock)
    reported: list[str] = []
    breaker.subscribe(
        lambda event: reported.append(event.outcome if isinstance(event, CallRecorded) else "?"), calls=True
    )
    start = Barrier(16)

    def caller(_: int) -> None:
        start.wait(10)
        for number in range(100):
            by_call(breaker, number)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(caller, range(16)))
    assert Counter(reported) == {"success": 16 * 80, "failure": 16 * 20}


def test_subscribing_and_unsubscribing_loses_no_lock_free_success(
    kind: type[CircuitBreaker], clock: VirtualClock
) -> None:
    breaker = kind("voice", CircuitBreakerConfig(failure_threshold=1.0, window_size=50), clock=clock)
    start = Barrier(17)

    def caller(_: int) -> None:
        start.wait(10)
        for number in range(200):
            by_call(breaker, number)

    with ThreadPoolExecutor(16) as pool:
        callers = [pool.submit(caller, number) for number in range(16)]
        start.wait(10)
        while not all(each.done() for each in callers):
            breaker.subscribe(lambda event: None, calls=True)()
        for each in callers:
            each.result()
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.calls) == (16 * 160, 16 * 40, 16 * 200)


def test_concurrent_lookups_of_a_name_return_one_circuit() -> None:
    registry = CircuitRegistry()
    start = Barrier(16)

    def ask(_: int) -> CircuitBreaker:
        start.wait(10)
        return registry.circuit("voice")

    with ThreadPoolExecutor(16) as pool:
        circuits = set(pool.map(ask, range(16)))
    assert len(circuits) == 1
    assert len(registry) == 1


def test_lock_free_refusals_are_counted_exactly(kind: type[CircuitBreaker]) -> None:
    breaker = kind("voice")
    breaker.acquire().failure(trip=True)
    start = Barrier(17)

    def caller(_: int) -> None:
        start.wait(10)
        for _ in range(300):
            with suppress(CircuitOpenError):
                breaker.call(lambda: "spoken")

    with ThreadPoolExecutor(16) as pool:
        callers = [pool.submit(caller, number) for number in range(16)]
        start.wait(10)
        while not all(each.done() for each in callers):
            breaker.update(breaker.config)
            breaker.snapshot()
        for each in callers:
            each.result()
    assert breaker.snapshot().totals.refused == 16 * 300


def test_every_call_is_counted_once_across_transitions(kind: type[CircuitBreaker]) -> None:
    breaker = kind("voice")
    start = Barrier(17)

    def caller(_: int) -> int:
        start.wait(10)
        refused = 0
        for _ in range(300):
            try:
                breaker.call(lambda: "spoken")
            except CircuitOpenError:
                refused += 1
        return refused

    with ThreadPoolExecutor(16) as pool:
        callers = [pool.submit(caller, number) for number in range(16)]
        start.wait(10)
        while not all(each.done() for each in callers):
            breaker.force_open()
            breaker.close()
        refused = sum(each.result() for each in callers)
    totals = breaker.snapshot().totals
    assert totals.refused == refused
    assert totals.calls + totals.refused == 16 * 300
