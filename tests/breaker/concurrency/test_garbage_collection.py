"""Garbage collection at any line, also under the breaker's lock: no deadlock, no change of state."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState
from steadyvoice.breaker.decorators import guard_stream
from steadyvoice.breaker.testing import VirtualClock


class Interrupted:
    """A breaker in the middle of whose locked section something happens: the machine asks for random there."""

    def __init__(self, clock: VirtualClock) -> None:
        self.happens: Callable[[], object] = lambda: None
        self.is_inside = False
        config = CircuitBreakerConfig(window_size=1, cooldown_jitter=0.5, success_threshold=1)
        self.breaker = CircuitBreaker("voice", config, clock=clock, random=self._random)

    def _random(self) -> float:
        self.is_inside = True
        self.happens()
        self.is_inside = False
        return 0.0

    def open_while(self, something: Callable[[], object]) -> None:
        self.happens = something
        self.breaker.acquire().failure()
        self.happens = lambda: None


@pytest.fixture
def interrupted(clock: VirtualClock) -> Interrupted:
    return Interrupted(clock)


def test_stream_closed_by_the_garbage_collector_does_not_deadlock(clock: VirtualClock) -> None:
    # A collection that begins by itself may come before the section, and on free-threaded Python one of another thread
    # may find the stream, while which this thread's does nothing.
    while (breaker := breaker_whose_section_closed_a_stream(clock)) is None:
        pass
    assert breaker.state is CircuitState.OPEN
    breaker.force_open()
    totals = breaker.snapshot().totals
    assert (totals.failures, totals.late) == (1, 1)


def breaker_whose_section_closed_a_stream(clock: VirtualClock) -> CircuitBreaker | None:
    """Have the collector run in a section, beside garbage with a stream; return None if it was closed elsewhere."""
    interrupted, closed_in = Interrupted(clock), list[int | None]()

    @interrupted.breaker
    def stream() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed_in.append(threading.get_ident() if interrupted.is_inside else None)

    forgotten: list[object] = [stream()]
    assert next(forgotten[0]) == "a"  # type: ignore[call-overload]
    forgotten.append(forgotten)
    del forgotten
    interrupted.open_while(gc.collect)
    return interrupted.breaker if closed_in == [threading.get_ident()] else None


def test_stream_in_a_cycle_is_counted_whichever_finaliser_the_collector_calls_first() -> None:
    breaker = CircuitBreaker("voice")
    acquired = [breaker.acquire()]  # older than its stream, so that the collector comes to it first
    forgotten: list[Any] = [guard_stream(acquired.pop, lambda: iter("ab"))()]
    assert next(forgotten[0]) == "a"
    forgotten.append(forgotten)
    del forgotten
    gc.collect()
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.ignored) == (1, 0)


def test_call_that_ends_inside_a_section_is_recorded_by_the_next(interrupted: Interrupted, clock: VirtualClock) -> None:
    breaker = interrupted.breaker
    first, second = breaker.acquire(), breaker.acquire()

    def both_end() -> None:
        first.success()
        second.failure("said by a finaliser")

    interrupted.open_while(both_end)
    clock.advance(60)
    breaker.acquire().success()
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.late) == (1, 1, 2)
    assert breaker.state is CircuitState.CLOSED


def test_call_made_inside_a_section_is_admitted_and_not_counted(interrupted: Interrupted) -> None:
    breaker, answers = interrupted.breaker, list[int]()
    interrupted.open_while(lambda: answers.append(breaker.call(lambda: 7)))
    totals = breaker.snapshot().totals
    assert answers == [7]
    assert (totals.calls, totals.failures) == (1, 1)


def test_inside_a_section_reading_works_and_manual_control_is_refused(interrupted: Interrupted) -> None:
    breaker, seen = interrupted.breaker, list[object]()

    def look_and_touch() -> None:
        seen.append(breaker.snapshot().name)
        with pytest.raises(RuntimeError, match="'voice' cannot be changed from a finaliser or signal handler"):
            breaker.reset()

    interrupted.open_while(look_and_touch)
    assert seen == ["voice"]
    assert breaker.state is CircuitState.OPEN
