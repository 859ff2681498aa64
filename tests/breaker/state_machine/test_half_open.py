"""Half-open circuit: admission of probes, and their decision."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.conftest import MakeScenario


def half_open(clock: VirtualClock, **settings: Any) -> CircuitBreaker:
    """A circuit whose next caller is a probe."""
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1, **settings), clock=clock)
    breaker.acquire().failure()
    clock.advance(60)
    return breaker


def test_enough_successful_probes_close_the_circuit_with_an_empty_window(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=4, minimum_calls=2, success_threshold=3)
    scenario.play("FF")
    scenario.clock.advance(60)
    assert scenario.play("SS") == "half_open"
    assert scenario.play("S") == "closed"
    snapshot = scenario.breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.opened_at) == (0, 0, None)


def test_failed_probe_opens_the_circuit_and_restarts_the_cooldown(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1, success_threshold=3)
    scenario.play("F")
    scenario.clock.advance(75)
    assert scenario.play("SSF") == "open"
    assert scenario.refused().retry_after == 60


def test_probes_do_not_change_the_window(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=4, minimum_calls=4, success_threshold=3)
    scenario.play("SSFF")
    scenario.clock.advance(60)
    scenario.play("SF")
    snapshot = scenario.breaker.snapshot()
    assert (snapshot.state, snapshot.calls, snapshot.failures) == ("open", 4, 2)


def test_half_open_failures_permits_failed_probes(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1, success_threshold=3, half_open_failures=2)
    scenario.play("F")
    scenario.clock.advance(60)
    assert scenario.play("SFSF") == "half_open"
    assert scenario.breaker.explain().next == "closes after 1 more successful probe, opens when 1 fails before"
    assert scenario.play("S") == "closed"
    assert scenario.breaker.snapshot().reason == "3 of 5 probes succeeded"


def test_failed_probe_beyond_half_open_failures_opens_at_once(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1, success_threshold=3, half_open_failures=2)
    scenario.play("F")
    scenario.clock.advance(60)
    assert scenario.play("SFF") == "half_open"
    assert scenario.play("F") == "open"
    reason = "a probe failed with ProviderDownError: no voice today, the last of 3 that failed"
    assert scenario.breaker.snapshot().reason == reason


def test_expired_probe_counts_towards_half_open_failures(clock: VirtualClock) -> None:
    breaker = half_open(clock, success_threshold=1, half_open_failures=1, half_open_timeout=10)
    for _ in range(2):
        assert breaker.state in ("open", "half_open")
        silent = breaker.acquire()
        clock.advance(10)
        silent.progress()
    snapshot = breaker.snapshot()
    assert snapshot.state == "open"
    assert snapshot.last_error is not None
    assert snapshot.last_error.kind == "probe_expired"
    assert snapshot.last_error.latency == 10


def test_probe_with_cooldown_from_error_opens_regardless_of_half_open_failures(clock: VirtualClock) -> None:
    breaker = half_open(clock, half_open_failures=5)
    breaker.acquire().failure("429", trip=True, cooldown=7)
    assert breaker.snapshot().retry_after == 7


@pytest.mark.parametrize("letter", ["X", "C"])
def test_ignored_probe_releases_its_permit(make_scenario: MakeScenario, letter: str) -> None:
    scenario = make_scenario(window_size=1, success_threshold=2)
    scenario.play("F")
    scenario.clock.advance(60)
    assert scenario.play("S" + letter * 5) == "half_open"
    assert scenario.play("S") == "closed"


def test_half_open_admits_half_open_max_calls_probes(clock: VirtualClock) -> None:
    breaker = half_open(clock, half_open_max_calls=4, success_threshold=4)
    for _ in range(2):
        probes = [breaker.acquire() for _ in range(4)]
        for _ in range(2):
            with pytest.raises(CircuitOpenError) as refusal:
                breaker.acquire()
            assert refusal.value.state == "half_open"
            assert refusal.value.reason == "4 of 4 probes in flight"
            assert refusal.value.retry_after is None
            assert refusal.value.last_error is not None
            assert refusal.value.last_error.kind == "failure"
        probes[0].failure()
        assert breaker.state == "open"
        clock.advance(60)


def test_one_probe_at_a_time_is_admitted(clock: VirtualClock) -> None:
    breaker = half_open(clock, success_threshold=3)
    first = breaker.acquire()
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    first.success()
    breaker.acquire().success()
    breaker.acquire().success()
    assert breaker.state == "closed"


def test_decision_does_not_wait_for_the_other_probes(clock: VirtualClock) -> None:
    breaker = half_open(clock, half_open_max_calls=3, success_threshold=1)
    first, second, third = (breaker.acquire() for _ in range(3))
    first.success()
    assert breaker.state == "closed"
    second.failure()
    third.failure()
    assert breaker.state == "closed"
    assert breaker.snapshot().totals.late == 2


def test_call_from_an_earlier_era_is_no_probe(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1, success_threshold=1), clock=clock)
    before = breaker.acquire()
    breaker.acquire().failure()
    clock.advance(60)
    probe = breaker.acquire()
    before.success()
    assert breaker.state == "half_open"
    assert breaker.snapshot().in_flight == 1
    probe.success()
    assert breaker.state == "closed"


def test_slow_probes_open_the_circuit(clock: VirtualClock) -> None:
    breaker = half_open(clock, slow_call_duration=4, slow_call_threshold=0.5, success_threshold=3)
    breaker.acquire().success(4.0)
    breaker.acquire().success(1.0)
    assert breaker.state == "half_open"
    breaker.acquire().success(4.0)
    assert breaker.state == "open"
    assert "slow" in breaker.snapshot().reason


def test_one_slow_probe_of_three_does_not_open_the_circuit(clock: VirtualClock) -> None:
    breaker = half_open(clock, slow_call_duration=4, slow_call_threshold=0.5, success_threshold=3)
    for duration in (4.0, 1.0, 1.0):
        breaker.acquire().success(duration)
    assert breaker.state == "closed"


def test_probe_without_progress_expires(clock: VirtualClock) -> None:
    breaker = half_open(clock, half_open_timeout=10, cooldown_period=60)
    probe = breaker.acquire()
    clock.advance(9.9)
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.acquire()
    assert refusal.value.state == "half_open"
    clock.advance(0.2)
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.acquire()
    assert refusal.value.state == "open"
    assert refusal.value.retry_after == pytest.approx(59.9)
    probe.success()
    totals = breaker.snapshot().totals
    assert breaker.state == "open"
    assert (totals.failures, totals.successes, totals.late) == (2, 0, 0)


def test_probe_expires_as_of_its_timeout(clock: VirtualClock) -> None:
    breaker = half_open(clock, half_open_timeout=10, cooldown_period=60)
    silent = breaker.acquire()
    clock.advance(3600)
    probe = breaker.acquire()
    silent.success()
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.in_flight, snapshot.probe_successes) == ("half_open", 1, 0)
    probe.success()
    assert breaker.snapshot().probe_successes == 1


def test_dropped_probe_releases_its_permit(clock: VirtualClock) -> None:
    breaker = half_open(clock)
    breaker.acquire()
    breaker.acquire().success()
    assert breaker.state == "half_open"
    assert breaker.snapshot().totals.ignored == 1


def test_streaming_probe_succeeds_exactly_after_the_configured_time(clock: VirtualClock) -> None:
    breaker = half_open(clock, success_threshold=1, stream_probe_success_after=3)
    probe = breaker.acquire()
    probe.progress()
    clock.advance(2.75)
    probe.progress()
    assert breaker.state == "half_open"
    clock.advance(0.25)
    probe.progress()
    assert breaker.state == "closed"
    assert probe.settled


def test_failed_probe_can_set_the_cooldown(clock: VirtualClock) -> None:
    breaker = half_open(clock)
    breaker.acquire().failure("429", cooldown=7)
    assert breaker.snapshot().retry_after == 7


@pytest.mark.parametrize("word", ["progress", "pause", "resume"])
def test_stream_from_an_earlier_era_takes_no_place_of_a_probe(clock: VirtualClock, word: str) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1), clock=clock)
    stream = breaker.acquire()
    breaker.acquire().failure()
    clock.advance(60)
    breaker.acquire().ignore()
    getattr(stream, word)()
    assert breaker.snapshot().in_flight == 0
    breaker.acquire().success()


def test_probe_with_slow_first_chunk_is_slow_whatever_its_consumer_does(clock: VirtualClock) -> None:
    breaker = half_open(clock, slow_call_duration=4, success_threshold=1, stream_probe_success_after=3)
    stream = breaker.acquire()
    clock.advance(4)
    stream.pause()
    clock.advance(3)
    stream.resume()
    assert breaker.state == "open"
    assert "slow" in breaker.snapshot().reason


async def test_fifty_tasks_at_once_send_exactly_the_permitted_probes(clock: VirtualClock) -> None:
    breaker = half_open(clock, half_open_max_calls=3, success_threshold=3)
    go_on = asyncio.Event()
    reached: list[int] = []

    async def speak() -> str:
        reached.append(1)
        await go_on.wait()
        return "spoken"

    tasks = [asyncio.ensure_future(breaker.call_async(speak)) for _ in range(50)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    go_on.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(reached) == 3
    assert answers.count("spoken") == 3
    assert breaker.state == "closed"


def test_twenty_threads_at_once_send_exactly_the_permitted_probes(clock: VirtualClock) -> None:
    breaker = half_open(clock, half_open_max_calls=2, success_threshold=2)
    start, go_on = Barrier(20), Event()
    reached: list[int] = []

    def speak() -> str:
        reached.append(1)
        go_on.wait(10)
        return "spoken"

    def caller() -> str:
        start.wait(10)
        try:
            return breaker.call(speak)
        except CircuitOpenError:
            if breaker.snapshot().totals.refused == 18:
                go_on.set()
            return "refused"

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: caller(), range(20)))
    assert len(reached) == 2
    assert sorted(answers) == ["refused"] * 18 + ["spoken"] * 2
    assert breaker.state == "closed"


def test_suspended_probe_does_not_succeed(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(window_size=1, success_threshold=1, half_open_timeout=10)
    breaker = CircuitBreaker("voice", config, clock=clock)
    breaker.acquire().failure()
    clock.advance(60)
    probe = breaker.acquire()
    probe.suspend()
    for _ in range(3):
        clock.advance(100)
        assert breaker.try_acquire() is None
    assert (breaker.state, breaker.snapshot().probe_successes) == ("half_open", 0)
    probe.resume()
    clock.advance(9)
    assert breaker.try_acquire() is None
    assert breaker.state == "half_open"
    clock.advance(1)
    assert breaker.try_acquire() is None
    assert (breaker.state, breaker.snapshot().reason) == ("open", "a probe made no progress for 10 s")


def test_admission_takes_the_same_time_with_many_probes(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(window_size=1, half_open_max_calls=1000, success_threshold=1000)
    breaker = CircuitBreaker("voice", config, clock=clock)
    breaker.acquire().failure()
    clock.advance(60)
    steps = 0

    def step(_frame: object, _event: str, _about: object) -> None:
        nonlocal steps
        steps += 1

    sys.setprofile(step)
    try:
        permits = [breaker.acquire() for _ in range(1000)]
        for permit in permits[:900]:
            permit.success()
    finally:
        sys.setprofile(None)
    assert breaker.snapshot().in_flight == 100
    assert steps < 200 * 1000
