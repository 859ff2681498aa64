"""Export and restore of a circuit across a restart."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock

CONFIG = CircuitBreakerConfig(window_size=4, success_threshold=1, cooldown_period=60, cooldown_backoff=2)


def reborn(breaker: CircuitBreaker) -> tuple[CircuitBreaker, VirtualClock]:
    """The same circuit in a new process, whose clock begins anywhere."""
    clock = VirtualClock(7.0)
    again = CircuitBreaker("voice", breaker.config, clock=clock)
    again.restore(json.loads(json.dumps(breaker.export())))
    return again, clock


@pytest.fixture
def breaker(clock: VirtualClock) -> CircuitBreaker:
    return CircuitBreaker("voice", CONFIG, clock=clock)


def test_open_circuit_refuses_for_what_remained_of_its_cooldown(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.acquire().failure(trip=True)
    clock.advance(45)
    again, later = reborn(breaker)
    with pytest.raises(CircuitOpenError) as refusal:
        again.acquire()
    assert refusal.value.retry_after == 15
    later.advance(15)
    again.acquire().success()
    assert again.state == "closed"


def test_new_settings_do_not_change_the_remaining_cooldown(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.acquire().failure(trip=True)
    clock.advance(45)
    again, later = reborn(breaker)
    again.update(replace(CONFIG, cooldown_period=5))
    assert again.snapshot().retry_after == 15
    later.advance(20)
    again.acquire().success()
    assert again.snapshot().recoveries.last_seconds == 20


def test_window_and_run_of_failures_are_restored(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(window_size=6, minimum_calls=6, consecutive_failures=5)
    breaker = CircuitBreaker("voice", config, clock=clock)
    breaker.acquire().success()
    breaker.acquire().failure(weight=0.5)
    breaker.acquire().failure()
    again, _ = reborn(breaker)
    snapshot = again.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.consecutive_failures) == (3, 1.5, 1.5)
    assert again.export() == breaker.export()


def test_time_window_is_restored_with_its_ages(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_seconds=20), clock=clock)
    breaker.acquire().failure()
    clock.advance(15)
    breaker.acquire().success()
    again, later = reborn(breaker)
    assert again.snapshot().calls == 2
    later.advance(5)
    assert (again.snapshot().calls, again.snapshot().failures) == (1, 0)


def test_half_open_circuit_is_restored_ready_to_probe(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.acquire().failure(trip=True)
    clock.advance(60)
    probe = breaker.acquire()
    again, _ = reborn(breaker)
    assert (again.state, again.snapshot().retry_after) == ("open", 0)
    again.acquire().success()
    assert again.state == "closed"
    probe.ignore()


def test_backoff_is_restored(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.acquire().failure(trip=True)
    clock.advance(60)
    breaker.acquire().failure()
    again, later = reborn(breaker)
    later.advance(120)
    again.acquire().failure()
    assert again.snapshot().retry_after == 240


def test_manual_state_is_restored_with_its_remaining_duration(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.force_open("maintenance", duration=100)
    clock.advance(40)
    again, _ = reborn(breaker)
    snapshot = again.snapshot()
    assert (snapshot.state, snapshot.reason, snapshot.retry_after) == ("forced_open", "maintenance", 60)
    again.force_open("for good")
    for_good, _ = reborn(again)
    assert for_good.snapshot().retry_after is None


def test_restore_emits_an_event(breaker: CircuitBreaker) -> None:
    breaker.disable("until tomorrow")
    again, _ = reborn(breaker)
    transition = again.snapshot().last_transition
    assert transition is not None
    assert (transition.cause, transition.reason) == ("restored", "until tomorrow")


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 99},
        {"state": "ajar"},
        {"remaining": -1},
        {"remaining": "soon"},
        {"level": 10**400},
        {"remaining": float("nan")},
        {"window": [[1, 2, 2, 0, 0]]},
        {"window": [[1, 0, 0]]},
        {"window": [[-1, 0, 0, 0, 0]]},
        {"window": None},
        {"streak": True},
        {"level": None},
    ],
    ids=str,
)
def test_invalid_export_is_refused_and_changes_nothing(breaker: CircuitBreaker, damage: dict[str, Any]) -> None:
    breaker.acquire().failure(trip=True)
    state = {**breaker.export(), **damage}
    fresh = CircuitBreaker("voice", CONFIG)
    with pytest.raises(ValueError, match="not an exported circuit"):
        fresh.restore(state)
    assert fresh.state == "closed"
    fresh.call(lambda: "spoken")
    assert fresh.snapshot().calls == 1


def test_empty_mapping_is_refused(breaker: CircuitBreaker) -> None:
    with pytest.raises(ValueError, match="not an exported circuit"):
        breaker.restore({})


def test_restart_does_not_accelerate_the_decay_of_the_backoff(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    for _ in range(3):
        breaker.acquire().failure(trip=True)
        clock.advance(3600)
    breaker.acquire().success()
    again, later = reborn(breaker)
    later.advance(200)  # less than the last cooldown, of 240 s
    again.acquire().failure(trip=True)
    assert again.snapshot().retry_after == 480


@pytest.mark.parametrize(("field", "value"), [("version", True), ("streak", -1), ("version", 2)])
def test_impossible_value_in_an_export_is_refused(breaker: CircuitBreaker, field: str, value: object) -> None:
    with pytest.raises(ValueError, match="not an exported circuit"):
        breaker.restore({**breaker.export(), field: value})


def test_huge_count_in_an_export_takes_constant_time(breaker: CircuitBreaker) -> None:
    huge = 10**12  # one by one, this would take a day
    breaker.restore({**breaker.export(), "window": [[huge, huge, huge, 0, 0.0]]})
    assert (breaker.snapshot().calls, breaker.snapshot().failures) == (4, 4)


@pytest.mark.parametrize("force", [False, True])
def test_time_of_the_opening_is_restored(clock: VirtualClock, force: bool) -> None:
    wall_clock = VirtualClock(1_700_000_000.0)
    breaker = CircuitBreaker("voice", CONFIG, clock=clock, wall_clock=wall_clock)
    if force:
        breaker.force_open("maintenance")
    else:
        breaker.acquire().failure(trip=True)
    opened_at = breaker.snapshot().opened_at
    wall_clock.advance(30)
    again = CircuitBreaker("voice", CONFIG, wall_clock=wall_clock)
    again.restore(json.loads(json.dumps(breaker.export())))
    assert again.snapshot().opened_at == opened_at == datetime.fromtimestamp(1_700_000_000, UTC)
    third = CircuitBreaker("voice", CONFIG, wall_clock=wall_clock)
    third.restore(json.loads(json.dumps(again.export())))
    assert third.snapshot().opened_at == opened_at
    third.close()
    assert third.snapshot().opened_at is None
    assert third.export()["opened_at"] is None


def test_export_without_opened_at_opens_at_the_time_of_restore(breaker: CircuitBreaker) -> None:
    breaker.acquire().failure(trip=True)
    state = breaker.export()
    del state["opened_at"]
    wall_clock = VirtualClock(1_700_000_000.0)
    again = CircuitBreaker("voice", CONFIG, wall_clock=wall_clock)
    again.restore(state)
    assert again.snapshot().opened_at == datetime.fromtimestamp(1_700_000_000, UTC)


@pytest.mark.parametrize("opened_at", ["2026-01-01", True, float("nan"), 1e300, [5]])
def test_opened_at_outside_the_range_of_datetime_is_refused(breaker: CircuitBreaker, opened_at: Any) -> None:
    breaker.acquire().failure(trip=True)
    state = {**breaker.export(), "opened_at": opened_at}
    again = CircuitBreaker("voice", CONFIG)
    with pytest.raises(ValueError, match="not an exported circuit"):
        again.restore(state)
    assert again.state == "closed"
