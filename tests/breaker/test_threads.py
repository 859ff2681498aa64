"""Many threads through one breaker: nothing lost, nothing doubled, nobody waiting for another's call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitRegistry
from tests.breaker.doors import ProviderDownError


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_protected_calls_overlap() -> None:
    breaker = CircuitBreaker("voice")
    all_inside = Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(breaker.call, all_inside.wait, 10) for _ in range(8)]
        assert sorted(call.result() for call in calls) == list(range(8))


def test_totals_are_exact_when_successes_need_no_lock() -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(failure_threshold=1.0, window_size=50))
    start = Barrier(8)

    @breaker
    def speak(number: int) -> int:
        if number % 10 == 0:
            raise ProviderDownError
        return number

    def caller(_: int) -> None:
        start.wait(10)
        for number in range(500):
            try:
                speak(number)
            except ProviderDownError:
                breaker.snapshot()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(caller, range(8)))
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.calls) == (8 * 450, 8 * 50, 8 * 500)


def test_totals_are_exact_across_transitions() -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=50))
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


def test_a_snapshot_is_never_torn() -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(failure_threshold=1.0, window_size=20))
    torn = []

    def caller(_: int) -> None:
        for number in range(300):
            permit = breaker.acquire()
            permit.failure() if number % 2 else permit.success()
            snapshot = breaker.snapshot()
            totals = snapshot.totals
            if snapshot.calls != min(20, totals.calls) or totals.calls != totals.successes + totals.failures:
                torn.append(snapshot)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(caller, range(8)))
    assert torn == []


def test_a_name_is_one_circuit_however_many_ask_at_once() -> None:
    registry = CircuitRegistry()
    start = Barrier(16)

    def ask(_: int) -> CircuitBreaker:
        start.wait(10)
        return registry.circuit("voice")

    with ThreadPoolExecutor(16) as pool:
        circuits = set(pool.map(ask, range(16)))
    assert len(circuits) == 1
    assert len(registry) == 1
