"""Signal handlers that raise at any line: no event, lock or permit is lost."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from textwrap import dedent

import pytest

from steadyvoice.breaker import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitRegistry,
    CircuitState,
    Event,
    StateChanged,
)
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import ProviderDownError
from tests.service.fork_scripts import run_script

from .interruption import interruptions

pytestmark = [
    pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts CPython's instructions"),
    pytest.mark.slow,
]

PLAIN = CircuitBreakerConfig(window_size=4, cooldown_period=10, success_threshold=1)
TIMED = replace(PLAIN, hung_after=5, window_seconds=60, slow_call_duration=3)
QUIET = replace(PLAIN, hung_after=5, hung_factor=2, window_seconds=60, significance=1e-8)

Scenario = Callable[[CircuitBreaker, VirtualClock], None]


def down() -> None:
    raise ProviderDownError


def fail(about: str) -> str:
    raise ProviderDownError(about)


def by_permit(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    first, second = breaker.acquire(), breaker.acquire()
    first.progress()
    first.success()
    second.failure(trip=True)
    clock.advance(10)
    with breaker.acquire():
        pass
    breaker.acquire()  # and is dropped


def by_call(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    for _ in range(2):
        breaker.call(int)
    for _ in range(3):
        with suppress(ProviderDownError, CircuitOpenError):
            breaker.call(down)
    clock.advance(10)
    breaker.call(int)
    breaker.call(int)


def by_with(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    with breaker, breaker:
        pass
    for _ in range(3):
        with suppress(ProviderDownError, CircuitOpenError), breaker:
            down()
    clock.advance(10)
    with breaker:
        pass


def by_stream(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    assert list(breaker.stream(lambda: iter("abc"))) == ["a", "b", "c"]
    for _ in range(3):
        with suppress(ProviderDownError, CircuitOpenError):
            list(breaker.stream(lambda: map(fail, "a")))
    clock.advance(10)
    stream = breaker.stream(lambda: iter("abc"))
    next(stream)
    stream.close()


def by_trying(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    if permit := breaker.try_acquire():
        permit.failure(trip=True)
    breaker.try_acquire()
    clock.advance(10)
    probe = breaker.try_acquire()
    breaker.try_acquire()
    if probe:
        probe.success()


def by_future(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    futures = [breaker.call(lambda: Future[str]()) for _ in range(3)]
    clock.advance(6)
    futures[0].set_result("spoken")
    futures[1].cancel()
    futures[2].set_exception(ProviderDownError())


def giving_up(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    permits = [breaker.acquire() for _ in range(2)]
    clock.advance(6)
    for permit in permits:
        permit.abandon(weight=0.5)
    with suppress(ExceptionGroup), breaker:
        raise ExceptionGroup("several", [ProviderDownError(), KeyError()])


def by_hand(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.acquire().failure()
    breaker.update(replace(breaker.config, window_size=6))
    breaker.force_open("maintenance", duration=5)
    clock.advance(5)
    breaker.acquire().failure()


def by_hand_again(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.force_open()
    state = breaker.export()
    breaker.reset()
    breaker.restore(state)
    breaker.monitor()
    breaker.disable()
    breaker.close()
    breaker.close()


def watched(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    unsubscribe = breaker.subscribe(lambda event: None, calls=True)
    with suppress(ProviderDownError):
        breaker.call(down)
    breaker.call(int)
    breaker.force_open()
    with suppress(CircuitOpenError):
        breaker.call(int)
    unsubscribe()
    unsubscribe()


@pytest.mark.parametrize(
    ("scenario", "config"),
    [
        *((each, PLAIN) for each in (by_permit, by_call, by_with, by_stream, by_hand, by_hand_again, watched)),
        *((each, PLAIN) for each in (by_trying, by_future)),
        *((each, TIMED) for each in (by_permit, by_call, by_future, giving_up)),
        *((each, QUIET) for each in (by_permit, by_call, by_stream, by_trying, giving_up)),
    ],
)
def test_circuit_is_consistent_after_an_exception_at_any_instruction(
    scenario: Scenario, config: CircuitBreakerConfig
) -> None:
    places = 0
    for interruption in interruptions():
        clock = VirtualClock()
        breaker = CircuitBreaker("voice", config, clock=clock)
        first: list[Event] = []
        second: list[Event] = []
        breaker.subscribe(first.append)
        breaker.subscribe(lambda event, received=second: received.append(event))  # type: ignore[misc]
        with interruption:
            scenario(breaker, clock)
        try:
            assert_sound(breaker, clock, first, second)
        except AssertionError as error:
            raise AssertionError(str(interruption)) from error
        places += interruption.happened
    assert places > 100


def test_no_result_of_a_quiet_period_is_lost_or_doubled_by_an_exception_at_any_instruction() -> None:
    places = 0
    for interruption in interruptions():
        breaker, done = CircuitBreaker("voice", QUIET, clock=VirtualClock()), 97
        for _ in range(done):
            breaker.acquire().success()
        permit = breaker.acquire()
        permit.ignore()
        with interruption:
            for call in range(6):  # after the third, the hundred results are recorded
                permit = breaker.acquire()
                if call % 2:
                    permit.pause()
                    permit.resume()
                permit.success()
                done += 1
        del permit  # what was interrupted is dropped
        permit = breaker.acquire()
        snapshot = breaker.snapshot()
        assert snapshot.in_flight == 1, str(interruption)
        assert snapshot.totals.calls - 1 in (done, done + 1), str(interruption)
        assert snapshot.totals.successes == snapshot.calls in (done, done + 1), str(interruption)
        in_thread(permit.success)
        places += interruption.happened
    assert places > 100


def assert_sound(breaker: CircuitBreaker, clock: VirtualClock, first: list[Event], second: list[Event]) -> None:
    """No lock is held, no place in it is taken, and both listeners hear the same chain of transitions without holes."""
    snapshot = breaker.snapshot()
    assert 0 <= snapshot.failure_rate <= 1
    assert 0 <= snapshot.failures <= snapshot.calls
    with suppress(CircuitOpenError):
        breaker.acquire().ignore()  # the next caller: what was dropped is taken in
    clock.advance(1)
    if breaker.state is CircuitState.HALF_OPEN:
        assert breaker.snapshot().in_flight == 0
        breaker.acquire().success()
        assert breaker.state is not CircuitState.HALF_OPEN
    in_thread(breaker.close)
    breaker.force_open()
    transitions = [event for event in first if isinstance(event, StateChanged)]
    assert first == second
    assert transitions[0].from_state is CircuitState.CLOSED
    assert [after.from_state for _, after in pairwise(transitions)] == [e.to_state for e, _ in pairwise(transitions)]
    assert transitions[-1].to_state is breaker.state is CircuitState.FORCED_OPEN
    last = breaker.snapshot().last_transition
    assert last == transitions[-1]


def in_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "the lock is held"


def test_registry_is_consistent_after_an_exception_at_any_instruction() -> None:
    for interruption in interruptions():
        registry = CircuitRegistry()
        with interruption:
            registry.circuit("voice", vendor="a")
            registry.tagged(vendor="a")
            registry.configure("voice", PLAIN)
            registry.update(TIMED)
        in_thread(lambda registry=registry: registry.circuit("voice", vendor="a"))  # type: ignore[misc]
        assert registry.tagged(vendor="a") == [registry.circuit("voice")]
        assert registry.circuit("voice") in list(registry)


def test_interrupted_listener_is_not_called_again_and_later_listeners_are_called() -> None:
    received: list[str] = []

    def interrupted(event: Event) -> None:
        received.append(f"first: {getattr(event, 'to_state', '')}")
        if len(received) == 1:
            raise KeyboardInterrupt

    breaker = CircuitBreaker("voice", listeners=[interrupted])
    breaker.subscribe(lambda event: received.append(f"second: {getattr(event, 'to_state', '')}"))
    with pytest.raises(KeyboardInterrupt):
        breaker.force_open()
    assert received == ["first: forced_open"]
    breaker.close()
    assert received == ["first: forced_open", "second: forced_open", "first: closed", "second: closed"]


def test_undelivered_events_are_delivered_by_the_next_call_of_a_healthy_circuit() -> None:
    received: list[str] = []

    def interrupted(event: Event) -> None:
        if not received:
            received.append("interrupted")
            raise KeyboardInterrupt

    breaker = CircuitBreaker("voice", listeners=[interrupted])
    breaker.subscribe(lambda event: received.append(getattr(event, "reason", "")))
    with pytest.raises(KeyboardInterrupt):
        breaker.reset("a new day")
    assert breaker.call(lambda: 7) == 7
    assert received == ["interrupted", "a new day"]


REAL = """
import builtins, json, random, signal, sys, threading
from itertools import pairwise
from steadyvoice.breaker import *

