"""Classification of errors and results: types, predicates, weights; and predicates that fail themselves."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import run_coroutine
from tests.parametrize_ids import stable_repr


class BaseTroubleError(Exception):
    pass


class HarmlessTroubleError(BaseTroubleError):
    pass


class OtherError(Exception):
    pass


def outcomes(clock: VirtualClock, error: Exception, **settings: Any) -> tuple[float, int]:
    """The failures and the ignored calls after this error, once through each way of counting."""
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(**settings), clock=clock)

    def fails() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        breaker.call(fails)
    assert raised.value is error
    snapshot = breaker.snapshot()
    return snapshot.failures, snapshot.totals.ignored


FAILURE, IGNORED = (1, 0), (0, 1)


def test_every_exception_is_a_failure_by_default(clock: VirtualClock) -> None:
    assert outcomes(clock, OtherError()) == FAILURE


def test_failure_on_limits_failures_to_the_named_types(clock: VirtualClock) -> None:
    assert outcomes(clock, BaseTroubleError(), failure_on=BaseTroubleError) == FAILURE
    assert outcomes(clock, HarmlessTroubleError(), failure_on=(OtherError, BaseTroubleError)) == FAILURE
    assert outcomes(clock, OtherError(), failure_on=BaseTroubleError) == IGNORED


def test_ignore_wins_over_failure(clock: VirtualClock) -> None:
    settings = {"failure_on": BaseTroubleError, "ignore": HarmlessTroubleError}
    assert outcomes(clock, HarmlessTroubleError(), **settings) == IGNORED
    assert outcomes(clock, BaseTroubleError(), **settings) == FAILURE


def test_predicates_receive_the_error(clock: VirtualClock) -> None:
    settings = {"failure_on": lambda error: "5" in str(error), "ignore": lambda error: "x" in str(error)}
    assert outcomes(clock, OtherError("503"), **settings) == FAILURE
    assert outcomes(clock, OtherError("404"), **settings) == IGNORED
    assert outcomes(clock, OtherError("503x"), **settings) == IGNORED


@pytest.mark.parametrize("field", ["failure_on", "ignore", "failure_weight", "cooldown_from_error"])
def test_predicate_that_raises_leaves_the_callers_error_alone(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    def broken(error: Exception) -> Any:
        raise LookupError("broken predicate")

    assert outcomes(clock, OtherError(), **{field: broken}) == FAILURE
    assert [record.name for record in caplog.records] == ["steadyvoice.breaker"]


def test_result_predicate_that_raises_leaves_the_callers_result_alone(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(value: object) -> bool:
        raise LookupError("broken predicate")

    breaker = CircuitBreaker("voice", CircuitBreakerConfig(failure_result=broken), clock=clock)
    assert breaker.call(lambda: "spoken") == "spoken"
    assert breaker.snapshot().totals.successes == 1
    assert len(caplog.records) == 1


async def test_results_of_coroutines_are_classified(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(minimum_calls=2, failure_result=lambda value: value is None)
    breaker = CircuitBreaker("voice", config, clock=clock)

    async def says_nothing() -> str | None:
        return None

    for _ in range(2):
        assert await breaker.call_async(says_nothing) is None
    assert breaker.state == "open"


def test_errors_can_have_a_smaller_weight(clock: VirtualClock) -> None:
    assert outcomes(clock, OtherError(), failure_weight=lambda error: 0.5) == (0.5, 0)


@pytest.mark.parametrize("weight", [Decimal("0.5"), Fraction(1, 2)], ids=stable_repr)
def test_weight_can_be_any_real_number(clock: VirtualClock, caplog: pytest.LogCaptureFixture, weight: Any) -> None:
    assert outcomes(clock, OtherError(), failure_weight=lambda error: weight) == (0.5, 0)
    assert not caplog.records


@pytest.mark.parametrize(
    "weight",
    [0, -1, 7, float("nan"), 10**400, "x", "0.5", Decimal(2), Decimal("nan"), Fraction(-1, 2), 0.5j],
    ids=stable_repr,
)
def test_invalid_weight_from_a_predicate_is_logged_and_replaced_by_one(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture, weight: Any
) -> None:
    assert outcomes(clock, OtherError(), failure_weight=lambda error: weight) == FAILURE
    assert [record.name for record in caplog.records] == ["steadyvoice.breaker"]


async def answer_later(error: Exception) -> bool:
    return True


class Array:
    """Result of a comparison of numpy arrays, which has no truth value."""

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


@pytest.mark.parametrize(
    "settings",
    [
        {"ignore": lambda error: Array()},
        {"failure_on": lambda error: Array()},
        {"failure_weight": lambda error: None},
        {"failure_weight": lambda error: "half"},
        {"cooldown_from_error": lambda error: 10**400},
        {"ignore": lambda error: answer_later(error)},
        {"failure_on": lambda error: answer_later(error)},
        {"cooldown_from_error": lambda error: "120"},
        {"cooldown_from_error": lambda error: -5},
        {"cooldown_from_error": lambda error: True},
        {"cooldown_from_error": lambda error: float("nan")},
        {"cooldown_from_error": lambda error: timedelta(seconds=-1)},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_invalid_result_of_a_predicate_is_logged_and_leaves_the_callers_error_alone(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture, settings: dict[str, Any]
) -> None:
    assert outcomes(clock, OtherError(), **settings) == FAILURE
    assert [record.name for record in caplog.records] == ["steadyvoice.breaker"]


@pytest.mark.parametrize("seconds", [120, 120.0, timedelta(minutes=2)])
def test_cooldown_from_error_can_be_a_number_or_a_timedelta(clock: VirtualClock, seconds: Any) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(cooldown_from_error=lambda error: seconds), clock=clock)
    with pytest.raises(OtherError), breaker:
        raise OtherError
    assert (breaker.state, breaker.retry_after) == ("open", 120)


def test_invalid_result_of_failure_result_leaves_the_callers_result_alone(clock: VirtualClock) -> None:
    compare: Any = lambda value: Array()  # noqa: E731
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(failure_result=compare), clock=clock)
    assert breaker.call(lambda: "spoken") == "spoken"
    assert breaker.snapshot().totals.successes == 1


def test_refusal_of_another_circuit_is_ignored(clock: VirtualClock) -> None:
    inner = CircuitBreaker("inner", CircuitBreakerConfig(window_size=1), clock=clock)
    outer = CircuitBreaker("outer", CircuitBreakerConfig(window_size=1), clock=clock)
    inner.acquire().failure()
    with pytest.raises(CircuitOpenError) as refusal:
        outer.call(inner.call, lambda: "spoken")
    assert refusal.value.name == "inner"
    assert outer.state == "closed"
    assert outcomes(clock, CircuitOpenError(), failure_on=CircuitOpenError) == FAILURE


def test_error_whose_str_raises_is_recorded(clock: VirtualClock) -> None:
    class SpeechlessError(Exception):
        def __str__(self) -> str:
            raise LookupError

    breaker = CircuitBreaker("voice", clock=clock)
    breaker.acquire().failure(SpeechlessError())
    last = breaker.snapshot().last_error
    assert last is not None
    assert (last.kind, last.message, str(last)) == ("SpeechlessError", "", "SpeechlessError")


def test_long_messages_are_truncated(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", clock=clock)
    breaker.acquire().failure(OtherError("x" * 10_000))
    last = breaker.snapshot().last_error
    assert last is not None
    assert len(last.message) == 200


@pytest.mark.parametrize("settings", [{}, {"hung_after": 5}])
def test_awaiting_the_result_of_a_plain_function_is_ignored(clock: VirtualClock, settings: dict[str, Any]) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(**settings), clock=clock)

    def speak() -> str:
        return "spoken"

    with pytest.raises(TypeError, match="await"):
        run_coroutine(breaker.call_async(speak))  # type: ignore[arg-type]
    totals = breaker.snapshot().totals
    assert (totals.failures, totals.ignored) == (0, 1)

    async def clumsy() -> None:
        raise TypeError("its own mistake")

    with pytest.raises(TypeError):
        run_coroutine(breaker.call_async(clumsy))
    assert breaker.snapshot().totals.failures == 1


@pytest.mark.parametrize("settings", [{}, {"hung_after": 5}])
def test_error_before_the_awaitable_is_a_failure(clock: VirtualClock, settings: dict[str, Any]) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(**settings), clock=clock)

    def speak() -> Any:
        raise OtherError

    with pytest.raises(OtherError):
        run_coroutine(breaker.call_async(speak))
    assert breaker.snapshot().totals.failures == 1
