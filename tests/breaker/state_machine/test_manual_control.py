"""Manual control: forced open, disabled, monitoring; closing and resetting."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest

from steadyvoice.breaker import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitReset,
    ConfigChanged,
    Event,
    StateChanged,
    WouldHaveOpened,
)
from steadyvoice.breaker.state_machine import StateMachine
from steadyvoice.breaker.states import CLOSED, HALF_OPEN, TRANSITIONS, Cause, CircuitState
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.conftest import MakeScenario


@pytest.fixture
def breaker(clock: VirtualClock) -> CircuitBreaker:
    return CircuitBreaker("voice", CircuitBreakerConfig(window_size=4, success_threshold=1), clock=clock)


def test_forced_open_never_recovers_by_time(make_scenario: MakeScenario) -> None:
    scenario = make_scenario()
    scenario.breaker.force_open("maintenance")
    scenario.clock.advance(1e9)
    refusal = scenario.refused()
    assert (refusal.state, refusal.reason, refusal.retry_after) == ("forced_open", "maintenance", None)
    assert "until it is closed manually" in str(refusal)


def test_forced_open_for_a_duration_probes_afterwards(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(success_threshold=2)
    scenario.breaker.force_open("maintenance", duration=7200)
    scenario.clock.advance(3600)
    assert scenario.refused().retry_after == 3600
    scenario.clock.advance(3600)
    assert scenario.state == "forced_open"
    assert scenario.play("S") == "half_open"
    assert scenario.play("S") == "closed"


def test_forcing_an_open_circuit_cancels_its_cooldown(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1)
    scenario.play("F")
    scenario.breaker.force_open()
    scenario.clock.advance(3600)
    assert scenario.refused().state == "forced_open"


def test_disabled_circuit_admits_all_and_records_nothing(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=2)
    scenario.breaker.disable("known to be flaky today")
    assert scenario.play("FFFFSX") == "disabled"
    snapshot = scenario.breaker.snapshot()
    assert (snapshot.calls, snapshot.totals.calls, snapshot.last_error) == (0, 0, None)
    assert scenario.reached == 6


def test_disabled_for_a_duration_closes_afterwards(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1)
    scenario.breaker.disable(duration=10)
    scenario.clock.advance(10)
    assert scenario.play("F") == "open"


def test_monitoring_refuses_no_call_and_reports_each_breach_once(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=4, minimum_calls=2)
    scenario.breaker.monitor("trying these settings")
    assert scenario.play("FFFF") == "monitoring"
    assert scenario.play("SSSS" + "FF") == "monitoring"
    reports = [event for event in scenario.events if isinstance(event, WouldHaveOpened)]
    assert [report.cause for report in reports] == ["failure_rate", "failure_rate"]
    assert (reports[0].calls, reports[0].failures, reports[0].failure_rate) == (2, 2, 1.0)
    assert scenario.breaker.snapshot().totals.failures == 6


def test_monitoring_reports_a_trip(breaker: CircuitBreaker) -> None:
    events: list[object] = []
    breaker.monitor()
    breaker.subscribe(events.append)
    breaker.acquire().failure(trip=True)
    assert [type(event) for event in events] == [WouldHaveOpened]


def test_monitoring_for_a_duration_closes_afterwards(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1)
    scenario.breaker.monitor(duration=10)
    scenario.play("F")
    scenario.clock.advance(10)
    assert scenario.play("S") == "closed"


BY_HAND: list[Callable[[CircuitBreaker], object]] = [
    lambda breaker: None,
    lambda breaker: breaker.acquire().failure(trip=True),
    lambda breaker: breaker.force_open("by hand"),
    lambda breaker: breaker.disable("by hand"),
    lambda breaker: breaker.monitor("by hand"),
]
STATES = ["closed", "open", "forced_open", "disabled", "monitoring"]


@pytest.mark.parametrize(("get_there", "state"), list(zip(BY_HAND, STATES, strict=True)), ids=STATES)
@pytest.mark.parametrize("release", [CircuitBreaker.reset, CircuitBreaker.close], ids=["reset", "close"])
def test_close_from_every_state_empties_the_window_with_one_event(
    breaker: CircuitBreaker,
    get_there: Callable[[CircuitBreaker], object],
    state: str,
    release: Callable[..., None],
) -> None:
    breaker.acquire().failure(weight=0.5)
    get_there(breaker)
    assert breaker.state == state
    events: list[object] = []
    breaker.subscribe(events.append)
    release(breaker, "because")
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.calls, snapshot.retry_after) == ("closed", 0, None)
    assert (snapshot.consecutive_failures, snapshot.opened_at) == (0, None)
    (event,) = events
    assert isinstance(event, CircuitReset if state == "closed" else StateChanged)
    assert event.reason == "because"


def test_calls_in_flight_before_a_reset_are_late(breaker: CircuitBreaker) -> None:
    permit = breaker.acquire()
    breaker.reset()
    permit.failure()
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.totals.late) == (0, 1)


def test_calls_admitted_while_disabled_are_not_counted(breaker: CircuitBreaker) -> None:
    breaker.disable()
    permits = [breaker.acquire(), breaker.acquire()]
    breaker.close()
    permits[0].failure()
    permits[1].ignore()
    assert breaker.snapshot().totals.calls == 0


def test_setting_the_same_state_again_changes_reason_and_duration_without_an_event(
    breaker: CircuitBreaker, clock: VirtualClock
) -> None:
    breaker.force_open("maintenance")
    events: list[object] = []
    breaker.subscribe(events.append)
    breaker.force_open("longer maintenance", duration=10)
    assert events == []
    snapshot = breaker.snapshot()
    assert (snapshot.reason, snapshot.retry_after) == ("longer maintenance", 10)


def test_manual_state_can_follow_another(breaker: CircuitBreaker) -> None:
    for _ in range(2):
        breaker.force_open()
        assert breaker.state == "forced_open"
        breaker.disable()
        assert breaker.state == "disabled"
        breaker.monitor()
        assert breaker.state == "monitoring"


@pytest.mark.parametrize("duration", [-1, float("nan"), float("inf"), 10**400, True, "5"])
def test_invalid_duration_is_refused(breaker: CircuitBreaker, duration: float) -> None:
    with pytest.raises(ValueError, match="duration"):
        breaker.force_open(duration=duration)
    assert breaker.state == "closed"


def test_failed_probe_after_forced_open_opens_the_circuit(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.force_open(duration=10)
    clock.advance(10)
    breaker.acquire().failure()
    assert breaker.snapshot().retry_after == 60
    clock.advance(60)
    breaker.acquire().success()
    recoveries = breaker.snapshot().recoveries
    assert (recoveries.count, recoveries.last_seconds) == (1, 60)


def test_forced_open_is_no_outage(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.acquire().failure(trip=True)
    breaker.force_open(duration=10)
    clock.advance(10)
    breaker.acquire().success()
    assert breaker.state == "closed"
    assert breaker.snapshot().recoveries.count == 0


@pytest.mark.parametrize("by_hand", BY_HAND[2:], ids=STATES[2:])
def test_manual_state_begins_with_an_empty_window(
    breaker: CircuitBreaker, by_hand: Callable[[CircuitBreaker], object]
) -> None:
    breaker.acquire().failure()
    by_hand(breaker)
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.consecutive_failures) == (0, 0)


def test_manual_closing_is_no_recovery(breaker: CircuitBreaker) -> None:
    breaker.acquire().failure(trip=True)
    breaker.close()
    assert breaker.snapshot().recoveries.count == 0


def test_recovery_is_measured_from_opening_to_closing(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    for outages in (2, 1):
        breaker.acquire().failure(trip=True)
        for _ in range(outages - 1):
            clock.advance(60)
            breaker.acquire().failure()
        clock.advance(60)
        breaker.acquire().success()
    recoveries = breaker.snapshot().recoveries
    assert (recoveries.count, recoveries.last_seconds, recoveries.mean_seconds) == (2, 60, 90)


def test_closed_circuit_cannot_go_half_open() -> None:
    machine = StateMachine("voice", CircuitBreakerConfig(), 0.0, lambda: 0.0)
    assert HALF_OPEN not in TRANSITIONS[CLOSED]
    with pytest.raises(RuntimeError, match="no transition from closed to half_open"):
        machine.transition(HALF_OPEN, 0.0, Cause.MANUAL, "nonsense")
    assert machine.state is CLOSED


def test_disabled_circuit_admits_all_even_after_having_been_open(breaker: CircuitBreaker) -> None:
    breaker.acquire().failure(trip=True)
    breaker.disable()
    breaker.acquire().success()
    breaker.force_open()
    with pytest.raises(CircuitOpenError):
        breaker.acquire()


@pytest.mark.parametrize("entry_point", ["permit", "call"])
def test_monitored_circuit_reports_again_after_recovering(clock: VirtualClock, entry_point: str) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=2, minimum_calls=1), clock=clock)
    warnings: list[Event] = []
    breaker.subscribe(lambda event: warnings.append(event) if isinstance(event, WouldHaveOpened) else None)
    breaker.monitor()
    for _ in range(3):
        breaker.acquire().failure()
        for _ in range(2):
            breaker.call(lambda: "spoken") if entry_point == "call" else breaker.acquire().success()
    assert len(warnings) == 3


@pytest.mark.parametrize("state", [CircuitState.FORCED_OPEN, CircuitState.DISABLED, CircuitState.MONITORING])
def test_initial_state_can_be_manual(clock: VirtualClock, state: CircuitState) -> None:
    events: list[object] = []
    breaker = CircuitBreaker("voice", clock=clock, state=state, listeners=[events.append])
    assert (breaker.state, breaker.snapshot().reason) == (state, "initial state")
    breaker.close()
    assert breaker.state == "closed"
    assert [event.to_state for event in events if isinstance(event, StateChanged)] == [state, "closed"]


@pytest.mark.parametrize("state", [CircuitState.OPEN, CircuitState.HALF_OPEN])
def test_initial_state_cannot_be_open_or_half_open(state: CircuitState) -> None:
    with pytest.raises(ValueError, match="begin with forced_open"):
        CircuitBreaker("voice", state=state)


def test_breach_is_reported_again_after_the_window_expired(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_seconds=60, minimum_calls=1), clock=clock)
    events: list[object] = []
    breaker.monitor()
    breaker.subscribe(events.append)
    breaker.acquire().failure()
    breaker.acquire().failure()
    clock.advance(3600)
    breaker.acquire().failure()
    assert [type(event) for event in events] == [WouldHaveOpened] * 2


def test_breach_by_a_success_is_reported_again_after_the_window_expired(clock: VirtualClock) -> None:
    slow = CircuitBreakerConfig(failure_threshold=None, window_seconds=60, minimum_calls=1, slow_call_duration=1)
    breaker = CircuitBreaker("voice", slow, clock=clock)
    events: list[object] = []
    breaker.monitor()
    breaker.subscribe(events.append)
    for _ in range(2):
        breaker.acquire().success(1.0)
    clock.advance(3600)
    breaker.acquire().success(1.0)
    assert [type(event) for event in events] == [WouldHaveOpened] * 2


def test_breach_is_reported_again_after_settings_that_permitted_it(clock: VirtualClock) -> None:
    strict = CircuitBreakerConfig(window_size=4, minimum_calls=1)
    breaker = CircuitBreaker("voice", strict, clock=clock)
    events: list[object] = []
    breaker.monitor()
    breaker.acquire().failure()
    breaker.subscribe(events.append)
    for settings in (strict, replace(strict, minimum_calls=2), strict):
        breaker.update(settings)
    assert [type(event) for event in events] == [ConfigChanged, ConfigChanged, ConfigChanged, WouldHaveOpened]


def test_monitoring_event_counts_the_expired_window(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_seconds=100, minimum_calls=50), clock=clock)
    events: list[Event] = []
    breaker.monitor()
    breaker.subscribe(events.append)
    breaker.acquire().failure()
    clock.advance(99.5)
    breaker.acquire().success()
    clock.advance(0.75)  # the first has left, and nothing else has looked since
    breaker.acquire().failure(trip=True)
    (warning,) = events
    assert isinstance(warning, WouldHaveOpened)
    assert (warning.calls, warning.failures) == (2, 1)


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, pickle.dumps])
def test_circuit_cannot_be_copied_or_pickled(twin: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match=r"cannot be copied or pickled: export\(\) and restore\(\) carry its state"):
        twin(CircuitBreaker("voice"))
