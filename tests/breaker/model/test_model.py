"""Comparison of the breaker with its model in random scenarios: same states, refusals, counts and events.

STEADYVOICE_DEEP=1, which `make long` sets, runs 130 times as many scenarios, other ones each time.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from steadyvoice.breaker import (
    Cause,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitState,
    Outcome,
    Permit,
)
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import CallerError, LockingBreaker, ProviderDownError
from tests.breaker.model import calls
from tests.breaker.model import manual_control as by_hand
from tests.breaker.model.comparison import comparable_error, comparable_event, shown_error
from tests.breaker.model.model import Model
from tests.breaker.model.random_settings import configs
from tests.breaker.model.records import Call
from tests.breaker.model.rules import learns, normal

pytestmark = pytest.mark.slow

DEEP = os.environ.get("STEADYVOICE_DEEP") == "1"
RANDOM_NUMBERS = (0.5, 0.0, 0.75)
BY_HAND = {
    CircuitState.FORCED_OPEN: CircuitBreaker.force_open,
    CircuitState.DISABLED: CircuitBreaker.disable,
    CircuitState.MONITORING: CircuitBreaker.monitor,
}

# Quarters of a second are exact in binary, so that boundaries can be hit exactly.
seconds = st.sampled_from([0.0, 0.0, 0.25, 0.25, 1.0, 1.0, 2.0, 5.0, 9.75, 60.0, 3600.0])
durations = st.sampled_from([None, None, 0.0, 1.75, 2.0, 5.0])
pick = st.integers(0, 20)
ends = st.sampled_from("SSFFGXIC")


class Lives(RuleBasedStateMachine):
    """Every rule does the same to both; what listeners hear and what can be seen is compared all along."""

    kind: type[CircuitBreaker] = CircuitBreaker

    @initialize(config=configs(), watched=st.booleans())
    def begin(self, config: CircuitBreakerConfig, watched: bool) -> None:
        self.clock = VirtualClock(1000.0)
        self.model = Model(config, self.clock(), cycle(RANDOM_NUMBERS).__next__, watched)
        self._be_born(config)

    def _be_born(self, config: CircuitBreakerConfig) -> None:
        self.breaker = self.kind(
            "voice", config, clock=self.clock, wall_clock=self.clock, random=cycle(RANDOM_NUMBERS).__next__
        )
        self.model.cooldown.random = cycle(RANDOM_NUMBERS).__next__
        received: list[tuple[object, ...]] = []
        self.received = received
        self.breaker.subscribe(lambda event: received.append(comparable_event(event)), calls=self.model.watched)
        self.permits: list[tuple[Permit, Call]] = []
        self.waiting: list[tuple[Coroutine[Any, Any, str], Call]] = []
        self.futures: list[tuple[Future[str], Call]] = []

    # ---- calls

    @rule(times=st.integers(1, 3), quietly=st.booleans())
    def acquire(self, times: int, quietly: bool = False) -> None:
        for _ in range(times):
            expected = calls.admit(self.model, self.clock())
            if quietly:
                permit = self.breaker.try_acquire()
                assert (permit is None) == (expected is None)
            else:
                permit = self._admitted(self.breaker.acquire, expected is not None)
            if permit is not None and expected is not None:
                self.permits.append((permit, expected))

    @rule(end=ends, times=st.integers(1, 8), takes=st.sampled_from([0.0, 0.0, 0.0, 1.75, 2.0, 6.0]))
    def call(self, end: str, times: int, takes: float) -> None:
        for _ in range(times):
            expected = calls.begin(self.model, self.clock())

            def speak() -> str:
                self.clock.advance(takes)
                return _end(end)

            self._admitted(lambda: _caught(lambda: self.breaker.call(speak)), expected is not None)
            if expected is not None:
                self._model_ends(expected, end)

    @precondition(lambda self: self.model.state is CircuitState.CLOSED)
    @rule(probes=st.integers(0, 2))
    def outage(self, probes: int) -> None:
        """Bring the circuit to half-open, which random operations rarely do."""
        self.acquire(times=1)
        if self.model.state is CircuitState.CLOSED and self.permits:  # while it ramps up, some are refused
            self.failure(which=0, took=None, weight=1.0, cooldown=None, trip=True)
        self.clock.advance(self.model.retry_after(self.clock()) or 0.0)
        self.acquire(times=probes)

    @precondition(lambda self: self.model.state is CircuitState.CLOSED and learns(self.model.rule))
    @rule(times=st.sampled_from([40, 110]), failing=st.booleans())
    def calm(self, times: int, failing: bool) -> None:
        """Long enough for the breaker to learn what is normal."""
        if failing:
            self.call(end="F", times=1, takes=0.0)
        self.call(end="S", times=times, takes=0.0)

    @rule()
    def begin_a_call_that_waits(self) -> None:
        expected = calls.begin(self.model, self.clock())

        async def speak() -> str:
            return _end(await _Word())

        waiting = self.breaker.call_async(speak)
        self._admitted(lambda: waiting.send(None), expected is not None)
        if expected is not None:
            self.waiting.append((waiting, expected))

    @precondition(lambda self: self.waiting)
    @rule(which=pick, end=ends)
    def end_a_call_that_waits(self, which: int, end: str) -> None:
        waiting, expected = self.waiting.pop(which % len(self.waiting))
        _caught(lambda: waiting.send(end))
        self._model_ends(expected, end)

    @rule()
    def begin_a_call_that_gives_a_future(self) -> None:
        expected = calls.begin(self.model, self.clock())
        future = self._admitted(lambda: self.breaker.call(lambda: Future[str]()), expected is not None)
        if future is not None and expected is not None:
            self.futures.append((future, expected))

    @precondition(lambda self: self.futures)
    @rule(which=pick, end=ends)
    def end_a_future(self, which: int, end: str) -> None:
        future, expected = self.futures.pop(which % len(self.futures))
        try:
            future.set_result(_end(end))
        except asyncio.CancelledError:
            future.cancel()
            future.set_running_or_notify_cancel()
        except Exception as error:
            future.set_exception(error)
        self._model_ends(expected, end)

    @precondition(lambda self: self.permits)
    @rule(which=pick, took=durations)
    def success(self, which: int, took: float | None) -> None:
        permit, call = self._a_permit(which)
        permit.success(took)
        calls.succeed(self.model, call, self.clock(), took)

    @precondition(lambda self: self.permits)
    @rule(
        which=pick,
        took=durations,
        weight=st.sampled_from([0.5, 1.0, 1.0]),
        cooldown=st.sampled_from([None, None, None, 0.0, 7.0]),
        trip=st.sampled_from([False, False, False, True]),
    )
    def failure(self, which: int, took: float | None, weight: float, cooldown: float | None, trip: bool) -> None:
        permit, call = self._a_permit(which)
        permit.failure("down", took, weight=weight, cooldown=cooldown, trip=trip)
        calls.fail(self.model, call, self.clock(), "failure", took, weight, cooldown, trip)

    @precondition(lambda self: self.permits)
    @rule(
        which=pick,
        how=st.sampled_from(["ignore", "abandon", "progress", "progress", "pause", "suspend", "resume"]),
        weight=st.sampled_from([0.5, 1.0]),
    )
    def other_word(self, which: int, how: str, weight: float) -> None:
        permit, call = self._a_permit(which)
        if how == "abandon":
            permit.abandon(weight=weight)
        else:
            getattr(permit, how)()
        match how:
            case "abandon":
                calls.abandon(self.model, call, self.clock(), weight)
            case "pause":
                calls.progress(self.model, call, self.clock(), held=True)
            case _:
                getattr(calls, how)(self.model, call, self.clock())

    @precondition(lambda self: self.permits)
    @rule(which=pick, later=seconds)
    def drop(self, which: int, later: float) -> None:
        permit, call = self.permits.pop(which % len(self.permits))
        before = self.breaker.snapshot()
        del permit
        assert self.breaker.snapshot() == before  # a finaliser takes no lock; the next operation finds it
        self.clock.advance(later)
        calls.drop(self.model, call, self.clock())
        self.breaker.subscribe(lambda event: None)()

    # ---- time

    @rule(by=seconds)
    def wait(self, by: float) -> None:
        self.clock.advance(by)

    @rule(which=pick, off=st.sampled_from([-0.25, 0.0, 0.0, 0.25]))
    def wait_until_something_is_due(self, which: int, off: float) -> None:
        dues = [due + off for due in self._dues() if due + off >= self.clock()]
        assume(dues)
        self.clock.advance(dues[which % len(dues)] - self.clock())

    # ---- by hand

    @rule(state=st.sampled_from(list(BY_HAND)), duration=st.sampled_from([None, 0.0, 2.0, 10.0]))
    def force(self, state: CircuitState, duration: float | None) -> None:
        BY_HAND[state](self.breaker, duration=duration)
        by_hand.force(self.model, state, self.clock(), duration)

    @rule(cause=st.sampled_from([Cause.MANUAL, Cause.RESET]))
    def close(self, cause: Cause) -> None:
        self.breaker.reset() if cause is Cause.RESET else self.breaker.close()
        by_hand.close(self.model, self.clock(), cause)

    @rule(config=configs())
    def update(self, config: CircuitBreakerConfig) -> None:
        self.breaker.update(config)
        by_hand.update(self.model, config, self.clock())

    @rule()
    def restart(self) -> None:
        state = self.breaker.export()
        assert state["level"] == self.model.cooldown.level
        self._leave()
        self._be_born(self.breaker.config)
        by_hand.restart(self.model, self.clock())
        self.breaker.restore(json.loads(json.dumps(state)))

    # ---- what is to be seen

    @rule()
    def look(self) -> None:
        model, snapshot, now = self.model, self.breaker.snapshot(), self.clock()
        calls, failures = model.seen(now)
        totals = {outcome: model.totals[outcome] for outcome in Outcome}
        assert (snapshot.calls, snapshot.failures) == (calls, failures)
        assert snapshot.failure_rate == (failures / calls if calls else 0.0)
        assert snapshot.enough_calls == (calls >= model.config.minimum)
        assert snapshot.slow_calls == sum(r.slow for r in model.window(now))
        assert snapshot.hung_calls == model.hung
        assert snapshot.in_flight == (len(model.out) if model.watching else None)
        assert snapshot.consecutive_failures == model.streak
        if learns(model.rule):
            assert snapshot.normal_failure_rate == pytest.approx(normal(model.past))
        assert snapshot.admitted_share == model.admitted_share(now)
        assert snapshot.probe_successes == len(model.probes)
        assert snapshot.probe_failures == len(model.failed_probes)
        assert snapshot.retry_after == model.retry_after(now)
        assert snapshot.opened_at == (None if model.shown_at is None else datetime.fromtimestamp(model.shown_at, UTC))
        assert comparable_error(snapshot.last_error) == shown_error(model.last_error)
        assert snapshot.totals.calls == sum(totals.values())
        assert snapshot.totals.successes == totals[Outcome.SUCCESS]
        assert snapshot.totals.failures == totals[Outcome.FAILURE]
        assert snapshot.totals.ignored == totals[Outcome.IGNORED]
        assert snapshot.totals.late == totals[Outcome.LATE]
        assert snapshot.totals.refused == model.totals["refused"]
        assert snapshot.recoveries.count == len(model.recoveries)
        assert snapshot.recoveries.last_seconds == (model.recoveries[-1] if model.recoveries else None)
        assert [permit.settled for permit, _ in self.permits] == [call.settled for _, call in self.permits]

    @invariant()
    def same_state_and_same_news(self) -> None:
        assert self.breaker.state is self.model.state
        assert self.received == self.model.events

    def teardown(self) -> None:
        if hasattr(self, "breaker"):
            self.look()
            self._leave()

    # ---- helpers

    def _admitted(self, entry_point: Callable[[], Any], expected: bool) -> Any:
        """Return the result of an admission, which must be admitted or refused as the model expects."""
        through, refusal = None, None
        try:
            through = entry_point()
        except CircuitOpenError as error:
            refusal = error
        assert (refusal is None) == expected
        if refusal is not None:
            assert refusal.state is self.model.state
            assert refusal.retry_after == self.model.retry_after(self.clock())
            assert comparable_error(refusal.last_error) == shown_error(self.model.last_error)
        del refusal  # its traceback would keep the frames here in a cycle, and a permit of theirs from being dropped
        return through

    def _leave(self) -> None:
        for waiting, _ in self.waiting:
            waiting.close()

    def _a_permit(self, which: int) -> tuple[Permit, Call]:
        return self.permits[-1 - which % min(len(self.permits), 6)]

    def _model_ends(self, call: Call, end: str) -> None:
        match end:
            case "S":
                calls.succeed(self.model, call, self.clock())
            case "F" | "G":
                calls.fail(self.model, call, self.clock(), ProviderDownError.__name__)
            case "X" | "I":
                calls.ignore(self.model, call, self.clock())
            case _:
                calls.abandon(self.model, call, self.clock())

    def _dues(self) -> list[float]:
        """Moments at which something changes, the next ones first."""
        model = self.model
        dues = [due for due, _ in model.deadlines()]
        dues += [r.at + (model.config.window_seconds or 0.0) for r in model.window(self.clock())]
        return sorted(dues + ([] if model.until is None else [model.until]))


class _Word:
    """Awaited, it waits for what the coroutine is sent."""

    def __await__(self) -> Generator[None, str, str]:
        return (yield)


def _end(letter: str) -> str:
    match letter:
        case "F":
            raise ProviderDownError("down")
        case "G":
            raise ExceptionGroup("one failure among others", [CallerError(), ProviderDownError("down")])
        case "X":
            raise CallerError
        case "I":
            raise ExceptionGroup("no failure at all", [CallerError(), CircuitOpenError()])
        case "C":
            raise asyncio.CancelledError
    return "spoken"


def _caught(act: Callable[[], object]) -> None:
    """Suppress the error of a call, but not a refusal."""
    with suppress(ProviderDownError, CallerError, ExceptionGroup, asyncio.CancelledError, StopIteration):
        act()


class LockingLives(Lives):
    """The same without quiet periods."""

    kind = LockingBreaker


SETTINGS = settings(
    max_examples=16_000 if DEEP else 120,
    stateful_step_count=50,
    derandomize=not DEEP,
    database=None,
    report_multiple_bugs=False,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLives = pytest.mark.timeout(3600 if DEEP else 300)(Lives.TestCase)
TestLockingLives = pytest.mark.timeout(3600 if DEEP else 300)(LockingLives.TestCase)
TestLives.settings = TestLockingLives.settings = SETTINGS
