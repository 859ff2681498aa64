"""Lock-free successes, collected late: evaluated as if they had been recorded one by one.

What several threads do within one moment is done here one after the other, in the order that matters.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, StateChanged
from steadyvoice.breaker.call_lifecycle import CallLifecycle
from steadyvoice.breaker.events import NO_WALL_TIME
from steadyvoice.breaker.failure_classification import make_failure
from steadyvoice.breaker.in_flight_calls import InFlightCall
from steadyvoice.breaker.testing import VirtualClock


def machine_with(failures: int, config: CircuitBreakerConfig) -> CallLifecycle:
    """A circuit in which so many calls failed; callers from before are still out, and need no lock to succeed."""
    machine = CallLifecycle("voice", config, 0.0, lambda: 0.0)
    assert machine.era.lock_free
    machine.era.lock_free = False
    for _ in range(failures):
        machine.fail(0.0, InFlightCall.new(machine.era), make_failure("down"))
    return machine


@pytest.mark.parametrize(("failures", "judged"), [(3, 5), (4, 5)])
def test_success_that_completes_the_minimum_is_evaluated_and_later_ones_are_late(failures: int, judged: int) -> None:
    machine = machine_with(failures, CircuitBreakerConfig(failure_threshold=0.6, minimum_calls=judged))
    before = machine.era
    for _ in range(4):
        next(before.ticks)
    machine.collect_ticks(7.0, before)
    assert machine.notifications is not None
    (notification,) = machine.notifications
    opened = notification.make_event(NO_WALL_TIME)
    assert isinstance(opened, StateChanged)
    assert (opened.to_state, opened.calls, opened.failures, opened.at) == ("open", judged, failures, 7.0)
    assert (machine.results.successes, machine.results.late) == (judged - failures, 4 - (judged - failures))


@pytest.mark.parametrize("fails", [False, True])
def test_late_end_of_a_call_runs_the_timer_of_a_probe(fails: bool) -> None:
    clock = VirtualClock()
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(window_size=1, half_open_timeout=2.0), clock=clock)
    late = breaker.call_async(lambda: _Answer())
    late.send(None)
    breaker.acquire().failure(trip=True)
    clock.advance(breaker.retry_after or 0.0)
    probe = breaker.acquire()
    clock.advance(2.0)
    assert breaker.state == "half_open"
    with pytest.raises((StopIteration, OSError)):
        late.throw(OSError("down")) if fails else late.send(None)
    assert breaker.state == "open"
    assert breaker.snapshot().totals.late == 1
    probe.ignore()


class _Answer:
    def __await__(self) -> Generator[None, None, str]:
        yield
        return "Hello"


def test_late_results_add_up() -> None:
    machine = machine_with(0, CircuitBreakerConfig())
    before = machine.era
    for _ in range(5):
        machine.fail(0.0, InFlightCall.new(before), make_failure("down"))
    assert machine.state == "open"
    for ticks in (2, 3):
        for _ in range(ticks):
            next(before.ticks)
        machine.collect_ticks(1.0, before)
    assert (machine.results.successes, machine.results.late) == (0, 5)


def test_long_run_of_lock_free_successes_keeps_the_circuit_closed() -> None:
    machine = machine_with(0, CircuitBreakerConfig(minimum_calls=5))
    for _ in range(250):
        next(machine.era.ticks)
    machine.collect_ticks(1.0, machine.era)
    machine.collect_ticks(1.0, machine.era)  # nothing is taken in twice
    assert (machine.results.successes, machine.calls, machine.notifications) == (250, 10, None)
