"""Error handler around any coroutine function."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import (
    CircuitState,
    RetryConfig,
    TTSCircuitOpenError,
    TTSConfigurationError,
    TTSErrorHandler,
    TTSErrorState,
)
from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.service.resilience.error_classification import classify
from steadyvoice.service.resilience.retry import RetryBudget
from steadyvoice.speech.errors import (
    TTSBadRequestError,
    TTSBusyError,
    TTSConnectError,
    TTSError,
    TTSInvalidKeyError,
    TTSServerError,
)
from steadyvoice.speech.failure_kinds import FailureKind
from tests.parametrize_ids import stable_repr

from ..conftest import BRIEF, loop_clock

pytestmark = pytest.mark.looptime


class Operation:
    """Fails with each error in turn, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "spoken"


def guard(**retry: float) -> TTSErrorHandler:
    return TTSErrorHandler("vendor", BRIEF, RetryConfig(**retry), clock=loop_clock, rng=Random(1))  # type: ignore[arg-type]


async def test_result_of_a_success_is_returned() -> None:
    handler, operation = guard(), Operation()
    assert await handler.execute_with_retry(operation) == "spoken"
    assert operation.calls == 1
    assert handler.get_error_state()["totals"]["successes"] == 1


@pytest.mark.parametrize(
    "error", [TTSServerError("HTTP 503"), TimeoutError(), ConnectionResetError(), RuntimeError("odd")]
)
async def test_temporary_failure_is_retried(error: Exception) -> None:
    handler, operation = guard(), Operation(error)
    assert await handler.execute_with_retry(operation) == "spoken"
    assert operation.calls == 2
    assert handler.state.consecutive_failures == 0


async def test_original_error_is_raised_when_all_attempts_failed() -> None:
    boom = RuntimeError("boom")
    handler, operation = guard(max_attempts=1), Operation(boom, boom)
    with pytest.raises(RuntimeError) as raised:
        await handler.execute_with_retry(operation)
    assert raised.value is boom


async def test_call_that_opens_the_circuit_raises_its_error_and_the_next_is_refused() -> None:
    handler, operation = guard(), Operation(*[TTSServerError(f"HTTP 50{n}") for n in range(9)])
    with pytest.raises(TTSServerError):
        await handler.execute_with_retry(operation)
    assert operation.calls == 2, "two failures open the circuit: no third attempt"
    with pytest.raises(TTSCircuitOpenError) as refused:
        await handler.execute_with_retry(operation)
    assert operation.calls == 2
    assert isinstance(refused.value, CircuitOpenError)
    assert isinstance(refused.value, TTSError)
    assert refused.value.name == "vendor"
    assert refused.value.state is CircuitState.OPEN
    assert refused.value.retry_after == pytest.approx(60, abs=1)
    assert "HTTP 501" in str(refused.value.last_error)
    state = handler.state
    assert isinstance(state, TTSErrorState)
    assert state.circuit_state is CircuitState.OPEN
    assert state.circuit_opened_at is not None
    assert state.is_muted


async def test_manual_reset_closes_the_circuit_at_once() -> None:
    handler, operation = guard(), Operation(TimeoutError(), TimeoutError())
    with pytest.raises(TimeoutError):
        await handler.execute_with_retry(operation)
    handler.reset_circuit_breaker()
    assert handler.state.circuit_state is CircuitState.CLOSED
    assert await handler.execute_with_retry(operation) == "spoken"


async def test_retry_after_of_the_vendor_is_respected() -> None:
    handler, operation = guard(), Operation(TTSBusyError("HTTP 429", retry_after=7.0))
    before = loop_clock()
    assert await handler.execute_with_retry(operation) == "spoken"
    assert loop_clock() - before == pytest.approx(7.0)


async def test_retry_after_holds_other_callers_too() -> None:
    handler = guard(max_attempts=1)
    with pytest.raises(TTSBusyError):
        await handler.execute_with_retry(Operation(TTSBusyError("HTTP 429", retry_after=7.0)))
    impatient = Operation()
    with pytest.raises(TTSError, match="on hold"):
        await handler.execute_with_retry(impatient)
    assert impatient.calls == 0
    await asyncio.sleep(7.0)
    assert await handler.execute_with_retry(impatient) == "spoken"


