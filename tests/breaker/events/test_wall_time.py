"""Times of day: noted when something happens, and never changed afterwards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError, FailureRecord
from steadyvoice.breaker.testing import VirtualClock

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def by_snapshot(breaker: CircuitBreaker) -> FailureRecord | None:
    return breaker.snapshot().last_error


def by_explanation(breaker: CircuitBreaker) -> FailureRecord | None:
    return breaker.explain().failures[-1]


def by_refusal(breaker: CircuitBreaker) -> FailureRecord | None:
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.acquire()
    return refusal.value.last_error


@pytest.mark.parametrize("look", [by_snapshot, by_explanation, by_refusal])
def test_time_of_a_failure_stays_when_the_computer_was_suspended(
    clock: VirtualClock, look: Callable[[CircuitBreaker], FailureRecord | None]
) -> None:
    wall_clock = VirtualClock(NOON.timestamp())
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1), clock=clock, wall_clock=wall_clock)
    breaker.acquire().failure("503")
    for suspended in (0, 3600, 12 * 3600):  # a monotonic clock stands still meanwhile
        wall_clock.advance(suspended)
        clock.advance(1)
        wall_clock.advance(1)
        error = look(breaker)
        assert error is not None
        assert error.at == NOON
    assert breaker.snapshot().opened_at == NOON


def test_timer_failure_has_the_time_at_which_it_was_due(clock: VirtualClock) -> None:
    wall_clock = VirtualClock(NOON.timestamp())
    breaker = CircuitBreaker(
        "voice", CircuitBreakerConfig(hung_after=5, window_size=1), clock=clock, wall_clock=wall_clock
    )
    permit = breaker.acquire()
    for each in (clock, wall_clock):
        each.advance(20)
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.acquire()
    wall_clock.advance(3600)
    error = breaker.snapshot().last_error
    assert error is not None
    assert error == refusal.value.last_error
    assert (error.kind, error.at) == ("hanging", NOON.replace(second=5))
    permit.ignore()
