"""Listeners: called without the lock, in order, exactly once; and the contents of events."""

from __future__ import annotations

import logging
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier, Lock
from typing import Any

import pytest

from steadyvoice.breaker import (
    CallRecorded,
    CallRefused,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    ConfigChanged,
    Event,
    StateChanged,
    WouldHaveOpened,
)
from steadyvoice.breaker._notifications import EventDispatcher
from steadyvoice.breaker.testing import VirtualClock


@pytest.fixture
def breaker(clock: VirtualClock) -> CircuitBreaker:
    config = CircuitBreakerConfig(window_size=4, minimum_calls=2, success_threshold=1)
    return CircuitBreaker("voice", config, clock=clock, wall_clock=VirtualClock(1_700_000_000))


def test_transition_event_has_states_cause_reason_and_time(breaker: CircuitBreaker) -> None:
    events: list[Event] = []
    breaker.subscribe(events.append)
    breaker.acquire().success()
    breaker.acquire().failure()
    (event,) = events
    assert isinstance(event, StateChanged)
    assert (event.name, event.from_state, event.to_state) == ("voice", "closed", "open")
    assert (event.cause, event.reason) == ("failure_rate", "1 of the last 2 calls failed")
    assert (event.failure_rate, event.calls, event.failures, event.retry_after) == (0.5, 2, 1, 60)
    assert event.at == 1000
    assert event.wall_time.timestamp() == 1_700_000_000
    assert breaker.snapshot().last_transition == event


def test_event_has_the_time_at_which_it_was_due(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(minimum_calls=1, hung_after=5)
    breaker = CircuitBreaker("voice", config, clock=clock, wall_clock=VirtualClock(1_700_000_000))
    permit = breaker.acquire()
    clock.advance(25)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    event = breaker.snapshot().last_transition
    assert event is not None
    assert (event.at, event.wall_time.timestamp()) == (1005, 1_700_000_000 - 20)
    permit.ignore()


def test_event_of_a_trip_counts_the_expired_window(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_seconds=10), clock=clock)
    events: list[Event] = []
    breaker.subscribe(events.append)
    breaker.acquire().success()
    clock.advance(20)
    for by_hand in (breaker.monitor, breaker.close):
        by_hand()
        breaker.acquire().success()
        clock.advance(10.05)
        breaker.acquire().failure(trip=True)
    opened = [event for event in events if isinstance(event, StateChanged | WouldHaveOpened)]
    assert [event.calls for event in opened] == [0, 1, 1, 1]


def test_listeners_can_be_passed_to_the_constructor(clock: VirtualClock) -> None:
    events: list[Event] = []
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(), clock=clock, listeners=[events.append])
    breaker.force_open()
    assert len(events) == 1


def test_unsubscribed_listener_receives_no_events(breaker: CircuitBreaker) -> None:
    events: list[Event] = []
    stop = breaker.subscribe(events.append)
    stop()
    stop()
    breaker.force_open()
    assert events == []


def test_unsubscribing_twice_removes_no_other_listener(breaker: CircuitBreaker) -> None:
    events: list[Event] = []
    stop = breaker.subscribe(events.append)
    breaker.subscribe(events.append)
    stop()
    stop()
    breaker.reset()
    assert len(events) == 1


