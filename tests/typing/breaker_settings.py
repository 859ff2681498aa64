"""The types of the breaker's settings, checked by the type checker; nothing here is run."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import assert_type

from steadyvoice.breaker import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitRegistry,
    CircuitState,
    Listener,
    Permit,
    log_listener,
)


class ApiError(Exception):
    status = 503


@dataclass
class Answer:
    status: int


def by_status(error: ApiError) -> bool:
    return error.status >= 500


def by_answer(answer: Answer) -> bool:
    return answer.status >= 500


def lambdas() -> None:
    CircuitBreakerConfig(failure_on=lambda error: isinstance(error, ApiError) and error.status >= 500)
    CircuitBreakerConfig(failure_on=lambda error: error.status >= 500)
    CircuitBreakerConfig(failure_on=lambda error: "5" in str(error), ignore=lambda error: "404" in str(error))
    CircuitBreakerConfig(failure_result=lambda answer: answer.status >= 500)
    CircuitBreakerConfig(failure_result=lambda answer: answer is None)
    CircuitBreakerConfig(failure_weight=lambda error: 0.5)
    CircuitBreakerConfig(cooldown_from_error=lambda error: getattr(error, "retry_after", None))
    CircuitBreakerConfig(cooldown_from_error=lambda error: timedelta(minutes=2))
    CircuitBreakerConfig(failure_on=by_status, ignore=by_status, failure_result=by_answer)


def exception_types() -> None:
    CircuitBreakerConfig(failure_on=ValueError, ignore=KeyError)
    CircuitBreakerConfig(failure_on=ValueError | KeyError, ignore=OSError | TypeError)
    CircuitBreakerConfig(failure_on=(ValueError, KeyError), ignore=[ValueError, KeyError])
    CircuitBreakerConfig(failure_on={ValueError, KeyError}, ignore=frozenset({ValueError}))


def durations() -> None:
    config = CircuitBreakerConfig(cooldown_period=timedelta(minutes=1), hung_after=5, window_seconds=timedelta(hours=1))
    assert_type(config.cooldown_period, float)
    assert_type(config.hung_after, float | None)
    assert_type(config.cooldown_schedule, tuple[float, ...] | None)
    CircuitBreakerConfig(cooldown_schedule=[5, timedelta(seconds=30)])
    assert_type(replace(config, cooldown_period=timedelta(minutes=2)), CircuitBreakerConfig)
    assert_type(CircuitBreakerConfig.consecutive(5, cooldown_period=60), CircuitBreakerConfig)
    assert_type(CircuitBreakerConfig.consecutive(5, timedelta(minutes=1)), CircuitBreakerConfig)


def by_hand(breaker: CircuitBreaker, permit: Permit) -> None:
    breaker.force_open("maintenance", timedelta(hours=1))
    breaker.disable(duration=5)
    permit.success(timedelta(seconds=1))
    permit.failure("429", timedelta(seconds=1), trip=True, cooldown=timedelta(minutes=2), weight=0.5)
    permit.abandon(weight=0.5)
    assert_type(breaker.try_acquire(), Permit | None)


def making(registry: CircuitRegistry) -> None:
    assert_type(CircuitBreaker("voice", state="disabled"), CircuitBreaker)
    CircuitBreaker("voice", state=CircuitState.MONITORING, listeners=[log_listener()])
    assert_type(log_listener(), Listener)
    assert_type(log_listener(logging.getLogger("mine"), level=logging.INFO), Listener)
    assert_type(log_listener(logger="mine", level="INFO"), Listener)
    assert_type(registry.get("voice"), CircuitBreaker | None)
    assert_type(registry.remove("voice"), CircuitBreaker | None)


def mistakes() -> None:
    CircuitBreaker(fail_max=5)  # type: ignore[arg-type]
    CircuitBreaker(CircuitBreakerConfig())  # type: ignore[arg-type]
    CircuitBreaker("voice", {})  # type: ignore[arg-type]
    CircuitBreakerConfig(fail_max=5)  # type: ignore[call-arg]
    CircuitBreakerConfig(failure_on="ValueError")  # type: ignore[arg-type]
    CircuitBreakerConfig(cooldown_period="60")  # type: ignore[arg-type]
    CircuitBreakerConfig(cooldown_schedule=5)  # type: ignore[arg-type]
