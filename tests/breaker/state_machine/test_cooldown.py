"""Cooldowns: backoff, its decay, jitter and a cap."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitConfigError
from steadyvoice.breaker.backoff import Cooldown
from steadyvoice.breaker.testing import VirtualClock


def flaky(clock: VirtualClock, random: float = 0.0, **settings: Any) -> CircuitBreaker:
    config = CircuitBreakerConfig(**{"window_size": 1, "cooldown_period": 10, "success_threshold": 1, **settings})
    return CircuitBreaker("voice", config, clock=clock, random=lambda: random)


def cooldown(breaker: CircuitBreaker) -> float:
    """Fail the next call, and say how long the circuit refuses now."""
    breaker.acquire().failure()
    retry_after = breaker.snapshot().retry_after
    assert retry_after is not None
    return retry_after


def cooldowns(breaker: CircuitBreaker, clock: VirtualClock, count: int) -> list[float]:
    """The cooldowns of an outage in which every probe fails."""
    seen = []
    for _ in range(count):
        seen.append(cooldown(breaker))
        clock.advance(seen[-1])
    return seen


def test_without_backoff_every_cooldown_is_the_same(clock: VirtualClock) -> None:
    assert cooldowns(flaky(clock), clock, 4) == [10, 10, 10, 10]


def test_each_failed_probe_lengthens_the_next_cooldown_up_to_a_cap(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2, max_cooldown=60)
    assert cooldowns(breaker, clock, 5) == [10, 20, 40, 60, 60]


def test_schedule_lists_each_cooldown_and_repeats_the_last(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_schedule=(5, 30, 20))
    assert cooldowns(breaker, clock, 5) == [5, 30, 20, 20, 20]


def test_schedule_decays_as_backoff_does(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_schedule=(5, 30, 20))
    cooldowns(breaker, clock, 6)
    breaker.acquire().success()
    clock.advance(20)
    assert cooldown(breaker) == 20
    clock.advance(20)
    breaker.acquire().success()
    clock.advance(60)
    assert cooldown(breaker) == 5


def test_shortened_schedule_continues_with_its_last_cooldown(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_schedule=(5, 10, 20, 40))
    cooldowns(breaker, clock, 4)
    breaker.update(replace(breaker.config, cooldown_schedule=(5, 7)))
    assert cooldown(breaker) == 7


def test_schedule_together_with_backoff_is_refused() -> None:
    contradictions: list[dict[str, Any]] = [{"cooldown_backoff": 2}, {"max_cooldown": 60}]
    for settings in contradictions:
        with pytest.raises(CircuitConfigError, match="has no effect with cooldown_schedule"):
            CircuitBreakerConfig(cooldown_schedule=(5, 30), **settings)


def test_backoff_continues_when_the_circuit_opens_right_after_closing(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2)
    cooldowns(breaker, clock, 3)
    breaker.acquire().success()
    clock.advance(39)
    assert cooldown(breaker) == 80


def test_backoff_decays_one_level_for_each_cooldown_spent_closed(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2)
    cooldowns(breaker, clock, 3)
    breaker.acquire().success()
    clock.advance(80)
    assert cooldown(breaker) == 20


def test_long_time_closed_resets_the_backoff(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2)
    cooldowns(breaker, clock, 3)
    breaker.acquire().success()
    clock.advance(1e9)
    assert cooldown(breaker) == 10


def test_backoff_does_not_rise_beyond_the_cap(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2, max_cooldown=60)
    cooldowns(breaker, clock, 500)
    breaker.acquire().success()
    clock.advance(2 * 60)
    assert cooldown(breaker) == 40


def test_reset_resets_the_backoff(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2)
    cooldowns(breaker, clock, 3)
    breaker.reset()
    assert cooldown(breaker) == 10


def test_reset_includes_calls_that_hung_before_it(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2, hung_after=5)
    permit = breaker.acquire()
    clock.advance(6)
    breaker.reset()
    permit.ignore()
    assert cooldown(breaker) == 10


@pytest.mark.parametrize(("cap", "level"), [(10, 0), (20, 1), (30, 2)])
def test_openings_at_the_cap_do_not_raise_the_level(clock: VirtualClock, cap: float, level: int) -> None:
    breaker = flaky(clock, cooldown_backoff=2, max_cooldown=cap)
    cooldowns(breaker, clock, 6)
    assert breaker.export()["level"] == level


def test_decay_is_applied_once(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2)
    cooldowns(breaker, clock, 3)
    breaker.acquire().success()
    clock.advance(1e9)
    cooldown(breaker)
    assert breaker.export()["level"] == 0
    breaker.reset()
    assert breaker.export()["level"] == -1


def test_random_is_not_called_without_jitter(clock: VirtualClock) -> None:
    asked: list[str] = []

    def random() -> float:
        asked.append("random")
        return 0.5

    config = CircuitBreakerConfig(window_size=1, cooldown_period=10)
    breaker = CircuitBreaker("voice", config, clock=clock, random=random)
    cooldown(breaker)
    breaker.update(replace(config, cooldown_jitter=0.5))
    assert breaker.snapshot().retry_after == 10
    assert asked == []


def test_requested_cooldown_is_exact_and_leaves_the_backoff_unchanged(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2, max_cooldown=60, cooldown_jitter=0.5, random=0.9)
    breaker.acquire().failure(trip=True, cooldown=7200)
    assert breaker.snapshot().retry_after == 7200
    clock.advance(7200)
    assert cooldown(breaker) == pytest.approx(5.5)


@given(random=st.floats(0, 1, exclude_max=True), jitter=st.floats(0, 1))
def test_jitter_shortens_the_cooldown_by_at_most_its_share(random: float, jitter: float) -> None:
    seconds = cooldown(flaky(VirtualClock(), random, cooldown_jitter=jitter))
    assert 10 * (1 - jitter) - 1e-9 <= seconds <= 10


def test_jitter_is_drawn_for_each_opening(clock: VirtualClock) -> None:
    random = iter([0.0, 0.5])
    config = CircuitBreakerConfig(window_size=1, cooldown_period=10, cooldown_jitter=0.5)
    breaker = CircuitBreaker("voice", config, clock=clock, random=lambda: next(random))
    assert cooldowns(breaker, clock, 2) == [10, 7.5]


def test_random_has_a_default(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(window_size=1, cooldown_period=10, cooldown_jitter=0.5)
    assert 5 <= cooldown(CircuitBreaker("voice", config, clock=clock)) <= 10


@pytest.mark.parametrize("backoff", [1e308, 2])
def test_huge_cooldown_does_not_overflow(backoff: float) -> None:
    config = CircuitBreakerConfig(cooldown_period=1e300, cooldown_backoff=backoff)
    cooldown = Cooldown()
    seconds = [cooldown.start(config, None, healthy=0.0, random=float) for _ in range(1100)]
    assert seconds == sorted(seconds)
    assert math.isfinite(seconds[-1])
