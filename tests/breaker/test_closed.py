"""A closed circuit: what opens it, and what does not."""

from __future__ import annotations

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig
from tests.breaker.conftest import Tell


def test_three_failures_of_five_open_the_circuit_at_the_fifth_result(tell: Tell) -> None:
    story = tell(window_size=10, minimum_calls=5)
    assert story.play("FFFS") == "closed"
    assert story.play("S") == "open"
    snapshot = story.breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.failure_rate) == (5, 3, 0.6)


def test_four_failures_are_below_the_minimum_of_calls(tell: Tell) -> None:
    story = tell(minimum_calls=5)
    assert story.play("FFFF") == "closed"
    assert not story.breaker.snapshot().enough_calls
    assert "1 more call needed" in str(story.breaker.explain())


@pytest.mark.parametrize(
    ("threshold", "script", "state"),
    [
        (0.5, "SSFF", "open"),
        (0.51, "SSFF", "closed"),
        (0.5, "SSSF", "closed"),
        (0.3, "SSSSSSSFFF", "open"),
        (0.6, "FSFSF", "open"),
        (1.0, "FFFF", "open"),
        (1.0, "SFFF", "closed"),
    ],
)
def test_threshold_is_reached_when_the_rate_equals_it(
    tell: Tell, threshold: float, script: str, state: str
) -> None:
    size = len(script)
    story = tell(failure_threshold=threshold, window_size=size, minimum_calls=size)
    assert story.play(script[:-1]) == "closed"
    assert story.play(script[-1]) == state


def test_minimum_defaults_to_half_the_window_rounded_up(tell: Tell) -> None:
    assert tell(window_size=7).play("FFF") == "closed"
    assert tell(window_size=7).play("FFFF") == "open"


def test_newest_result_replaces_the_oldest(tell: Tell) -> None:
    story = tell(window_size=4, minimum_calls=4)
    assert story.play("SSSSF") == "closed"
    assert story.play("F") == "open"
    assert story.breaker.snapshot().failure_rate == 0.5


def test_failures_that_left_the_window_are_forgotten(tell: Tell) -> None:
    story = tell(window_size=4, minimum_calls=4)
    assert story.play("SFSSSSFSSS") == "closed"
    assert story.breaker.snapshot().failures == 1


@pytest.mark.parametrize(("before", "readings"), [("", 0), ("F", 2), ("FSSSS", 0)])
def test_lock_free_call_does_not_read_the_clock(before: str, readings: int) -> None:
    read: list[float] = []

    def clock() -> float:
        read.append(0.0)
        return 0.0

    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=10, minimum_calls=5), clock=clock)
    for letter in before:
        permit = breaker.acquire()
        permit.success() if letter == "S" else permit.failure()
    read.clear()
    breaker.call(lambda: "spoken")
    assert len(read) == readings


def test_long_lock_free_run_is_counted_exactly(tell: Tell) -> None:
    story = tell(window_size=10)
    story.play("S" * 250)
    snapshot = story.breaker.snapshot()
    assert (snapshot.calls, snapshot.totals.successes, snapshot.totals.calls) == (10, 250, 250)


def test_call_that_opens_the_circuit_raises_its_own_error(tell: Tell) -> None:
    story = tell(window_size=1)
    assert story.play("F") == "open"  # play() lets nothing but the provider's own error pass


def test_three_failures_in_a_row_open_it(tell: Tell) -> None:
    story = tell(failure_threshold=None, consecutive_failures=3)
    assert story.play("FFSFF") == "closed"
    assert story.play("F") == "open"


def test_ignored_call_does_not_end_a_run_of_failures(tell: Tell) -> None:
    story = tell(failure_threshold=None, consecutive_failures=3)
    assert story.play("FFXCF") == "open"


def test_any_broken_rule_opens_the_circuit(tell: Tell) -> None:
    rules = {"window_size": 10, "minimum_calls": 10, "consecutive_failures": 3}
    assert tell(**rules).play("FFF") == "open"
    assert tell(**rules).play("FSFSFSFSFS") == "open"


@pytest.mark.parametrize("letter", ["X", "C"])
def test_ignored_and_cancelled_calls_are_not_counted_in_the_window(tell: Tell, letter: str) -> None:
    story = tell(window_size=2, minimum_calls=1)
    assert story.play(letter * 50) == "closed"
    snapshot = story.breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.totals.ignored) == (0, 0, 50)


def test_slow_calls_open_the_circuit_whether_they_succeed_or_fail(tell: Tell) -> None:
    story = tell(slow=4, slow_call_duration=4, slow_call_threshold=0.5, minimum_calls=5, failure_threshold=1.0)
    assert story.play("WVSS") == "closed"
    assert story.play("W") == "open"
    assert story.breaker.snapshot().slow_calls == 3
    assert "slow" in story.breaker.snapshot().reason


def test_call_just_below_the_limit_is_not_slow(tell: Tell) -> None:
    story = tell(slow=3.999, slow_call_duration=4, slow_call_threshold=0.5, minimum_calls=1)
    assert story.play("WWWW") == "closed"
    assert story.breaker.snapshot().slow_calls == 0


def test_without_a_slow_threshold_all_calls_must_be_slow(tell: Tell) -> None:
    rules = {"slow": 5, "slow_call_duration": 4, "window_size": 4, "minimum_calls": 4}
    assert tell(**rules).play("WWWS") == "closed"
    assert tell(**rules).play("WWWW") == "open"


def test_time_window_holds_the_last_seconds(tell: Tell) -> None:
    story = tell(window_seconds=20, minimum_calls=5)
    assert story.play("SSSFF", every=1) == "closed"
    assert story.play("F") == "open"


def test_results_leave_a_time_window_exactly_when_it_is_over(tell: Tell) -> None:
    story = tell(window_seconds=20, minimum_calls=10)
    story.play("FFFF")
    story.clock.advance(19.999)
    assert story.breaker.snapshot().failures == 4
    story.clock.advance(0.001)
    assert story.breaker.snapshot().calls == 0


def test_idle_hour_empties_a_time_window_at_once(tell: Tell) -> None:
    story = tell(window_seconds=10, minimum_calls=5)
    story.play("FFFF", every=1)
    story.clock.advance(3600)
    assert story.play("F") == "closed"
    assert story.breaker.snapshot().calls == 1


def test_quick_success_can_complete_the_minimum_of_the_slow_call_rate(tell: Tell) -> None:
    story = tell(window_size=4, minimum_calls=3, slow_call_duration=5, slow_call_threshold=0.5)
    assert story.play("WW") == "closed"
    assert story.play("S") == "open"
