"""Permits of a quiet circuit, which take no lock: nothing that can be seen differs from a breaker that always does.

Random histories run on two breakers, one of them without quiet periods. Looking ends a period, so some histories look
after each step, and others seldom.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import cycle
from threading import Barrier, Thread
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError, CircuitState, Permit
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import CallerError, LockingBreaker, ProviderDownError
from tests.breaker.model.random_settings import configs

DEEP = os.environ.get("STEADYVOICE_DEEP") == "1"
RANDOM_NUMBERS = (0.5, 0.0, 0.75)


quiet_only = pytest.mark.skipif(not CircuitBreaker.quiet_periods, reason="no interpreter lock: permits take the lock")


ADAPTIVE = CircuitBreakerConfig.adaptive()


@st.composite
def adaptive_configs(draw: st.DrawFn) -> CircuitBreakerConfig:
    return replace(
        ADAPTIVE,
        failure_threshold=draw(st.sampled_from([0.25, 0.6, None])),
        window_seconds=draw(st.sampled_from([5.0, 30.0, None])),
        minimum_calls=draw(st.sampled_from([4, 10])),
        significance=draw(st.sampled_from([1e-9, 1e-2])),
        hung_factor=draw(st.sampled_from([1.5, 3.0, None])),
        ramp_up=draw(st.sampled_from([None, None, 5.0])),
        ignore=CallerError,
    )


TICK = 2**-10
"""Seconds before each progress: the order of calls whose last progress was at the same time is not defined."""

pick = st.integers(0, 20)
seconds = st.sampled_from([0.0, 0.0, 0.125, 0.25, 1.0, 1.75, 2.0, 5.0, 31.0, 3600.0])
steps = st.one_of(
    st.tuples(st.just("acquire"), st.integers(1, 3)),
    st.tuples(st.just("try_acquire"), st.integers(1, 2)),
    st.tuples(st.just("success"), pick, st.sampled_from([None, None, None, 0.5])),
    st.tuples(st.just("success"), pick, st.none()),
    st.tuples(st.sampled_from(["progress", "progress", "pause", "suspend", "resume"]), pick),
    st.tuples(st.sampled_from(["ignore", "abandon", "drop"]), pick),
    st.tuples(st.just("failure"), pick, st.sampled_from([0.5, 1.0]), st.sampled_from([False, False, False, True])),
    st.tuples(st.just("call"), st.sampled_from("SSFX"), st.integers(1, 12)),
    st.tuples(st.just("many"), st.sampled_from([20, 120]), st.sampled_from([0.0, 0.125, 1.0]), st.booleans()),
    st.tuples(st.just("wait"), seconds),
    st.tuples(st.just("wait"), seconds),
    st.tuples(st.just("look")),
    st.tuples(st.sampled_from(["reset", "close", "force_open", "disable", "monitor"])),
    st.tuples(st.just("update"), adaptive_configs() | configs()),
    st.tuples(st.just("subscribe"), st.booleans()),
    st.tuples(st.just("restore")),
)


class History:
    """Breaker with its clock and events."""

    def __init__(self, kind: type[CircuitBreaker], config: CircuitBreakerConfig) -> None:
        self.clock = VirtualClock(1000.0)
        self.breaker = kind(
            "voice", config, clock=self.clock, wall_clock=self.clock, random=cycle(RANDOM_NUMBERS).__next__
        )
        self.events: list[object] = []
        self.breaker.subscribe(self.events.append)
        self.permits: list[Permit] = []

    def do(self, step: tuple[Any, ...]) -> object:
        """Take a step; return what can be seen of it at once."""
        name, *values = step
        result = getattr(self, f"_{name}", self._by_hand)(*(values or [name] if name in BY_HAND else values))
        return result, self.breaker.state, [permit.settled for permit in self.permits], len(self.events)

    def look(self) -> object:
        explained = self.breaker.explain()
        return self.breaker.snapshot(), explained, str(explained), self.breaker.export(), self.breaker.retry_after

    def _look(self) -> object:
        return self.look()

    def _acquire(self, times: int) -> object:
        refusals = []
        for _ in range(times):
            try:
                self.permits.append(self.breaker.acquire())
            except CircuitOpenError as error:
                refusals.append((str(error), error.state, error.reason, error.retry_after, error.last_error))
        return refusals

    def _try_acquire(self, times: int) -> object:
        permits = [self.breaker.try_acquire() for _ in range(times)]
        self.permits += filter(None, permits)
        return [permit is None for permit in permits]

    def _success(self, which: int, duration: float | None) -> None:
        for permit in self._a_permit(which):
            permit.success(duration)

    def _failure(self, which: int, weight: float, trip: bool) -> None:
        for permit in self._a_permit(which):
            permit.failure("down", weight=weight, trip=trip)

    def _drop(self, which: int) -> None:
        if self.permits:
            del self.permits[which % len(self.permits)]

    def _call(self, end: str, times: int) -> object:
        refused = 0
        for _ in range(times):
            try:
                with suppress(ProviderDownError, CallerError):
                    self.breaker.call(self._act, end)
            except CircuitOpenError:
                refused += 1
        return refused

    def _act(self, end: str) -> str:
        match end:
            case "F":
                raise ProviderDownError("down")
            case "X":
                raise CallerError
        return end

    def _many(self, times: int, every: float, delivering: bool) -> object:
        refused = 0
        for _ in range(times):
            try:
                permit = self.breaker.acquire()
            except CircuitOpenError:
                refused += 1
                continue
            self.clock.advance(every)
            if delivering:
                self.clock.advance(TICK)
                permit.pause()
                permit.resume()
            permit.success()
        return refused

    def _wait(self, by: float) -> None:
        self.clock.advance(by)

    def _update(self, config: CircuitBreakerConfig) -> None:
        self.breaker.update(config)

    def _subscribe(self, every_call: bool) -> None:
        self.breaker.subscribe(self.events.append, calls=every_call)

    def _restore(self) -> None:
        self.breaker.restore(json.loads(json.dumps(self.breaker.export())))

    def _by_hand(self, *values: Any) -> None:
        if values[0] in BY_HAND:
            getattr(self.breaker, values[0])()

    def _a_permit(self, which: int) -> Iterator[Permit]:
        if self.permits:
            yield self.permits[-1 - which % min(len(self.permits), 6)]


BY_HAND = ("reset", "close", "force_open", "disable", "monitor")


def _act_on_a_permit(name: str) -> Callable[[History, int], None]:
    def act(history: History, which: int) -> None:
        history.clock.advance(TICK)
        for permit in history._a_permit(which):
            getattr(permit, name)()

    return act


for _name in ("progress", "pause", "suspend", "resume", "ignore", "abandon"):
    setattr(History, f"_{_name}", _act_on_a_permit(_name))


@pytest.mark.slow
@pytest.mark.timeout(3600 if DEEP else 300)
@settings(
    max_examples=10_000 if DEEP else 120,
    derandomize=not DEEP,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    config=st.just(ADAPTIVE) | adaptive_configs() | configs(),
    history=st.lists(steps, min_size=30, max_size=150),
    looking=st.booleans(),
)
def test_quiet_circuit_behaves_like_any_other(
    config: CircuitBreakerConfig, history: list[tuple[Any, ...]], looking: bool
) -> None:
    assert_same(config, history, looking)


def assert_same(config: CircuitBreakerConfig, history: list[tuple[Any, ...]], looking: bool) -> None:
    one, other = History(CircuitBreaker, config), History(LockingBreaker, config)
    for step in history:
        assert one.do(step) == other.do(step), step
        assert one.events == other.events
        if looking:
            assert one.look() == other.look(), step
    assert one.look() == other.look()


ACQUIRE, SUCCESS, FAILURE = ("acquire", 1), ("success", 0, None), ("failure", 0, 1.0, False)
SUCCEEDS, FAILS = [ACQUIRE, SUCCESS], [ACQUIRE, FAILURE]
NO_FACTOR = replace(ADAPTIVE, hung_factor=None)
SENSITIVE = replace(ADAPTIVE, failure_threshold=0.25, minimum_calls=4, significance=None)


QUICK, SLOW = [ACQUIRE, ("wait", 0.0625), SUCCESS], [ACQUIRE, ("wait", 2.0), SUCCESS]
HISTORIES: dict[str, tuple[CircuitBreakerConfig, list[tuple[Any, ...]]]] = {
    "success completes the minimum of calls": (SENSITIVE, [*FAILS, *SUCCEEDS * 4]),
    "successes grow old before failures": (
        replace(SENSITIVE, failure_threshold=0.3),
        [*SUCCEEDS * 3, ("wait", 20.0), *FAILS, *SUCCEEDS, *FAILS, ("wait", 15.0), *SUCCEEDS * 2],
    ),
    "monitoring warns again": (
        SENSITIVE,
        [("monitor",), *FAILS * 4, ("wait", 31.0), *SUCCEEDS * 4, *FAILS * 3, *SUCCEEDS * 2],
    ),
    "monitoring warns again after a window without a call": (
        SENSITIVE,
        [
            ("monitor",),
            ("acquire", 6),
            ("wait", 60.0),
            *SUCCEEDS,
            ("wait", 31.0),
            *(SUCCEEDS * 2),
            ("acquire", 6),
            ("wait", 60.0),
            *SUCCEEDS,
        ],
    ),
    "ramp-up": (
        replace(SENSITIVE, ramp_up=20.0, success_threshold=1),
        [*FAILS * 4, ("wait", 5.0), *SUCCEEDS, ("acquire", 3), *SUCCEEDS * 3, ("wait", 5.0), ("acquire", 20)],
    ),
    "slow calls": (
        replace(NO_FACTOR, slow_call_duration=3.0),
        [*SUCCEEDS, ACQUIRE, ("wait", 1.0), ("progress", 0), ("wait", 1.0), SUCCESS, ACQUIRE, ("success", 0, 5.0)],
    ),
    "a slow call": (
        replace(SENSITIVE, hung_after=None, hung_factor=None, slow_call_duration=3.0, slow_call_threshold=0.5),
        [*SUCCEEDS, ACQUIRE, ("wait", 5.0), SUCCESS, ACQUIRE, ("wait", 5.0), SUCCESS, *SUCCEEDS],
    ),
    "latency becomes known": (ADAPTIVE, [*SUCCEEDS, ("acquire", 6), *QUICK * 99, ACQUIRE, ("look",)]),
    "latency falls": (
        ADAPTIVE,
        [*SLOW * 100, *QUICK * 99, ("acquire", 8), ("wait", 2.5), *SUCCEEDS, ACQUIRE, ("look",), *SUCCEEDS],
    ),
    "calls hang": (ADAPTIVE, [*SUCCEEDS, ("acquire", 8), ("wait", 60.0), ACQUIRE]),
    "paused before a change": (
        replace(SENSITIVE, hung_after=2.0, hung_factor=1.5),
        [("acquire", 6), ("pause", 0), ("wait", 2.5), ("update", replace(NO_FACTOR, hung_after=2.0))],
    ),
    "dropped": (ADAPTIVE, [*SUCCEEDS, ("acquire", 2), ("drop", 0), ACQUIRE, ("look",), SUCCESS]),
    "dropped before an end": (ADAPTIVE, [*SUCCEEDS, ("acquire", 2), ("drop", 0), SUCCESS, ("look",)]),
    "late success": (ADAPTIVE, [*SUCCEEDS, ACQUIRE, ("reset",), ("look",), SUCCESS, ("look",)]),
    "settled once": (ADAPTIVE, [*SUCCEEDS, ACQUIRE, SUCCESS, SUCCESS, ("look",), SUCCESS, FAILURE, ("abandon", 0)]),
    "count window fills": (CircuitBreakerConfig(minimum_calls=5), FAILS * 3 + SUCCEEDS * 2),
    "count window fills, with time": (replace(SENSITIVE, window_seconds=None), FAILS + SUCCEEDS * 3),
}


@pytest.mark.parametrize("looking", [False, True])
@pytest.mark.parametrize("name", HISTORIES)
def test_quiet_circuit_has_the_same_decisions_and_events(name: str, looking: bool) -> None:
    config, history = HISTORIES[name]
    assert_same(config, history, looking)


# ---------------------------------------------------------------- steps of two threads, interleaved


class Interleaved:
    """Breaker in a quiet period, in which something else happens between a caller's clock reading and its next step."""

    def __init__(self, config: CircuitBreakerConfig = ADAPTIVE) -> None:
        self.happens: Callable[[], object] = lambda: None
        self.breaker = CircuitBreaker("voice", config, clock=self._clock)
        self.breaker.acquire().success()

    def _clock(self) -> float:
        happens, self.happens = self.happens, lambda: None
        happens()
        return 0.0