def test_exception_of_a_listener_is_logged_and_affects_no_other(
    breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []

    def broken(event: Event) -> None:
        raise LookupError("broken listener")

    breaker.subscribe(broken)
    breaker.subscribe(events.append)
    breaker.force_open()
    assert len(events) == 1
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("steadyvoice.breaker", logging.ERROR)
    assert "StateChanged" in record.getMessage()


def test_listener_may_use_the_breaker(breaker: CircuitBreaker) -> None:
    seen: list[str] = []

    def meddler(event: Event) -> None:
        assert isinstance(event, StateChanged)
        seen.append(event.to_state.value)
        assert breaker.snapshot().state == breaker.state
        if event.to_state == "open":
            breaker.close()
            seen.append("closed it")

    breaker.subscribe(meddler)
    breaker.acquire().failure(trip=True)
    assert seen == ["open", "closed it", "closed"]
    breaker.acquire().success()


def test_all_listeners_receive_events_in_the_same_order(breaker: CircuitBreaker) -> None:
    first: list[str] = []
    second: list[str] = []

    def meddler(event: Event) -> None:
        assert isinstance(event, StateChanged)
        first.append(event.to_state.value)
        if event.to_state == "forced_open":
            breaker.disable()

    def listener(event: Event) -> None:
        assert isinstance(event, StateChanged)
        second.append(event.to_state.value)

    breaker.subscribe(meddler)
    breaker.subscribe(listener)
    breaker.force_open()
    assert first == second == ["forced_open", "disabled"]


def test_call_events_go_only_to_listeners_subscribed_with_calls(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    quiet: list[Event] = []
    with_calls: list[Event] = []
    breaker.subscribe(quiet.append)
    stop = breaker.subscribe(with_calls.append, calls=True)
    early = breaker.acquire()
    breaker.call(lambda: "spoken")
    breaker.acquire().ignore()
    permit = breaker.acquire()
    clock.advance(2)
    permit.failure("busy")
    early.success()
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    calls = [event for event in with_calls if isinstance(event, CallRecorded)]
    assert [call.outcome for call in calls] == ["success", "ignored", "failure", "late"]
    assert (calls[2].duration, calls[2].error) == (2, "failure")
    (refused,) = [event for event in with_calls if isinstance(event, CallRefused)]
    assert (refused.state, refused.retry_after) == ("open", 60)
    assert [type(event) for event in quiet] == [StateChanged]
    stop()
    breaker.reset()
    received = len(with_calls)
    breaker.call(lambda: "spoken")
    assert len(with_calls) == received


def test_expired_probe_is_reported_at_the_time_of_its_timeout(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1, half_open_timeout=10), clock=clock)
    breaker.acquire().failure()
    clock.advance(60)
    events: list[Event] = []
    breaker.subscribe(events.append, calls=True)
    probe = breaker.acquire()
    clock.advance(25)
    probe.success()
    calls = [event for event in events if isinstance(event, CallRecorded)]
    assert [(call.outcome, call.error, call.duration, call.at) for call in calls] == [
        ("failure", "probe_expired", 10, 1070)
    ]
    assert breaker.snapshot().totals.failures == 2


def test_change_of_settings_is_an_event(breaker: CircuitBreaker) -> None:
    events: list[Event] = []
    breaker.subscribe(events.append)
    before, after = breaker.config, CircuitBreakerConfig.production()
    breaker.update(after)
    (event,) = events
    assert isinstance(event, ConfigChanged)
    assert (event.before, event.after) == (before, after)


def test_sixteen_threads_deliver_each_event_once_and_in_order(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(), clock=clock)
    events: list[StateChanged] = []

    def listener(event: Event) -> None:
        assert isinstance(event, StateChanged)
        events.append(event)
        breaker.snapshot()

    breaker.subscribe(listener)
    start = Barrier(16)

    def meddle(_: int) -> None:
        start.wait(10)
        for _ in range(50):
            breaker.force_open()
            breaker.disable()
            breaker.close()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(meddle, range(16)))
    breaker.close()
    assert all(earlier.to_state is later.from_state for earlier, later in pairwise(events))
    assert events[-1].to_state == "closed"
    assert Counter(e.from_state for e in events) == Counter(e.to_state for e in events)


def test_queue_that_another_thread_empties_between_two_looks_is_left_to_it() -> None:
    class EmptiedMeanwhile(deque[Any]):
        """Queue whose last notification is taken away after the first look."""

        def __bool__(self) -> bool:
            return True

    EventDispatcher(()).deliver(EmptiedMeanwhile(), Lock())
