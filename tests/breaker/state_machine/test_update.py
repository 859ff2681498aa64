"""Reconfiguration at run time: the newest results that fit are kept and evaluated at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.conftest import MakeScenario

LENIENT = CircuitBreakerConfig(failure_threshold=1.0, window_size=10, minimum_calls=5)


def after(clock: VirtualClock, letters: str, config: CircuitBreakerConfig = LENIENT) -> CircuitBreaker:
    breaker = CircuitBreaker("voice", config, clock=clock)
    for letter in letters:
        permit = breaker.acquire()
        permit.success() if letter == "S" else permit.failure()
    return breaker


def test_lower_threshold_opens_the_circuit_at_once(clock: VirtualClock) -> None:
    breaker = after(clock, "SSSFFF")
    breaker.update(replace(LENIENT, failure_threshold=0.5))
    assert breaker.state == "open"
    assert breaker.config.failure_threshold == 0.5


def test_smaller_window_keeps_the_newest(clock: VirtualClock) -> None:
    breaker = after(clock, "FFFFSSSSF")
    breaker.update(replace(LENIENT, window_size=5))
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures) == (5, 1)


def test_larger_window_keeps_all(clock: VirtualClock) -> None:
    breaker = after(clock, "F" + "S" * 10 + "FS")
    breaker.update(replace(LENIENT, window_size=100))
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures) == (10, 1)
    for _ in range(90):
        breaker.acquire().success()
    assert breaker.snapshot().failures == 1
    for _ in range(9):
        breaker.acquire().success()
    assert breaker.snapshot().failures == 0


def test_from_a_count_window_to_a_time_window_and_back(clock: VirtualClock) -> None:
    breaker = after(clock, "SSFS")
    breaker.update(replace(LENIENT, window_seconds=20))
    clock.advance(10)
    for _ in range(2):
        breaker.acquire().failure(weight=0.5)
    clock.advance(9.9)
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.window_size) == (6, 2, None)
    clock.advance(0.1)
    assert breaker.snapshot().calls == 2
    breaker.update(LENIENT)
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.window_size) == (2, 1, 10)


def test_shorter_time_window_drops_old_results(clock: VirtualClock) -> None:
    config = replace(LENIENT, window_seconds=60)
    breaker = after(clock, "FF", config)
    clock.advance(30)
    breaker.acquire().success()
    breaker.update(replace(config, window_seconds=20))
    assert breaker.snapshot().calls == 1


def test_slow_calls_move_to_the_new_window_too(clock: VirtualClock) -> None:
    config = replace(LENIENT, slow_call_duration=1, slow_call_threshold=1.0)
    breaker = after(clock, "SS", config)
    breaker.acquire().success(5.0)
    breaker.acquire().failure(None, 5.0)
    for seconds in (20.0, None):
        breaker.update(replace(config, window_seconds=seconds))
        snapshot = breaker.snapshot()
        assert (snapshot.calls, snapshot.failures, snapshot.slow_calls) == (4, 1, 2)


def test_running_cooldown_ends_at_the_opening_plus_the_new_one(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1, cooldown_period=60)
    scenario.play("F")
    scenario.clock.advance(20)
    scenario.breaker.update(replace(scenario.breaker.config, cooldown_period=30))
    assert scenario.refused().retry_after == 10
    scenario.breaker.update(replace(scenario.breaker.config, cooldown_period=15))
    assert scenario.play("S") == "half_open"


def test_requested_cooldown_is_not_changed_by_an_update(clock: VirtualClock) -> None:
    breaker = after(clock, "")
    breaker.acquire().failure(trip=True, cooldown=7200)
    breaker.update(replace(LENIENT, cooldown_period=5))
    assert breaker.snapshot().retry_after == 7200


def test_lower_success_threshold_can_close_the_circuit_at_once(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1, success_threshold=5)
    scenario.play("F")
    scenario.clock.advance(60)
    scenario.play("SS")
    scenario.breaker.update(replace(scenario.breaker.config, success_threshold=2))
    assert scenario.state == "closed"


def test_calls_in_flight_still_count_after_an_update(clock: VirtualClock) -> None:
    breaker = after(clock, "SSSS")
    permit = breaker.acquire()
    breaker.update(replace(LENIENT, window_size=20))
    permit.failure()
    assert breaker.snapshot().failures == 1


def test_hung_after_can_change_while_calls_hang(clock: VirtualClock) -> None:
    config = replace(LENIENT, hung_after=60.0, minimum_calls=2)
    breaker = after(clock, "", config)
    permits = [breaker.acquire() for _ in range(2)]
    clock.advance(30)
    breaker.update(replace(config, hung_after=40.0))
    assert breaker.snapshot().hung_calls == 0
    breaker.update(replace(config, hung_after=20.0, failure_threshold=None, consecutive_failures=5))
    assert breaker.snapshot().hung_calls == 2
    breaker.update(replace(config, hung_after=None))
    assert breaker.snapshot().hung_calls == 0
    breaker.update(replace(config, hung_after=20.0))
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.acquire()
    assert refusal.value.retry_after == 60
    assert len(permits) == 2


def test_new_hung_after_that_ends_exactly_now_is_over(clock: VirtualClock) -> None:
    config = replace(LENIENT, hung_after=60.0)
    breaker = after(clock, "", config)
    permit = breaker.acquire()
    clock.advance(20)
    breaker.update(replace(config, hung_after=20.0))
    assert breaker.snapshot().hung_calls == 1
    permit.ignore()


def test_longer_hung_after_keeps_the_oldest_call_first(clock: VirtualClock) -> None:
    config = replace(LENIENT, hung_after=5.0)
    breaker = after(clock, "", config)
    oldest = breaker.acquire()
    clock.advance(6)
    younger = breaker.acquire()
    breaker.update(replace(config, hung_after=10.0))
    assert breaker.snapshot().hung_calls == 0
    clock.advance(4)
    younger.progress()
    assert breaker.snapshot().hung_calls == 1
    oldest.ignore()


def test_probe_expires_when_hung_after_is_shortened(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(window_size=1)
    breaker = after(clock, "F", config)
    clock.advance(60)
    probe = breaker.acquire()
    clock.advance(30)
    breaker.update(replace(config, hung_after=5.0))
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    assert breaker.state == "open"
    probe.ignore()


def test_call_that_ended_untracked_does_not_hang_later(clock: VirtualClock) -> None:
    config = replace(LENIENT, hung_after=5.0)
    breaker = after(clock, "", config)
    quick, held = breaker.acquire(), breaker.acquire()
    held.pause()
    breaker.update(LENIENT)
    quick.success()
    held.success()
    clock.advance(6)
    breaker.update(config)
    snapshot = breaker.snapshot()
    assert (snapshot.hung_calls, snapshot.in_flight, snapshot.calls) == (0, 0, 2)


def test_paused_call_stays_in_flight_after_an_update(clock: VirtualClock) -> None:
    config = replace(LENIENT, hung_after=5.0)
    breaker = after(clock, "", config)
    permit = breaker.acquire()
    permit.pause()
    breaker.update(replace(config, hung_after=10.0))
    assert breaker.snapshot().in_flight == 1
    permit.success()
    assert breaker.snapshot().in_flight == 0


@pytest.mark.parametrize("has_delivered", [False, True])
def test_streams_with_busy_consumers_do_not_hang_by_a_new_threshold(clock: VirtualClock, has_delivered: bool) -> None:
    config = replace(LENIENT, hung_after=60.0)
    breaker = after(clock, "", config)
    waiting, *permits = [breaker.acquire() for _ in range(7)]
    for permit in permits:
        if has_delivered:
            permit.progress()
        permit.pause()
    clock.advance(10)
    breaker.update(replace(config, hung_after=5.0))
    assert breaker.state == "closed"
    assert (breaker.snapshot().hung_calls, breaker.snapshot().in_flight) == (1, 7)
    waiting.ignore()
    for permit in permits:
        permit.resume()
    clock.advance(5)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()


def test_removed_rule_no_longer_opens_the_circuit(clock: VirtualClock) -> None:
    breaker = after(clock, "", replace(LENIENT, slow_call_duration=1))
    for _ in range(4):
        breaker.acquire().success(2.0)
    breaker.update(replace(LENIENT, minimum_calls=4))
    assert breaker.state == "closed"


def test_update_applies_to_functions_decorated_before(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(), clock=clock)

    @breaker
    def speak() -> str:
        return "bad"

    speak()
    breaker.update(CircuitBreakerConfig(minimum_calls=2, failure_result=lambda value: value == "bad"))
    speak()
    assert breaker.state == "open"


def test_failed_probes_are_evaluated_by_the_new_settings(clock: VirtualClock) -> None:
    settings = CircuitBreakerConfig(window_size=1, success_threshold=3, half_open_failures=3)
    breaker = CircuitBreaker("voice", settings, clock=clock)
    breaker.acquire().failure()
    clock.advance(60)
    for _ in range(2):
        breaker.acquire().failure("503")
    assert breaker.state == "half_open"
    breaker.update(replace(settings, half_open_failures=1))
    assert (breaker.state, breaker.snapshot().reason) == ("open", "a probe failed: 503, the last of 2 that failed")


def test_run_of_failures_outside_the_window_opens_nothing(clock: VirtualClock) -> None:
    settings = CircuitBreakerConfig(window_seconds=60, consecutive_failures=3)
    breaker = CircuitBreaker("voice", settings, clock=clock)
    for _ in range(2):
        breaker.acquire().failure()
    clock.advance(3600)
    breaker.update(replace(settings, consecutive_failures=2))
    assert (breaker.state, breaker.snapshot().consecutive_failures) == ("closed", 2)
    breaker.acquire().failure()
    assert breaker.state == "open"
