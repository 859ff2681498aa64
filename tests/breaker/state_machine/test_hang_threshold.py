"""Threshold after which a call without progress hangs: longer where the provider is slow but works."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.breaker import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitConfigError,
    CircuitOpenError,
    CircuitState,
)
from steadyvoice.breaker.in_flight_calls import LEARNED_CALLS, HangThreshold
from steadyvoice.breaker.testing import VirtualClock

PATIENT = CircuitBreakerConfig(
    consecutive_failures=3,
    failure_threshold=None,
    hung_after=2,
    hung_factor=1.5,
    half_open_timeout=20,
    success_threshold=1,
    cooldown_period=60,
)


@pytest.fixture
def breaker(clock: VirtualClock) -> CircuitBreaker:
    return CircuitBreaker("voice", PATIENT, clock=clock)


def answer(breaker: CircuitBreaker, clock: VirtualClock, seconds: float) -> None:
    permit = breaker.acquire()
    clock.advance(seconds)
    permit.success()


def get_to_know(breaker: CircuitBreaker, clock: VirtualClock, seconds: float = 0.5) -> None:
    """Make as many calls as it takes to learn the latency of a provider."""
    for _ in range(LEARNED_CALLS):
        answer(breaker, clock, seconds)


def seconds_until_open(breaker: CircuitBreaker, clock: VirtualClock) -> float:
    """Begin three calls, say nothing more of them, and look every quarter of a second."""
    silent = [breaker.acquire() for _ in range(3)]
    for quarters in range(1, 400):
        clock.advance(0.25)
        try:
            breaker.acquire().ignore()
        except CircuitOpenError:
            assert len(silent) == 3
            return quarters / 4
    raise AssertionError("it never opens")


def test_quick_provider_hangs_after_hung_after(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    get_to_know(breaker, clock)
    assert seconds_until_open(breaker, clock) == 2


def test_slow_provider_hangs_after_a_multiple_of_its_longest_latency(
    breaker: CircuitBreaker, clock: VirtualClock
) -> None:
    get_to_know(breaker, clock)
    for seconds in (4, 8, 1):
        answer(breaker, clock, seconds)
    assert seconds_until_open(breaker, clock) == 12


def test_new_provider_hangs_after_the_timeout_of_a_probe(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    for _ in range(LEARNED_CALLS - 1):
        answer(breaker, clock, 0.5)
    assert seconds_until_open(breaker, clock) == 20


def test_slow_latency_expires_after_many_quick_ones(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    answer(breaker, clock, 10)
    get_to_know(breaker, clock)
    assert seconds_until_open(breaker, clock) == 15
    breaker.reset()
    get_to_know(breaker, clock)
    assert seconds_until_open(breaker, clock) == 2


def test_waiting_call_hangs_sooner_once_a_slow_latency_expired(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    get_to_know(breaker, clock, 10)
    for _ in range(LEARNED_CALLS - 1):
        answer(breaker, clock, 0.5)
    waiting = [breaker.acquire() for _ in range(3)]
    answer(breaker, clock, 0.5)
    clock.advance(1.5)
    assert len(waiting) == 3
    with pytest.raises(CircuitOpenError):
        breaker.acquire()


def test_stream_is_measured_by_its_first_progress(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    get_to_know(breaker, clock)
    stream = breaker.acquire()
    clock.advance(4)
    stream.progress()
    clock.advance(600)
    stream.progress()
    clock.advance(600)
    stream.success()
    assert seconds_until_open(breaker, clock) == 6


def test_failure_is_not_measured(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    get_to_know(breaker, clock)
    permit = breaker.acquire()
    clock.advance(600)
    permit.failure()
    answer(breaker, clock, 0.5)
    assert seconds_until_open(breaker, clock) == 2


def test_provider_that_became_slow_opens_the_circuit_once_and_its_late_answers_keep_it_closed(
    breaker: CircuitBreaker, clock: VirtualClock
) -> None:
    get_to_know(breaker, clock)
    permits = [breaker.acquire() for _ in range(3)]
    clock.advance(6)
    permits[0].success()
    assert breaker.snapshot().state is CircuitState.OPEN
    clock.advance(60)
    answer(breaker, clock, 6)  # a probe: longer than hung_after
    assert breaker.snapshot().state is CircuitState.CLOSED
    assert seconds_until_open(breaker, clock) == 9


def test_settled_call_is_not_measured(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    get_to_know(breaker, clock)
    permit = breaker.acquire()
    permit.ignore()
    clock.advance(600)
    permit.progress()
    permit.success()
    assert seconds_until_open(breaker, clock) == 2


def test_probe_expires_at_the_hang_threshold_or_its_timeout(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    get_to_know(breaker, clock, 60)
    for _ in range(3):
        breaker.acquire().failure()
    clock.advance(60)
    probe = breaker.acquire()
    clock.advance(19.9)
    assert breaker.snapshot().state is CircuitState.HALF_OPEN
    clock.advance(0.1)
    probe.success()
    assert breaker.snapshot().state is CircuitState.OPEN


def test_no_latency_is_learned_without_hung_factor(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.update(replace(PATIENT, hung_factor=None))
    get_to_know(breaker, clock, 60)
    assert seconds_until_open(breaker, clock) == 2


@pytest.mark.parametrize("factor", [0, 0.99, -1, True, "2", float("nan"), float("inf")])
def test_hung_factor_below_one_is_refused(factor: float) -> None:
    with pytest.raises(CircuitConfigError, match=r"hung_factor=.*must be a number, 1 or more"):
        CircuitBreakerConfig(hung_after=2, hung_factor=factor)


def test_hung_factor_without_hung_after_is_refused() -> None:
    with pytest.raises(CircuitConfigError, match="hung_factor"):
        CircuitBreakerConfig(hung_factor=2)


@given(st.lists(st.floats(0, 100), min_size=LEARNED_CALLS, max_size=3 * LEARNED_CALLS))
def test_latency_of_one_of_the_last_hundred_calls_does_not_hang(silences: list[float]) -> None:
    patience = HangThreshold()
    for silence in silences:
        patience.record(silence)
    seconds = patience.seconds(PATIENT)
    assert seconds is not None
    assert max(2, 1.5 * max(silences[-LEARNED_CALLS:])) <= seconds <= max(2, 1.5 * max(silences[-2 * LEARNED_CALLS :]))