@quiet_only
def test_admission_is_decided_again_if_the_circuit_opened_meanwhile() -> None:
    other = Interleaved()
    other.happens = other.breaker.force_open
    with pytest.raises(CircuitOpenError):
        other.breaker.acquire()
    other.breaker.close()
    other.happens = other.breaker.force_open
    assert other.breaker.try_acquire() is None
    totals = other.breaker.snapshot().totals
    assert (totals.calls, totals.refused) == (1, 2)


@quiet_only
def test_call_admitted_while_the_circuit_was_emptied_belongs_to_the_new_window() -> None:
    other = Interleaved()
    other.happens = other.breaker.reset
    permit = other.breaker.acquire()
    assert other.breaker.snapshot().in_flight == 1
    permit.success()
    snapshot = other.breaker.snapshot()
    assert (snapshot.calls, snapshot.in_flight, snapshot.totals.late) == (1, 0, 0)


@quiet_only
@pytest.mark.parametrize("by", ["success", "progress"])
def test_result_is_recorded_if_its_quiet_period_ended_meanwhile(by: str) -> None:
    other = Interleaved()
    permit = other.breaker.acquire()
    other.happens = lambda: other.breaker.update(replace(ADAPTIVE, minimum_calls=4))
    getattr(permit, by)()
    assert permit.settled == (by == "success")
    permit.success()
    snapshot = other.breaker.snapshot()
    assert (snapshot.calls, snapshot.totals.successes, snapshot.in_flight) == (2, 2, 0)


