"""Decisions from outside: tripped, recovered, and probes that need a grant."""

from __future__ import annotations

import pytest

from steadyvoice.breaker import (
    Cause,
    CircuitArgumentError,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitState,
    Event,
    StateChanged,
    WouldHaveOpened,
)
from steadyvoice.breaker.testing import VirtualClock

CONFIG = CircuitBreakerConfig(cooldown_period=60, success_threshold=1, cooldown_backoff=2)


@pytest.fixture
def circuit(clock: VirtualClock, kind: type[CircuitBreaker]) -> CircuitBreaker:
    return kind("voice", CONFIG, clock=clock)


def last_change(circuit: CircuitBreaker) -> StateChanged:
    change = circuit.snapshot().last_transition
    assert change is not None
    return change


def test_tripped_circuit_is_open_for_exactly_the_cooldown(circuit: CircuitBreaker, clock: VirtualClock) -> None:
    assert circuit.trip("open at 3 of 5 replicas", 7)
    assert circuit.retry_after == 7
    with pytest.raises(CircuitOpenError, match="open at 3 of 5 replicas"):
        circuit.acquire()
    assert last_change(circuit).cause is Cause.ADOPTED
    assert not last_change(circuit).is_recovery
    clock.advance(7)
    circuit.acquire().success()
    assert circuit.state is CircuitState.CLOSED


def test_tripped_without_a_cooldown_takes_its_own(circuit: CircuitBreaker) -> None:
    circuit.trip("status page")
    assert circuit.retry_after == 60


def test_tripping_an_open_circuit_only_prolongs_it(circuit: CircuitBreaker, clock: VirtualClock) -> None:
    events: list[Event] = []
    circuit.trip("down", 10)
    circuit.subscribe(events.append)
    assert not circuit.trip("down", 9)
    assert circuit.retry_after == 10
    assert circuit.trip("a probe failed elsewhere", 30)
    assert circuit.retry_after == 30
    clock.advance(29)
    assert circuit.try_acquire() is None
    assert events == []


def test_trip_continues_the_backoff_of_elsewhere(circuit: CircuitBreaker, clock: VirtualClock) -> None:
    circuit.trip("down", 240, level=2)
    clock.advance(240)
    circuit.acquire().failure("still down")
    assert circuit.retry_after == 480


def test_tripped_while_half_open_forgets_its_probe(circuit: CircuitBreaker, clock: VirtualClock) -> None:
    circuit.trip("down", 5)
    clock.advance(5)
    probe = circuit.acquire()
    circuit.trip("a probe failed elsewhere", 5)
    probe.success()
    assert circuit.state is CircuitState.OPEN
    assert circuit.snapshot().totals.late == 1


@pytest.mark.parametrize("manual", [CircuitState.FORCED_OPEN, CircuitState.DISABLED, CircuitState.MONITORING])
def test_manual_states_win(manual: CircuitState, clock: VirtualClock) -> None:
    events: list[Event] = []
    circuit = CircuitBreaker("voice", CONFIG, clock=clock, listeners=[events.append], state=manual)
    events.clear()
    assert not circuit.trip("down", 5)
    assert not circuit.recover("up")
    circuit.grant_probe(clock())
    assert circuit.state is manual
    assert [type(each) for each in events] == ([WouldHaveOpened] if manual is CircuitState.MONITORING else [])
    assert (circuit.try_acquire() is None) == (manual is CircuitState.FORCED_OPEN)


def test_recovery_counts_and_admits_gradually(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(cooldown_period=60, ramp_up=10)
    circuit = CircuitBreaker("voice", config, clock=clock)
    circuit.trip("down")
    clock.advance(20)
    assert circuit.recover("probes succeeded elsewhere")
    assert circuit.snapshot().admitted_share == pytest.approx(0.1)
    assert circuit.snapshot().recoveries.last_seconds == 20
    assert last_change(circuit).is_recovery
    assert not circuit.recover("again")


def test_no_caller_is_a_probe_without_a_grant(circuit: CircuitBreaker, clock: VirtualClock) -> None:
    circuit.grant_probe(clock())
    circuit.trip("down", 5)
    clock.advance(100)
    assert circuit.try_acquire() is None
    assert circuit.explain().state is CircuitState.OPEN
    assert circuit.explain().next == "waits until a probe is granted"
    assert circuit.retry_after is circuit.snapshot().retry_after is None  # unknown
    circuit.grant_probe(clock() + 1)
    assert circuit.snapshot().probe_granted
    circuit.acquire().success()
    assert circuit.state is CircuitState.CLOSED


def test_grant_that_ran_out_admits_no_further_probe_but_counts_the_one_in_flight(clock: VirtualClock) -> None:
    circuit = CircuitBreaker("voice", CircuitBreakerConfig(success_threshold=2), clock=clock)
    circuit.trip("down", 5)
    clock.advance(5)
    circuit.grant_probe(clock() + 1)
    circuit.acquire().success()
    second = circuit.acquire()
    clock.advance(1)
    with pytest.raises(CircuitOpenError):
        circuit.acquire()
    second.ignore()
    with pytest.raises(CircuitOpenError, match="no probe is granted at present"):
        circuit.acquire()
    circuit.grant_probe(None)
    circuit.acquire().success()
    assert circuit.state is CircuitState.CLOSED


def test_closed_circuit_needs_no_grant(circuit: CircuitBreaker, clock: VirtualClock) -> None:
    circuit.grant_probe(clock())
    for _ in range(20):
        circuit.acquire().success()
    assert circuit.snapshot().totals.successes == 20


@pytest.mark.parametrize("until", ["soon", float("nan"), True])
def test_grant_until_no_time_is_refused(circuit: CircuitBreaker, until: float) -> None:
    with pytest.raises(CircuitArgumentError, match="until"):
        circuit.grant_probe(until)


def test_trip_for_no_time_or_level_is_refused(circuit: CircuitBreaker) -> None:
    with pytest.raises(ValueError, match="cooldown"):
        circuit.trip("down", -1)
    with pytest.raises(ValueError, match="level"):
        circuit.trip("down", 1, level=-2)
    assert circuit.state is CircuitState.CLOSED
