"""Open circuit: refusals, and the end of the cooldown."""

from __future__ import annotations

import traceback
from datetime import timedelta
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.conftest import MakeScenario
from tests.breaker.entry_points import ProviderDownError


def test_open_circuit_refuses_without_calling_the_provider(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1)
    scenario.play("F")
    for _ in range(7):
        scenario.refused()
    assert scenario.reached == 1
    totals = scenario.breaker.snapshot().totals
    assert (totals.refused, totals.successes, totals.failures, totals.calls) == (7, 0, 1, 1)


def test_open_circuit_refuses_until_the_cooldown_is_over_with_retry_after(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1, cooldown_period=60)
    scenario.play("F")
    assert scenario.refused().retry_after == 60
    scenario.clock.advance(59.5)
    assert scenario.refused().retry_after == 0.5
    scenario.clock.advance(0.5)
    assert scenario.play("S") == "half_open"


def test_refusal_has_name_state_reason_and_last_error(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1, cooldown_period=60)
    scenario.play("F")
    refusal = scenario.refused()
    assert (refusal.name, refusal.state, refusal.retry_after) == ("voice", "open", 60)
    assert refusal.reason == "1 of the last 1 call failed"
    assert refusal.last_error is not None
    assert str(refusal.last_error) == "ProviderDownError: no voice today"
    assert str(refusal) == "circuit 'voice' is open (1 of the last 1 call failed): retry in 60 s"


def test_each_refusal_is_a_new_exception(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1)
    scenario.play("F")
    refusals = [scenario.refused() for _ in range(1000)]
    assert len({id(refusal) for refusal in refusals}) == 1000
    lengths = {len(traceback.extract_tb(refusal.__traceback__)) for refusal in refusals}
    assert len(lengths) == 1
    assert refusals[-1].__cause__ is None
    assert refusals[-1].__context__ is None


def test_failure_result_opens_the_circuit_without_an_exception(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(minimum_calls=3, failure_result=lambda value: value == "bad")
    breaker = CircuitBreaker("voice", config, clock=clock)
    assert [breaker.call(lambda: "bad") for _ in range(3)] == ["bad"] * 3
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.call(lambda: "good")
    assert refusal.value.__cause__ is None
    assert refusal.value.last_error is not None
    assert refusal.value.last_error.kind == "result"


def test_reading_never_changes_the_state(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1, cooldown_period=60)
    scenario.play("F")
    scenario.clock.advance(3600)
    assert scenario.state == "open"
    snapshot = scenario.breaker.snapshot()
    assert (snapshot.state, snapshot.retry_after) == ("open", 0)
    assert "the next caller is a probe" in str(scenario.breaker.explain())
    assert scenario.state == "open"


def test_results_of_calls_in_flight_at_the_opening_change_nothing(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=2, minimum_calls=2), clock=clock)
    early = [breaker.acquire() for _ in range(4)]
    early[0].failure()
    early[1].failure()
    clock.advance(30)
    early[2].success()
    early[3].failure(trip=True, cooldown=7200)
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.calls, snapshot.retry_after) == ("open", 2, 30)
    assert snapshot.totals.late == 2


def test_wall_clock_changes_no_state(clock: VirtualClock) -> None:
    wall_clock = VirtualClock(1_700_000_000.0)
    config = CircuitBreakerConfig(window_size=1, cooldown_period=60)
    breaker = CircuitBreaker("voice", config, clock=clock, wall_clock=wall_clock)
    breaker.acquire().failure()
    opened_at = breaker.snapshot().opened_at
    assert opened_at is not None
    assert opened_at.timestamp() == 1_700_000_000
    wall_clock.advance(86_400)
    assert breaker.snapshot().retry_after == 60
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    assert breaker.snapshot().opened_at == opened_at


def test_cooldown_from_error_opens_the_circuit_at_once(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(
        window_size=100, cooldown_period=60, cooldown_jitter=0.5, cooldown_from_error=lambda error: 7200
    )
    assert scenario.play("F") == "open"
    scenario.clock.advance(3600)
    assert scenario.refused().retry_after == 3600
    scenario.clock.advance(3600)
    assert scenario.play("S") == "half_open"


def test_requested_cooldown_applies_only_if_that_failure_opens_the_circuit(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=2, minimum_calls=2), clock=clock)
    breaker.acquire().failure(cooldown=7200)
    assert breaker.state == "closed"
    breaker.acquire().failure(ProviderDownError("busy"), cooldown=5)
    assert breaker.snapshot().retry_after == 5


@pytest.mark.parametrize("named", [float("nan"), float("inf"), -5.0, "120", True, [120], timedelta(-1), 10**400])
def test_invalid_requested_cooldown_is_refused_and_the_permit_stays_unsettled(clock: VirtualClock, named: Any) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1), clock=clock)
    permit = breaker.acquire()
    for trip in (False, True):
        with pytest.raises(ValueError, match=r"^cooldown="):
            permit.failure(cooldown=named, trip=trip)
    assert not permit.settled
    assert breaker.snapshot().totals.calls == 0
    permit.failure("503")
    assert breaker.retry_after == 60


@pytest.mark.parametrize("named", [120, 120.0, timedelta(minutes=2)])
def test_requested_cooldown_can_be_a_number_or_a_timedelta(clock: VirtualClock, named: Any) -> None:
    breaker = CircuitBreaker("voice", clock=clock)
    breaker.acquire().failure(trip=True, cooldown=named)
    assert (breaker.state, breaker.retry_after) == ("open", 120)


def test_next_caller_is_a_probe_with_a_cooldown_of_zero(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(window_size=1, cooldown_period=0, cooldown_backoff=2, success_threshold=1)
    breaker = CircuitBreaker("voice", config, clock=clock)
    for _ in range(3):
        breaker.acquire().failure()
        assert (breaker.state, breaker.retry_after) == ("open", 0)
        probe = breaker.acquire()
        assert breaker.state == "half_open"
        probe.failure()
        breaker.acquire().success()
        assert breaker.state == "closed"


def test_schedule_can_begin_with_zero(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1, cooldown_schedule=(0, 5, 30)), clock=clock)
    for expected in (0, 5, 30, 30):
        breaker.acquire().failure()
        assert breaker.retry_after == expected
        clock.advance(expected)