@quiet_only
def test_success_is_late_if_the_circuit_closed_again_meanwhile() -> None:
    other = Interleaved()
    permit = other.breaker.acquire()
    other.happens = other.breaker.reset
    permit.success()
    snapshot = other.breaker.snapshot()
    assert (snapshot.calls, snapshot.totals.late, snapshot.totals.successes) == (0, 1, 1)


@quiet_only
def test_success_is_counted_once_if_another_thread_reported_it_meanwhile() -> None:
    other = Interleaved()
    permit = other.breaker.acquire()
    other.happens = permit.success
    permit.success()
    snapshot = other.breaker.snapshot()
    assert (snapshot.calls, snapshot.totals.successes, snapshot.in_flight) == (2, 2, 0)


SETTLEMENTS: dict[str, Callable[[Permit], None]] = {
    "success": lambda permit: permit.success(),
    "failure": lambda permit: permit.failure("503", weight=0.01),
    "ignore": lambda permit: permit.ignore(),
}


def _happens_before_instruction(number: int, of: CodeType, event: Callable[[], object]) -> Callable[..., Any]:
    """Return a tracer that lets an event happen before the n-th instruction of a function, as another thread would."""
    left = iter(range(number))

    def enter(frame: FrameType, kind: str, about: object) -> Callable[..., Any] | None:
        if frame.f_code is not of:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return step

    def step(frame: FrameType, kind: str, about: object) -> Callable[..., Any]:
        if kind == "opcode" and next(left, None) is None and next(once, None) is not None:
            event()
        return step

    once = iter(range(1))
    return enter


