"""Events of single calls, and the totals of late results."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steadyvoice.breaker import (
    CallRecorded,
    CallRefused,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitReset,
    ConfigChanged,
    Event,
    Outcome,
    WouldHaveOpened,
)
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import ProviderDownError


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def breaker(clock: VirtualClock, events: list[Event]) -> CircuitBreaker:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=4), clock=clock)
    breaker.subscribe(events.append, calls=True)
    return breaker


def test_every_end_of_a_call_is_reported_with_its_duration(
    breaker: CircuitBreaker, clock: VirtualClock, events: list[Event]
) -> None:
    begun = [breaker.acquire() for _ in range(4)]
    clock.advance(3)
    begun[0].success()
    begun[1].ignore()
    begun[2].failure("503")
    breaker.force_open()
    begun[3].success()
    calls = [event for event in events if isinstance(event, CallRecorded)]
    assert [(call.outcome, call.duration, call.error, call.at) for call in calls] == [
        (Outcome.SUCCESS, 3, None, 1003),
        (Outcome.IGNORED, 3, None, 1003),
        (Outcome.FAILURE, 3, "failure", 1003),
        (Outcome.LATE, 3, None, 1003),
    ]


def test_late_failure_of_a_lock_free_call_is_reported_without_a_duration(
    clock: VirtualClock, events: list[Event]
) -> None:
    breaker = CircuitBreaker("voice", clock=clock)

    def speak() -> None:
        breaker.force_open()
        breaker.subscribe(events.append, calls=True)
        clock.advance(2)
        raise ProviderDownError

    for _ in range(2):
        breaker.close()
        with pytest.raises(ProviderDownError):
            breaker.call(speak)
    totals = breaker.snapshot().totals
    assert (totals.late, totals.failures, totals.calls) == (2, 0, 2)
    late = next(event for event in events if isinstance(event, CallRecorded))
    assert (late.outcome, late.duration, late.error, late.at) == (Outcome.LATE, None, None, 1002)


def test_refusal_is_reported_with_its_reason(breaker: CircuitBreaker, events: list[Event]) -> None:
    breaker.force_open("maintenance")
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    (refused,) = [event for event in events if isinstance(event, CallRefused)]
    assert (refused.state, refused.reason, refused.retry_after) == ("forced_open", "maintenance", None)


def test_every_event_has_the_name_and_a_reason(breaker: CircuitBreaker, events: list[Event]) -> None:
    breaker.reset("a new day")
    breaker.update(replace(breaker.config, window_size=6))
    breaker.monitor()
    for _ in range(3):
        breaker.acquire().failure()
    breaker.force_open("enough")
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    kinds = {type(event) for event in events}
    assert {CallRecorded, CallRefused, CircuitReset, ConfigChanged, WouldHaveOpened} <= kinds
    assert {event.name for event in events} == {"voice"}
    reasons = {type(event).__name__: event.reason for event in events if hasattr(event, "reason")}
    assert reasons == {
        "CircuitReset": "a new day",
        "StateChanged": "enough",
        "WouldHaveOpened": "3 of the last 3 calls failed",
        "CallRefused": "enough",
    }


def test_expired_probe_is_recorded_with_a_message(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(half_open_timeout=10), clock=clock)
    breaker.acquire().failure(trip=True)
    clock.advance(60)
    probe = breaker.acquire()
    clock.advance(10)
    probe.success()
    last_error = breaker.snapshot().last_error
    assert last_error is not None
    assert (last_error.kind, last_error.message) == ("probe_expired", "a probe made no progress for 10 s")
    with pytest.raises(CircuitOpenError) as refused:
        breaker.acquire()
    assert refused.value.last_error is not None
    assert refused.value.last_error.message == last_error.message


def test_snapshot_has_the_admitted_share_in_every_state(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", clock=clock)
    shares = [breaker.snapshot().admitted_share]
    breaker.acquire().failure(trip=True)
    shares.append(breaker.snapshot().admitted_share)
    clock.advance(60)
    probe = breaker.acquire()
    shares.append(breaker.snapshot().admitted_share)
    probe.ignore()
    shares.append(breaker.snapshot().admitted_share)
    for by_hand in (breaker.force_open, breaker.disable, breaker.monitor):
        by_hand()
        shares.append(breaker.snapshot().admitted_share)
    assert shares == [1, 0, 0, 1, 0, 1, 1]