class SoftTimeLimitError(getattr(builtins, sys.argv[2])):
    pass

def handler(number, frame):
    raise SoftTimeLimitError

def down():
    raise OSError

config = CircuitBreakerConfig(window_size=4, cooldown_period=1e-9, max_cooldown=1e-9, success_threshold=1)
breaker = CircuitBreaker("voice", config)
quiet = CircuitBreaker("quiet", CircuitBreakerConfig.adaptive())
first, second = [], []
breaker.subscribe(first.append)
breaker.subscribe(lambda event: second.append(event))

def attempt(work):
    try:
        work()
    except (OSError, CircuitOpenError):
        pass

def enter():
    with breaker:
        pass

def work():
    attempt(lambda: breaker.call(down))
    attempt(lambda: breaker.call(int))
    attempt(lambda: breaker.acquire().failure(trip=True))
    attempt(enter)
    attempt(breaker.acquire)
    permit = quiet.acquire()
    permit.pause()
    permit.resume()
    permit.success()

random = random.Random(1)
interrupted = lost = seen = 0
signal.signal(signal.SIGALRM, handler)
while interrupted < int(sys.argv[1]):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(20e-6, 200e-6))
        for _ in range(1000):
            work()
        lost += 1
    except SoftTimeLimitError:
        interrupted += len(first) > seen  # on a busy machine, many signals come before anything has happened
        seen = len(first)
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_DFL)
work()
work()
in_flight = breaker.snapshot().in_flight or quiet.snapshot().in_flight
closing = threading.Thread(target=breaker.close, daemon=True)
closing.start()
closing.join(10)
held = closing.is_alive()
breaker.force_open()
chain = [event for event in first if isinstance(event, StateChanged)]
holes = sum(a.to_state != b.from_state for a, b in pairwise(chain))
print(json.dumps([holes, first == second, held, in_flight or 0, lost, breaker.state]))
"""


@pytest.mark.parametrize("kind", ["Exception", "BaseException"])
async def test_real_signals_lose_no_event_lock_or_permit(kind: str) -> None:
    assert await run_script(dedent(REAL), "1500", kind) == [0, True, False, 0, 0, "forced_open"]