@quiet_only
@pytest.mark.parametrize(("first", "code"), [("success", Permit.success), ("failure", Permit._fail)])
@pytest.mark.parametrize("second", SETTLEMENTS)
def test_permit_settled_by_another_thread_between_any_two_steps_counts_once(
    first: str, code: FunctionType, second: str
) -> None:
    for number in range(120):
        breaker = CircuitBreaker("voice", ADAPTIVE)
        breaker.acquire().success()
        permit, tracer = breaker.acquire(), sys.gettrace()
        before = _happens_before_instruction(number, code.__code__, partial(SETTLEMENTS[second], permit))
        sys._getframe().f_trace_opcodes = True  # 3.12 asks at settrace() whether any frame wants them
        sys.settrace(before)
        SETTLEMENTS[first](permit)
        sys.settrace(tracer)
        SETTLEMENTS[second](permit)
        snapshot = breaker.snapshot()
        assert (snapshot.totals.calls, snapshot.in_flight) == (2, 0)
        assert permit.settled


@quiet_only
def test_call_of_the_thread_that_forks_still_counts(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", NO_FACTOR, clock=clock)
    breaker.acquire().success()
    before, ended = breaker.acquire(), breaker.acquire()
    ended.success()
    breaker.after_fork()  # as in the child
    after = breaker.acquire()
    assert breaker.snapshot().in_flight == 1
    before.success()
    after.success()
    snapshot = breaker.snapshot()
    assert (snapshot.in_flight, snapshot.totals.successes, snapshot.totals.late) == (0, 4, 0)


# ---------------------------------------------------------------- no lock, one clock reading


def a_call(breaker: CircuitBreaker) -> None:
    permit = breaker.acquire()
    permit.progress()
    permit.pause()
    permit.resume()
    permit.success()


@quiet_only
@pytest.mark.parametrize("config", [ADAPTIVE, CircuitBreakerConfig(), CircuitBreakerConfig(window_seconds=30)])
def test_permit_of_a_quiet_circuit_takes_no_lock(config: CircuitBreakerConfig) -> None:
    breaker = CircuitBreaker("voice", config, clock=VirtualClock())
    a_call(breaker)
    with breaker.fork_lock:
        thread = Thread(target=lambda: breaker.acquire().success(), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "waits for the lock"
    assert breaker.snapshot().totals.successes == 2


@quiet_only
def test_permit_of_a_quiet_circuit_reads_the_clock_once_at_each_end() -> None:
    readings: list[float] = []

    def clock() -> float:
        readings.append(0.0)
        return 0.0

    breaker = CircuitBreaker("voice", ADAPTIVE, clock=clock)
    breaker.acquire().success()
    readings.clear()
    permit = breaker.acquire()
    assert len(readings) == 1
    permit.success()
    assert len(readings) == 2
    permit = breaker.acquire(now=1.0)
    permit.progress(now=1.5)
    permit.pause(now=1.75)
    permit.resume(now=2.0)
    permit.success(now=2.25)
    assert len(readings) == 2


@quiet_only
def test_times_of_the_caller_count_as_the_clock(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", ADAPTIVE, clock=clock)
    breaker.acquire().success()
    now = clock() + 40  # the first result is 30 seconds old then
    breaker.acquire(now=clock()).success(now=clock() + 10)
    clock.advance(31)
    assert breaker.snapshot().calls == 1
    permit = breaker.try_acquire(now=now)
    assert permit is not None
    permit.success(now=now)


@quiet_only
def test_harmless_failures_in_the_window_leave_the_circuit_quiet() -> None:
    breaker = CircuitBreaker("voice", ADAPTIVE, clock=VirtualClock())
    for _ in range(11):
        breaker.acquire().failure(weight=0.25)
        breaker.acquire().success()
    with breaker.fork_lock:
        thread = Thread(target=lambda: breaker.acquire().success(), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()


def test_call_that_is_forgotten_after_success_is_no_further_call(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", ADAPTIVE, clock=clock)
    for _ in range(3):
        breaker.acquire().success()
    permit = breaker.acquire()
    permit.success()
    permit.success()
    permit.failure("too late")
    assert permit.settled
    del permit
    breaker.acquire().ignore()
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.ignored) == (4, 0, 1)


def test_call_that_ended_in_a_quiet_period_does_not_hang(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", replace(ADAPTIVE, hung_factor=None), clock=clock)
    breaker.acquire().success()
    breaker.acquire().success()
    clock.advance(60)
    waiting = breaker.acquire()
    snapshot = breaker.snapshot()
    assert (snapshot.hung_calls, snapshot.in_flight, snapshot.totals.successes) == (0, 1, 2)
    waiting.ignore()


# ---------------------------------------------------------------- threads


@pytest.fixture
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_switch_often")
@pytest.mark.parametrize("kind", [CircuitBreaker, LockingBreaker])
@pytest.mark.parametrize("config", [ADAPTIVE, CircuitBreakerConfig(failure_threshold=1.0, window_size=50)])
def test_every_permit_of_sixteen_threads_is_counted_once(
    kind: type[CircuitBreaker], config: CircuitBreakerConfig
) -> None:
    breaker = kind("voice", replace(config, hung_after=60))
    start, outcomes = Barrier(17), Counter[str]()

    def caller(_: int) -> Counter[str]:
        start.wait(10)
        mine = Counter[str]()
        for number in range(300):
            try:
                permit = breaker.acquire()
            except CircuitOpenError:
                mine["refused"] += 1
                continue
            if number % 3 == 0:
                permit.progress()
            match number % 50:
                case 7:
                    permit.failure(weight=0.01)
                case 11:
                    permit.ignore()
                case 13:
                    del permit
                case _:
                    permit.success()
            mine["admitted"] += 1
        return mine

    with ThreadPoolExecutor(16) as pool:
        callers = [pool.submit(caller, number) for number in range(16)]
        start.wait(10)
        while not all(each.done() for each in callers):
            breaker.force_open()
            assert breaker.snapshot().totals.calls <= 16 * 300
            breaker.close()
        for each in callers:
            outcomes += each.result()
    breaker.acquire().ignore()
    snapshot = breaker.snapshot()
    assert snapshot.in_flight == 0 or config is not ADAPTIVE
    assert snapshot.state is CircuitState.CLOSED
    assert snapshot.totals.refused == outcomes["refused"]
    assert snapshot.totals.calls == outcomes["admitted"] + 1
    assert outcomes["admitted"] + outcomes["refused"] == 16 * 300


@pytest.mark.usefixtures("_switch_often")
@pytest.mark.parametrize("kind", [CircuitBreaker, LockingBreaker])
def test_permit_settled_by_many_threads_counts_once(kind: type[CircuitBreaker]) -> None:
    breaker = kind("voice", ADAPTIVE)
    breaker.acquire().success()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            permit = breaker.acquire()
            list(pool.map(lambda _, permit=permit: permit.success(), range(8)))
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.calls) == (101, 101)


@pytest.mark.usefixtures("_switch_often")
@pytest.mark.parametrize("kind", [CircuitBreaker, LockingBreaker])
def test_calls_hang_while_others_are_admitted(kind: type[CircuitBreaker]) -> None:
    config = CircuitBreakerConfig(failure_threshold=None, consecutive_failures=10**9, hung_after=0.001)
    breaker = kind("voice", config)
    start = Barrier(8)

    def caller(_: int) -> None:
        start.wait(10)
        for _ in range(200):
            permits = [breaker.acquire() for _ in range(3)]
            for permit in permits:
                permit.progress()
            for permit in permits:
                permit.success()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(caller, range(8)))
    snapshot = breaker.snapshot()
    assert (snapshot.totals.successes, snapshot.in_flight, snapshot.hung_calls) == (4800, 0, 0)