async def test_cancelled_operation_is_ignored() -> None:
    handler = guard()
    task = asyncio.ensure_future(handler.execute_with_retry(asyncio.Event().wait))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert handler.get_error_state()["totals"] == {
        "calls": 1,
        "successes": 0,
        "failures": 0,
        "refused": 0,
        "ignored": 1,
    }


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("unhandled errors in a TaskGroup", list(errors))


def counted(handler: TTSErrorHandler) -> tuple[int, int]:
    totals = handler.state.circuit.totals
    return totals.failures, totals.ignored


async def refusal() -> CircuitOpenError:
    inner = CircuitBreaker("inner", CircuitBreakerConfig(window_size=1), clock=loop_clock)
    inner.acquire().failure()
    with pytest.raises(CircuitOpenError) as refused:
        inner.acquire()
    return refused.value


@pytest.mark.parametrize(
    "around",
    [
        lambda refused: refused,
        lambda refused: group(refused),
        lambda refused: group(group(TTSCircuitOpenError(refused))),
        lambda refused: BaseExceptionGroup("mixed", [asyncio.CancelledError(), refused]),
    ],
    ids=["bare", "in a group", "ours, deep in a group", "beside a cancellation"],
)
async def test_refusal_of_an_inner_circuit_is_ignored_and_not_retried(
    around: Callable[[CircuitOpenError], BaseException],
) -> None:
    error = around(await refusal())
    handler, operation = guard(), Operation(error, error, error)
    with pytest.raises(type(error)) as raised:
        await handler.execute_with_retry(operation)
    assert raised.value is error
    assert operation.calls == 1
    assert counted(handler) == (0, 1)
    assert handler.state.last_error is not None
    assert handler.state.last_error.kind is FailureKind.CIRCUIT_OPEN


@pytest.mark.parametrize(
    ("error", "kind", "totals"),
    [
        (group(TTSInvalidKeyError("HTTP 401")), FailureKind.INVALID_KEY, (0, 1)),
        (group(TTSInvalidKeyError("HTTP 401"), group(TTSServerError("HTTP 503"))), FailureKind.SERVER_ERROR, (1, 0)),
        (group(ValueError("odd"), TTSBusyError("HTTP 429")), FailureKind.UNEXPECTED, (1, 0)),
        (group(TTSBusyError("HTTP 429"), TTSBadRequestError("HTTP 400")), FailureKind.BUSY, (1, 0)),
        (BaseExceptionGroup("mixed", [asyncio.CancelledError(), TimeoutError()]), FailureKind.READ_TIMEOUT, (1, 0)),
    ],
    ids=stable_repr,
)
async def test_exception_group_counts_as_its_most_significant_error(
    error: BaseException, kind: FailureKind, totals: tuple[int, int]
) -> None:
    handler = guard(max_attempts=1)
    with pytest.raises(type(error)) as raised:
        await handler.execute_with_retry(Operation(error))
    assert raised.value is error
    assert counted(handler) == totals
    assert handler.state.last_error is not None
    assert handler.state.last_error.kind is kind


def test_error_of_a_group_has_the_group_as_its_cause() -> None:
    cause, leaf = OSError("unreachable"), TTSConnectError("no route")
    leaf.__cause__ = cause
    whole = group(leaf)
    named = classify(whole, "vendor")
    assert (type(named), named.message, named.provider) == (TTSConnectError, "no route", "vendor")
    assert named.__cause__ is whole
    assert leaf.__cause__ is cause


@pytest.mark.parametrize(
    "error",
    [
        BaseExceptionGroup("left", [asyncio.CancelledError(), KeyboardInterrupt()]),
        group(concurrent.futures.CancelledError()),
    ],
    ids=stable_repr,
)
async def test_group_of_cancellations_is_ignored(error: BaseException) -> None:
    handler = guard(max_attempts=1)
    with pytest.raises(BaseExceptionGroup):
        await handler.execute_with_retry(Operation(error))
    assert counted(handler) == (0, 1)


