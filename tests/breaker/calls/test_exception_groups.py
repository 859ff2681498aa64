"""Exception groups, classified by the errors in them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock

FAILURE, IGNORED = (1, 0), (0, 1)


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("unhandled errors in a TaskGroup", errors)


def outcomes(clock: VirtualClock, error: BaseException, **settings: Any) -> tuple[float, int]:
    """The failures and the ignored calls after this error."""
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(**settings), clock=clock)

    def fails() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        breaker.call(fails)
    assert raised.value is error
    snapshot = breaker.snapshot()
    return snapshot.failures, snapshot.totals.ignored


def is_value_error(error: Exception) -> bool:
    return isinstance(error, ValueError)


@pytest.mark.parametrize("ignore", [ValueError, (KeyError, ValueError), is_value_error])
def test_group_of_ignored_errors_is_ignored(clock: VirtualClock, ignore: Any) -> None:
    assert outcomes(clock, group(ValueError()), ignore=ignore) == IGNORED
    assert outcomes(clock, group(group(ValueError()), ValueError()), ignore=ignore) == IGNORED
    assert outcomes(clock, group(ValueError(), group(group(OSError()))), ignore=ignore) == FAILURE


@pytest.mark.parametrize("failure_on", [ValueError, (KeyError, ValueError), is_value_error])
def test_group_with_one_failure_is_a_failure(clock: VirtualClock, failure_on: Any) -> None:
    assert outcomes(clock, group(OSError(), ValueError()), failure_on=failure_on) == FAILURE
    assert outcomes(clock, group(OSError(), group(ValueError())), failure_on=failure_on) == FAILURE
    assert outcomes(clock, group(OSError(), group(TypeError())), failure_on=failure_on) == IGNORED


def test_ignore_wins_over_failure_on_for_each_error_of_a_group(clock: VirtualClock) -> None:
    settings = {"failure_on": Exception, "ignore": ValueError}
    assert outcomes(clock, group(ValueError()), **settings) == IGNORED
    assert outcomes(clock, group(ValueError(), OSError()), **settings) == FAILURE


def test_types_of_groups_match_the_group_itself(clock: VirtualClock) -> None:
    assert outcomes(clock, group(OSError()), ignore=ExceptionGroup) == IGNORED
    assert outcomes(clock, group(OSError()), failure_on=ExceptionGroup) == FAILURE
    assert outcomes(clock, OSError(), failure_on=ExceptionGroup) == IGNORED
    assert outcomes(clock, group(OSError()), failure_on=ExceptionGroup, ignore=OSError) == IGNORED


def test_predicates_are_never_called_with_the_group(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    class Answer(Exception):
        def __init__(self, status: int) -> None:
            self.status = status

    settings: dict[str, Any] = {"failure_on": lambda error: error.status >= 500}
    assert outcomes(clock, group(Answer(404)), **settings) == IGNORED
    assert outcomes(clock, group(Answer(404), Answer(503)), **settings) == FAILURE
    assert caplog.text == ""


def test_group_of_refusals_is_ignored_by_an_outer_circuit(clock: VirtualClock) -> None:
    refusal = CircuitOpenError(name="inner")
    assert outcomes(clock, group(refusal)) == IGNORED
    assert outcomes(clock, group(refusal, group(refusal))) == IGNORED
    assert outcomes(clock, group(refusal, OSError())) == FAILURE
    assert outcomes(clock, group(refusal), failure_on=CircuitOpenError) == FAILURE


async def test_task_group_around_an_open_circuit_is_ignored_outside(clock: VirtualClock) -> None:
    inner = CircuitBreaker("inner", clock=clock, state="forced_open")
    outer = CircuitBreaker("outer", CircuitBreakerConfig(window_size=1), clock=clock)

    @outer
    async def both() -> None:
        async def speak() -> None: ...

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(inner.call_async(speak))
            tasks.create_task(inner.call_async(speak))

    with pytest.raises(ExceptionGroup):
        await both()
    assert (outer.state, outer.snapshot().totals.ignored) == ("closed", 1)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([asyncio.CancelledError()], IGNORED),
        ([KeyboardInterrupt(), asyncio.CancelledError()], IGNORED),
        ([asyncio.CancelledError(), BaseExceptionGroup("in", [GeneratorExit()])], IGNORED),
        ([asyncio.CancelledError(), ValueError()], IGNORED),
        ([asyncio.CancelledError(), OSError()], FAILURE),
        ([asyncio.CancelledError(), BaseExceptionGroup("in", [KeyboardInterrupt(), OSError()])], FAILURE),
    ],
    ids=repr,
)
def test_cancellations_in_a_group_are_ignored(
    clock: VirtualClock, errors: list[BaseException], expected: tuple[float, int]
) -> None:
    assert outcomes(clock, BaseExceptionGroup("several", errors), ignore=ValueError) == expected


def test_failure_of_a_group_is_described_by_its_error(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(ignore=ValueError), clock=clock)
    with pytest.raises(ExceptionGroup), breaker:
        raise group(ValueError("our own"), group(ConnectionError("no route")))
    assert str(breaker.snapshot().last_error) == "ConnectionError: no route"


def test_group_has_the_largest_weight_and_the_longest_cooldown_of_its_errors(clock: VirtualClock) -> None:
    class Busy(Exception):
        def __init__(self, weight: float, retry_after: float | None) -> None:
            self.weight, self.retry_after = weight, retry_after

    config = CircuitBreakerConfig(
        failure_weight=lambda error: error.weight,
        cooldown_from_error=lambda error: error.retry_after,
        ignore=ValueError,
    )
    breaker = CircuitBreaker("voice", config, clock=clock)
    with pytest.raises(ExceptionGroup), breaker:
        raise group(Busy(0.25, None), group(Busy(0.5, None)), ValueError())
    assert breaker.snapshot().failures == 0.5
    with pytest.raises(ExceptionGroup), breaker:
        raise group(Busy(1.0, 5), Busy(0.5, 120), Busy(0.5, None))
    assert (breaker.state, breaker.retry_after, breaker.snapshot().failures) == ("open", 120, 1.5)


def test_deeply_nested_group_is_classified(clock: VirtualClock) -> None:
    error: Exception = OSError()
    for _ in range(5000):
        error = group(error)
    assert outcomes(clock, error, ignore=ValueError) == FAILURE
    assert outcomes(clock, error, ignore=OSError) == IGNORED
    while isinstance(error, ExceptionGroup):  # taken apart by hand: letting go of it all at once is a recursion, too
        error = error.exceptions[0]
