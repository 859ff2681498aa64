"""Closed circuit: rules, windows, and the outcomes that count."""

from __future__ import annotations

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig
from tests.breaker.conftest import MakeScenario


def test_three_failures_of_five_open_the_circuit_at_the_fifth_result(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=10, minimum_calls=5)
    assert scenario.play("FFFS") == "closed"
    assert scenario.play("S") == "open"
    snapshot = scenario.breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.failure_rate) == (5, 3, 0.6)


def test_four_failures_are_below_the_minimum_of_calls(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(minimum_calls=5)
    assert scenario.play("FFFF") == "closed"
    assert not scenario.breaker.snapshot().enough_calls
    assert "1 more call needed" in str(scenario.breaker.explain())


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
    make_scenario: MakeScenario, threshold: float, script: str, state: str
) -> None:
    size = len(script)
    scenario = make_scenario(failure_threshold=threshold, window_size=size, minimum_calls=size)
    assert scenario.play(script[:-1]) == "closed"
    assert scenario.play(script[-1]) == state


def test_minimum_defaults_to_half_the_window_rounded_up(make_scenario: MakeScenario) -> None:
    assert make_scenario(window_size=7).play("FFF") == "closed"
    assert make_scenario(window_size=7).play("FFFF") == "open"


def test_newest_result_replaces_the_oldest(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=4, minimum_calls=4)
    assert scenario.play("SSSSF") == "closed"
    assert scenario.play("F") == "open"
    assert scenario.breaker.snapshot().failure_rate == 0.5


def test_failures_that_left_the_window_are_forgotten(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=4, minimum_calls=4)
    assert scenario.play("SFSSSSFSSS") == "closed"
    assert scenario.breaker.snapshot().failures == 1


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


def test_long_lock_free_run_is_counted_exactly(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=10)
    scenario.play("S" * 250)
    snapshot = scenario.breaker.snapshot()
    assert (snapshot.calls, snapshot.totals.successes, snapshot.totals.calls) == (10, 250, 250)


def test_call_that_opens_the_circuit_raises_its_own_error(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1)
    assert scenario.play("F") == "open"  # play() lets nothing but the provider's own error pass


def test_three_failures_in_a_row_open_it(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(failure_threshold=None, consecutive_failures=3)
    assert scenario.play("FFSFF") == "closed"
    assert scenario.play("F") == "open"


def test_ignored_call_does_not_end_a_run_of_failures(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(failure_threshold=None, consecutive_failures=3)
    assert scenario.play("FFXCF") == "open"


def test_any_broken_rule_opens_the_circuit(make_scenario: MakeScenario) -> None:
    rules = {"window_size": 10, "minimum_calls": 10, "consecutive_failures": 3}
    assert make_scenario(**rules).play("FFF") == "open"
    assert make_scenario(**rules).play("FSFSFSFSFS") == "open"


@pytest.mark.parametrize("letter", ["X", "C"])
def test_ignored_and_cancelled_calls_are_not_counted_in_the_window(make_scenario: MakeScenario, letter: str) -> None:
    scenario = make_scenario(window_size=2, minimum_calls=1)
    assert scenario.play(letter * 50) == "closed"
    snapshot = scenario.breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.totals.ignored) == (0, 0, 50)


def test_slow_calls_open_the_circuit_whether_they_succeed_or_fail(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(
        slow=4, slow_call_duration=4, slow_call_threshold=0.5, minimum_calls=5, failure_threshold=1.0
    )
    assert scenario.play("WVSS") == "closed"
    assert scenario.play("W") == "open"
    assert scenario.breaker.snapshot().slow_calls == 3
    assert "slow" in scenario.breaker.snapshot().reason


def test_call_just_below_the_limit_is_not_slow(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(slow=3.999, slow_call_duration=4, slow_call_threshold=0.5, minimum_calls=1)
    assert scenario.play("WWWW") == "closed"
    assert scenario.breaker.snapshot().slow_calls == 0


def test_without_a_slow_threshold_all_calls_must_be_slow(make_scenario: MakeScenario) -> None:
    rules = {"slow": 5, "slow_call_duration": 4, "window_size": 4, "minimum_calls": 4}
    assert make_scenario(**rules).play("WWWS") == "closed"
    assert make_scenario(**rules).play("WWWW") == "open"


def test_time_window_holds_the_last_seconds(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_seconds=20, minimum_calls=5)
    assert scenario.play("SSSFF", every=1) == "closed"
    assert scenario.play("F") == "open"


def test_results_leave_a_time_window_exactly_when_it_is_over(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_seconds=20, minimum_calls=10)
    scenario.play("FFFF")
    scenario.clock.advance(19.999)
    assert scenario.breaker.snapshot().failures == 4
    scenario.clock.advance(0.001)
    assert scenario.breaker.snapshot().calls == 0


def test_idle_hour_empties_a_time_window_at_once(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_seconds=10, minimum_calls=5)
    scenario.play("FFFF", every=1)
    scenario.clock.advance(3600)
    assert scenario.play("F") == "closed"
    assert scenario.breaker.snapshot().calls == 1


def test_quick_success_can_complete_the_minimum_of_the_slow_call_rate(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=4, minimum_calls=3, slow_call_duration=5, slow_call_threshold=0.5)
    assert scenario.play("WW") == "closed"
    assert scenario.play("S") == "open"
