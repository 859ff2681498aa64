"""Calls in flight: a hanging provider opens the circuit before the first timeout ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from steadyvoice.breaker import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    Event,
    Permit,
    StateChanged,
    WouldHaveOpened,
)
from steadyvoice.breaker.testing import VirtualClock


def hanging(clock: VirtualClock, **settings: object) -> CircuitBreaker:
    config = CircuitBreakerConfig(**{"hung_after": 5, "minimum_calls": 3, **settings})  # type: ignore[arg-type]
    return CircuitBreaker("voice", config, clock=clock)


def test_calls_that_hang_open_the_circuit_before_they_end(clock: VirtualClock) -> None:
    breaker = hanging(clock)
    permits = [breaker.acquire() for _ in range(3)]
    clock.advance(4.9)
    permits.append(breaker.acquire())
    clock.advance(0.1)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    snapshot = breaker.snapshot()
    assert snapshot.last_transition is not None
    assert (snapshot.last_transition.failures, snapshot.last_transition.calls) == (3, 3)


@pytest.mark.parametrize(
    "come_by",
    [
        lambda breaker, permit: permit.success(),
        lambda breaker, permit: permit.failure(),
        lambda breaker, permit: permit.ignore(),
        lambda breaker, permit: permit.abandon(),
        lambda breaker, permit: permit.progress(),
        lambda breaker, permit: permit.pause(),
        lambda breaker, permit: permit.resume(),
        lambda breaker, permit: breaker.update(replace(breaker.config, cooldown_period=60)),
        lambda breaker, permit: breaker.force_open(),
        lambda breaker, permit: breaker.close(),
    ],
    ids=["success", "failure", "ignore", "abandon", "progress", "pause", "resume", "update", "force", "close"],
)
@pytest.mark.parametrize("seconds", [5, 25])
def test_any_operation_runs_the_timers(
    clock: VirtualClock, come_by: Callable[[CircuitBreaker, Permit], None], seconds: float
) -> None:
    breaker = hanging(clock)
    events: list[Event] = []
    breaker.subscribe(events.append)
    permits = [breaker.acquire() for _ in range(3)]
    permits[0].progress()
    clock.advance(seconds)
    come_by(breaker, permits[0])
    first = events[0]
    assert isinstance(first, StateChanged)
    assert (first.to_state, first.at, first.failures) == ("open", 1005, 3)


def test_hanging_call_counts_from_its_threshold(clock: VirtualClock) -> None:
    breaker = hanging(clock, cooldown_period=60)
    permits = [breaker.acquire() for _ in range(3)]
    clock.advance(25)
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.acquire()
    assert refusal.value.retry_after == 40
    assert len(permits) == 3


def test_success_of_a_hanging_call_takes_its_failure_back(clock: VirtualClock) -> None:
    breaker = hanging(clock, minimum_calls=5)
    slow = breaker.acquire()
    clock.advance(6)
    quick = breaker.acquire()
    assert breaker.snapshot().failures == 1
    assert breaker.snapshot().hung_calls == 1
    slow.success()
    quick.success()
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.hung_calls) == (2, 0, 0)


def test_hanging_call_that_fails_is_counted_once(clock: VirtualClock) -> None:
    breaker = hanging(clock, minimum_calls=5)
    permit = breaker.acquire()
    clock.advance(6)
    permit.failure()
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures) == (1, 1)


@pytest.mark.parametrize("settle", ["ignore", "drop"])
def test_ignored_hanging_call_is_not_counted(clock: VirtualClock, settle: str) -> None:
    breaker = hanging(clock, minimum_calls=5)
    permit = breaker.acquire()
    clock.advance(6)
    breaker.acquire().success()
    assert breaker.snapshot().hung_calls == 1
    if settle == "ignore":
        permit.ignore()
    del permit
    breaker.acquire().success()
    snapshot = breaker.snapshot()
    assert (snapshot.hung_calls, snapshot.failures, snapshot.calls) == (0, 0, 2)


@pytest.mark.parametrize(("seconds", "failures", "ignored"), [(4.9, 0, 1), (5, 1, 0), (9, 1, 0)])
async def test_cancelled_call_keeps_the_failure_it_counts_as_already(
    clock: VirtualClock, seconds: float, failures: int, ignored: int
) -> None:
    breaker = hanging(clock, minimum_calls=5)

    async def hang() -> None:
        await asyncio.Event().wait()

    waiting = asyncio.ensure_future(breaker.call_async(hang))
    await asyncio.sleep(0)
    clock.advance(seconds)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, 0)
    snapshot = breaker.snapshot()
    assert (snapshot.failures, snapshot.hung_calls) == (failures, 0)
    assert (snapshot.totals.failures, snapshot.totals.ignored) == (failures, ignored)


async def test_timeouts_around_hanging_calls_open_the_circuit(clock: VirtualClock) -> None:
    breaker = hanging(clock)

    @breaker
    async def hang() -> None:
        await asyncio.Event().wait()

    for _ in range(3):
        waiting = asyncio.ensure_future(hang())
        await asyncio.sleep(0)
        clock.advance(6)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting, 0)
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.acquire()
    assert refusal.value.last_error is not None
    assert refusal.value.last_error.kind == "hanging"


def leave_a_block(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    def block() -> None:
        with breaker:
            clock.advance(5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block()


def leave_a_call(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    def interrupted() -> None:
        clock.advance(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaker.call(interrupted)


def leave_a_stream(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    @breaker
    def stalls() -> Iterator[str]:
        yield "first"
        clock.advance(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(stalls())


def leave_by_hand(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    permit = breaker.acquire()
    permit.progress()
    clock.advance(5)
    permit.abandon()


@pytest.mark.parametrize("leave", [leave_a_block, leave_a_call, leave_a_stream, leave_by_hand])
def test_abandoned_hanging_call_keeps_its_failure(
    clock: VirtualClock, leave: Callable[[CircuitBreaker, VirtualClock], None]
) -> None:
    breaker = hanging(clock, minimum_calls=5)
    leave(breaker, clock)
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.ignored) == (0, 1, 0)


def test_abandoned_hanging_call_can_have_a_smaller_weight(clock: VirtualClock) -> None:
    breaker = hanging(clock, minimum_calls=5)
    permit = breaker.acquire()
    clock.advance(6)
    with pytest.raises(ValueError, match="weight"):
        permit.abandon(weight=0)
    permit.abandon(weight=0.5)
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.consecutive_failures) == (1, 0.5, 0.5)


def test_call_abandoned_after_a_success_does_not_extend_the_run(clock: VirtualClock) -> None:
    breaker = hanging(clock, failure_threshold=None, consecutive_failures=2, minimum_calls=None)
    stuck = [breaker.acquire() for _ in range(1)]
    clock.advance(5)
    breaker.acquire().success()
    for permit in stuck:
        permit.abandon()
    breaker.acquire().failure()
    assert (breaker.state, breaker.snapshot().consecutive_failures) == ("closed", 1)


def test_monitoring_reports_a_breach_once_while_hanging_calls_end(clock: VirtualClock) -> None:
    breaker = hanging(clock)
    breaker.monitor()
    events: list[Event] = []
    breaker.subscribe(events.append)
    permits = [breaker.acquire() for _ in range(4)]
    clock.advance(6)
    permits[0].abandon()
    permits[1].failure()
    permits[2].abandon(weight=0.5)
    permits[3].failure()
    assert [type(event) for event in events] == [WouldHaveOpened]


def test_thousands_of_hanging_calls_are_processed_in_linear_time(clock: VirtualClock) -> None:
    breaker = hanging(clock)
    breaker.monitor()
    count = 2000
    permits = []
    for _ in range(count):
        permits.append(breaker.acquire())
        clock.advance(0.001)
    for permit in permits[::2]:
        permit.progress()
        permit.progress()
    clock.advance(4)
    steps = 0

    def step(_frame: object, _event: str, _about: object) -> None:
        nonlocal steps
        steps += 1

    sys.setprofile(step)
    try:
        for _ in range(count):
            clock.advance(0.001)
            breaker.acquire().success()
    finally:
        sys.setprofile(None)
    assert breaker.snapshot().hung_calls == count
    assert steps < 250 * count  # with a look at all of them for each, it was thousands of times as many


def test_success_can_complete_the_minimum_together_with_hanging_calls(clock: VirtualClock) -> None:
    breaker = hanging(clock, minimum_calls=3)
    permits = [breaker.acquire() for _ in range(2)]
    clock.advance(5)
    breaker.acquire().success()
    assert breaker.state == "open"
    assert len(permits) == 2


def test_progress_restarts_the_clock_of_a_call(clock: VirtualClock) -> None:
    breaker = hanging(clock, minimum_calls=1)
    permit = breaker.acquire()
    for _ in range(10):
        clock.advance(4)
        permit.progress()
    breaker.acquire().success()
    assert breaker.state == "closed"
    clock.advance(5)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()


def test_progress_after_the_end_is_ignored(clock: VirtualClock) -> None:
    breaker = hanging(clock, minimum_calls=1)
    permit = breaker.acquire()
    permit.success()
    permit.progress()
    clock.advance(6)
    breaker.acquire().success()
    snapshot = breaker.snapshot()
    assert (snapshot.in_flight, snapshot.failures, snapshot.calls) == (0, 0, 2)


def test_progress_ends_hanging(clock: VirtualClock) -> None:
    breaker = hanging(clock, minimum_calls=5)
    permit = breaker.acquire()
    clock.advance(6)
    breaker.acquire().success()
    permit.progress()
    assert breaker.snapshot().hung_calls == 0


def test_slow_consumer_does_not_make_a_call_hang(clock: VirtualClock) -> None:
    breaker = hanging(clock, minimum_calls=1, failure_threshold=0.3)
    permit = breaker.acquire()
    permit.pause()
    clock.advance(3600)
    breaker.acquire().success()
    assert breaker.snapshot().in_flight == 1
    permit.resume()
    clock.advance(4.9)
    breaker.acquire().success()
    assert breaker.state == "closed"
    clock.advance(0.2)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()


def test_progress_of_one_stream_does_not_hide_a_hanging_call(clock: VirtualClock) -> None:
    breaker = hanging(clock, minimum_calls=9)
    stream, stuck = breaker.acquire(), breaker.acquire()
    stream.progress()
    stuck.progress()
    for _ in range(4):
        clock.advance(1.5)
        stream.progress()
    breaker.acquire().success()
    assert breaker.snapshot().hung_calls == 1
    clock.advance(4)
    stuck.success()
    breaker.acquire().success()
    assert breaker.snapshot().hung_calls == 0
    clock.advance(1)
    breaker.acquire().success()
    assert breaker.snapshot().hung_calls == 1


def test_stream_can_be_paused_repeatedly(clock: VirtualClock) -> None:
    breaker = hanging(clock, minimum_calls=1, failure_threshold=0.2)
    stream = breaker.acquire()
    for _ in range(3):
        stream.pause()
        clock.advance(3600)
        breaker.acquire().success()
        assert breaker.snapshot().in_flight == 1
        stream.resume()
        clock.advance(1)
    assert (breaker.state, breaker.snapshot().hung_calls) == ("closed", 0)
    clock.advance(4)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()


def test_paused_call_never_hangs(clock: VirtualClock) -> None:
    breaker = hanging(clock)
    stream = breaker.acquire()
    stream.progress()
    stream.pause()
    clock.advance(3)
    breaker.update(replace(breaker.config, hung_after=2))
    breaker.acquire().success()
    assert (breaker.snapshot().hung_calls, breaker.snapshot().in_flight) == (0, 1)


def test_hanging_calls_extend_a_run_of_failures(clock: VirtualClock) -> None:
    breaker = hanging(clock, failure_threshold=None, consecutive_failures=3, minimum_calls=None)
    breaker.acquire().failure()
    permits = [breaker.acquire(), breaker.acquire()]
    clock.advance(5)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    assert len(permits) == 2


def test_success_ends_the_run_for_calls_that_hang_already(clock: VirtualClock) -> None:
    breaker = hanging(clock, failure_threshold=None, consecutive_failures=3, minimum_calls=None)
    stuck = []
    for _ in range(5):
        stuck.append(breaker.acquire())
        clock.advance(5)
        breaker.acquire().success()
    assert breaker.state == "closed"
    assert breaker.snapshot().hung_calls == 5
    assert breaker.explain().rules[0].value == 0
    stuck += [breaker.acquire() for _ in range(3)]
    breaker.update(replace(breaker.config, cooldown_period=7))  # who was excused stays so
    assert breaker.state == "closed"
    clock.advance(5)
    with pytest.raises(CircuitOpenError, match="3 failures in a row"):
        breaker.acquire()


def test_failure_of_a_call_that_hung_before_a_success_extends_the_run(clock: VirtualClock) -> None:
    breaker = hanging(clock, failure_threshold=None, consecutive_failures=2, minimum_calls=None)
    stuck = []
    for _ in range(2):
        stuck.append(breaker.acquire())
        clock.advance(5)
        breaker.acquire().success()
    stuck[1].failure()
    assert breaker.state == "closed"
    stuck[0].failure()
    assert breaker.state == "open"


def test_hanging_call_is_evaluated_with_the_window_at_its_threshold(clock: VirtualClock) -> None:
    breaker = hanging(clock, window_seconds=10, hung_after=15, minimum_calls=3)
    for _ in range(2):
        breaker.acquire().failure()
    permit = breaker.acquire()
    clock.advance(15)
    breaker.acquire().ignore()
    assert breaker.state == "closed"
    assert breaker.snapshot().failures == 1
    permit.ignore()


@pytest.mark.parametrize("read", [CircuitBreaker.snapshot, CircuitBreaker.explain, CircuitBreaker.export])
def test_reading_a_circuit_runs_no_timers(clock: VirtualClock, read: Callable[[CircuitBreaker], object]) -> None:
    breaker = hanging(clock, window_seconds=10, minimum_calls=3)
    for _ in range(2):
        breaker.acquire().failure()
    permit = breaker.acquire()
    clock.advance(12)
    read(breaker)  # by now the failures are too old; when the call began to hang they were not
    assert breaker.snapshot().calls == 0
    permit.progress()
    last = breaker.snapshot().last_transition
    assert last is not None
    assert (last.to_state, last.at, last.failures) == ("open", 1005, 3)


def test_hanging_probe_has_failed(clock: VirtualClock) -> None:
    breaker = hanging(clock, half_open_timeout=60, cooldown_period=60, minimum_calls=1)
    breaker.acquire().failure()
    clock.advance(60)
    probe = breaker.acquire()
    clock.advance(5)
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.acquire()
    assert (refusal.value.state, refusal.value.retry_after) == ("open", 60)
    probe.success()
    assert breaker.state == "open"