@pytest.mark.parametrize(
    ("settings", "error", "totals"),
    [
        ({"ignore": LookupError}, KeyError("none"), (0, 1)),
        ({"ignore": LookupError}, group(KeyError("none")), (0, 1)),
        ({"ignore": LookupError}, RuntimeError("odd"), (1, 0)),
        ({"failure_on": ConnectionError}, RuntimeError("odd"), (0, 1)),
        ({"failure_on": ConnectionError}, ConnectionResetError(), (1, 0)),
        ({"failure_on": ConnectionError}, TTSServerError("HTTP 503"), (1, 0)),
        ({"failure_on": ConnectionError}, group(TTSServerError("HTTP 503")), (1, 0)),
        ({"ignore": TTSError}, TTSServerError("HTTP 503"), (1, 0)),
    ],
    ids=stable_repr,
)
async def test_other_exceptions_are_classified_by_the_circuits_settings(
    settings: dict[str, Any], error: Exception, totals: tuple[int, int]
) -> None:
    handler = TTSErrorHandler(
        "vendor", CircuitBreakerConfig(**settings), RetryConfig(max_attempts=1), clock=loop_clock, rng=Random(1)
    )
    with pytest.raises(type(error)):
        await handler.execute_with_retry(Operation(error))
    assert counted(handler) == totals


async def test_other_exceptions_have_the_weight_of_the_circuits_settings() -> None:
    config = CircuitBreakerConfig(failure_weight=lambda error: 0.25)
    handler = TTSErrorHandler("vendor", config, RetryConfig(max_attempts=1), clock=loop_clock, rng=Random(1))
    with pytest.raises(RuntimeError):
        await handler.execute_with_retry(Operation(RuntimeError("odd")))
    assert handler.state.circuit.failures == 0.25
    handler.circuit.update(CircuitBreakerConfig(cooldown_from_error=lambda error: 5.0))
    with pytest.raises(RuntimeError):
        await handler.execute_with_retry(Operation(RuntimeError("odd")))
    assert handler.state.circuit_state is CircuitState.OPEN
    assert handler.state.retry_after == pytest.approx(5.0)


async def test_retries_cannot_multiply_an_outage() -> None:
    lenient = TTSErrorHandler(
        "vendor",
        BRIEF,
        RetryConfig(budget=0.2, budget_reserve=3),
        clock=loop_clock,
        rng=Random(1),
    )
    lenient.circuit.disable()
    operations = [Operation(*[TimeoutError()] * 9) for _ in range(100)]
    for operation in operations:
        with pytest.raises(TimeoutError):
            await lenient.execute_with_retry(operation)
    assert sum(operation.calls for operation in operations) <= 100 + 3 + 0.2 * 100


@given(st.floats(0, 5), st.floats(1, 20), st.lists(st.booleans(), max_size=200))
def test_retry_budget_is_never_overdrawn(share: float, reserve: float, attempts: list[bool]) -> None:
    budget = RetryBudget(RetryConfig(budget=share, budget_reserve=reserve))
    earned = spent = 0
    for wants_retry in attempts:
        if wants_retry and budget.affords_one:
            budget.spend()
            spent += 1
        else:
            budget.earn()
            earned += 1
    assert spent <= reserve + share * earned + 1e-6


@given(st.integers(1, 100), st.integers(0, 2**32))
def test_pauses_grow_are_jittered_and_have_a_cap(tries: int, seed: int) -> None:
    config = RetryConfig(base_delay=0.25, multiplier=2.0, max_delay=8.0)
    pause = config.pause(TTSServerError("HTTP 500"), tries, Random(seed))
    least = min(8.0, 0.25 * 2.0 ** (tries - 1))
    assert least <= pause <= 2 * least


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_attempts", 0), ("max_attempts", 1.5), ("max_attempts", True), ("base_delay", -1), ("multiplier", 0.5),
     ("max_delay", float("inf")), ("budget", float("nan")), ("budget_reserve", "3")],
)  # fmt: skip
def test_impossible_retry_settings_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(TTSConfigurationError, match=field):
        RetryConfig(**{field: value})  # type: ignore[arg-type]


def test_base_delay_over_the_maximum_delay_is_rejected() -> None:
    with pytest.raises(TTSConfigurationError, match="base_delay: must not be more than max_delay"):
        RetryConfig(base_delay=9, max_delay=1)


def test_handler_without_settings_uses_the_adaptive_preset() -> None:
    handler = TTSErrorHandler("voice")
    assert handler.circuit.config == CircuitBreakerConfig.adaptive()
    assert (CircuitBreakerConfig.adaptive().cooldown_period, CircuitBreakerConfig().cooldown_period) == (2, 60)


def test_refusal_of_the_service_keeps_the_last_failure_of_its_circuit() -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig.consecutive(1))
    breaker.acquire().failure(ConnectionError("gone"))
    with pytest.raises(CircuitOpenError) as refused:
        breaker.acquire()
    assert TTSCircuitOpenError(refused.value).last_error == breaker.snapshot().last_error
