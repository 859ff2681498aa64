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


def flaky(clock: VirtualClock, luck: float = 0.0, **settings: Any) -> CircuitBreaker:
    config = CircuitBreakerConfig(**{"window_size": 1, "cooldown_period": 10, "success_threshold": 1, **settings})
    return CircuitBreaker("voice", config, clock=clock, random=lambda: luck)


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


def test_a_schedule_names_each_cooldown_and_its_last_one_stays(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_schedule=(5, 30, 20))
    assert cooldowns(breaker, clock, 5) == [5, 30, 20, 20, 20]


def test_a_schedule_is_walked_back_as_backoff_is(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_schedule=(5, 30, 20))
    cooldowns(breaker, clock, 6)
    breaker.acquire().success()
    clock.advance(20)
    assert cooldown(breaker) == 20
    clock.advance(20)
    breaker.acquire().success()
    clock.advance(60)
    assert cooldown(breaker) == 5


def test_a_schedule_that_became_shorter_goes_on_with_its_last(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_schedule=(5, 10, 20, 40))
    cooldowns(breaker, clock, 4)
    breaker.update(replace(breaker.config, cooldown_schedule=(5, 7)))
    assert cooldown(breaker) == 7


def test_a_schedule_and_backoff_contradict_each_other() -> None:
    contradictions: list[dict[str, Any]] = [{"cooldown_backoff": 2}, {"max_cooldown": 60}]
    for settings in contradictions:
        with pytest.raises(CircuitConfigError, match="has no effect with cooldown_schedule"):
            CircuitBreakerConfig(cooldown_schedule=(5, 30), **settings)


def test_a_relapse_right_after_closing_goes_on_where_it_was(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2)
    cooldowns(breaker, clock, 3)
    breaker.acquire().success()
    clock.advance(39)
    assert cooldown(breaker) == 80


def test_each_cooldown_of_closed_life_takes_one_step_back(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2)
    cooldowns(breaker, clock, 3)
    breaker.acquire().success()
    clock.advance(80)
    assert cooldown(breaker) == 20


def test_a_long_healthy_time_forgets_it_all(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2)
    cooldowns(breaker, clock, 3)
    breaker.acquire().success()
    clock.advance(1e9)
    assert cooldown(breaker) == 10


def test_a_night_at_the_cap_is_forgotten_as_fast_as_the_way_there(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2, max_cooldown=60)
    cooldowns(breaker, clock, 500)
    breaker.acquire().success()
    clock.advance(2 * 60)
    assert cooldown(breaker) == 40


def test_a_reset_forgets_it_too(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2)
    cooldowns(breaker, clock, 3)
    breaker.reset()
    assert cooldown(breaker) == 10


def test_a_reset_forgets_even_what_hung_unseen(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2, hung_after=5)
    permit = breaker.acquire()
    clock.advance(6)
    breaker.reset()
    permit.ignore()
    assert cooldown(breaker) == 10


@pytest.mark.parametrize(("cap", "level"), [(10, 0), (20, 1), (30, 2)])
def test_openings_at_the_cap_are_not_added_up(clock: VirtualClock, cap: float, level: int) -> None:
    breaker = flaky(clock, cooldown_backoff=2, max_cooldown=cap)
    cooldowns(breaker, clock, 6)
    assert breaker.export()["level"] == level


def test_what_is_forgotten_is_forgotten_once(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2)
    cooldowns(breaker, clock, 3)
    breaker.acquire().success()
    clock.advance(1e9)
    cooldown(breaker)
    assert breaker.export()["level"] == 0
    breaker.reset()
    assert breaker.export()["level"] == -1


def test_without_jitter_luck_is_not_asked_and_changes_nothing_later(clock: VirtualClock) -> None:
    asked: list[str] = []

    def luck() -> float:
        asked.append("luck")
        return 0.5

    config = CircuitBreakerConfig(window_size=1, cooldown_period=10)
    breaker = CircuitBreaker("voice", config, clock=clock, random=luck)
    cooldown(breaker)
    breaker.update(replace(config, cooldown_jitter=0.5))
    assert breaker.snapshot().retry_after == 10
    assert asked == []


def test_a_named_time_is_kept_to_the_letter_and_says_nothing_about_the_next(clock: VirtualClock) -> None:
    breaker = flaky(clock, cooldown_backoff=2, max_cooldown=60, cooldown_jitter=0.5, luck=0.9)
    breaker.acquire().failure(trip=True, cooldown=7200)
    assert breaker.snapshot().retry_after == 7200
    clock.advance(7200)
    assert cooldown(breaker) == pytest.approx(5.5)


@given(luck=st.floats(0, 1, exclude_max=True), jitter=st.floats(0, 1))
def test_jitter_shortens_by_up_to_its_share(luck: float, jitter: float) -> None:
    seconds = cooldown(flaky(VirtualClock(), luck, cooldown_jitter=jitter))
    assert 10 * (1 - jitter) - 1e-9 <= seconds <= 10


def test_jitter_draws_anew_for_each_opening(clock: VirtualClock) -> None:
    luck = iter([0.0, 0.5])
    config = CircuitBreakerConfig(window_size=1, cooldown_period=10, cooldown_jitter=0.5)
    breaker = CircuitBreaker("voice", config, clock=clock, random=lambda: next(luck))
    assert cooldowns(breaker, clock, 2) == [10, 7.5]


def test_no_luck_needs_to_be_brought(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(window_size=1, cooldown_period=10, cooldown_jitter=0.5)
    assert 5 <= cooldown(CircuitBreaker("voice", config, clock=clock)) <= 10


@pytest.mark.parametrize("backoff", [1e308, 2])
def test_a_huge_cooldown_overflows_nothing(backoff: float) -> None:
    config = CircuitBreakerConfig(cooldown_period=1e300, cooldown_backoff=backoff)
    cooldown = Cooldown(lambda: 0.0)
    seconds = [cooldown.start(config, None, healthy=0.0) for _ in range(1100)]
    assert seconds == sorted(seconds)
    assert math.isfinite(seconds[-1])
