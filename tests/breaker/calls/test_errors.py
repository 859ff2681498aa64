"""Errors: subclasses, pickling and messages."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import pytest

from steadyvoice.breaker import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitConfigError,
    CircuitOpenError,
    CircuitState,
    FailureRecord,
)
from steadyvoice.breaker.testing import VirtualClock


def test_subclass_of_circuit_open_error_may_have_another_base() -> None:
    class ServiceError(Exception):
        def __init__(self, message: str, *, provider: str) -> None:
            super().__init__(message)
            self.provider = provider

    class ServiceCircuitOpenError(ServiceError, CircuitOpenError):
        pass

    error = ServiceCircuitOpenError("no voice", provider="p")
    assert (str(error), error.provider, error.state, error.retry_after) == ("no voice", "p", "open", None)


def test_errors_can_be_pickled() -> None:
    refusal = CircuitOpenError(name="voice", state=CircuitState.FORCED_OPEN, reason="why", retry_after=5.0)
    again = pickle.loads(pickle.dumps(refusal))
    assert (str(again), again.name, again.state, again.retry_after) == (str(refusal), "voice", "forced_open", 5)
    config = pickle.loads(pickle.dumps(CircuitConfigError("window_size", 0, "must be 1 or more")))
    assert (config.field, config.value, config.reason) == ("window_size", 0, "must be 1 or more")


@pytest.mark.parametrize("watched", [True, False])
def test_pickled_refusal_keeps_the_last_error(watched: bool) -> None:
    breaker = CircuitBreaker("voice", clock=VirtualClock(7.0), wall_clock=VirtualClock(100.0))
    breaker.subscribe(lambda event: None, calls=watched)
    breaker.acquire().failure(ConnectionError("gone"), trip=True)
    with pytest.raises(CircuitOpenError) as refused:
        breaker.acquire()
    record = FailureRecord("ConnectionError", "gone", datetime.fromtimestamp(100, UTC), 0.0)
    assert refused.value.last_error == record
    assert pickle.loads(pickle.dumps(refused.value)).last_error == record


def test_refusal_has_the_latest_failure_of_the_snapshot() -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig.consecutive(3))
    for number in range(3):
        breaker.acquire().failure(ConnectionError(f"gone {number}"))
    with pytest.raises(CircuitOpenError) as refused:
        breaker.acquire()
    assert refused.value.last_error is not None
    assert refused.value.last_error.message == "gone 2"
    assert refused.value.last_error == breaker.snapshot().last_error


def test_refusal_of_a_circuit_without_failures_has_no_last_error() -> None:
    breaker = CircuitBreaker("voice")
    breaker.force_open("maintenance")
    with pytest.raises(CircuitOpenError) as refused:
        breaker.acquire()
    assert (refused.value.reason, refused.value.retry_after, refused.value.last_error) == ("maintenance", None, None)


def test_half_open_refusal_names_the_state() -> None:
    refusal = CircuitOpenError(name="voice", state=CircuitState.HALF_OPEN, reason="1 of 1 probes in flight")
    assert "half open (1 of 1 probes in flight): retry when a probe has ended" in str(refusal)


def test_repr_of_a_refusal_names_the_circuit() -> None:
    refusal = CircuitOpenError(name="voice", reason="why", retry_after=5.0)
    assert repr(refusal) == """CircuitOpenError("circuit 'voice' is open (why): retry in 5 s")"""


def test_counted_refusal_says_what_the_error_would(clock: VirtualClock, kind: type[CircuitBreaker]) -> None:
    config = CircuitBreakerConfig(window_size=1, success_threshold=1, cooldown_period=60)
    breaker = kind("voice", config, clock=clock)
    assert breaker.count_refusal() is None
    breaker.acquire().failure("down")
    clock.advance(20)
    with pytest.raises(CircuitOpenError) as raised:
        breaker.acquire()
    fields = breaker.count_refusal()
    assert fields is not None
    error = CircuitOpenError.from_fields(fields)
    assert (str(error), error.retry_after, error.last_error) == (
        str(raised.value), raised.value.retry_after, raised.value.last_error,
    )  # fmt: skip
    assert breaker.snapshot().totals.refused == 2
    clock.advance(40)
    assert breaker.count_refusal() is None  # and the next call is the probe
    assert breaker.state is CircuitState.OPEN
    breaker.acquire().success()
    assert (breaker.state, breaker.snapshot().totals.refused) == (CircuitState.CLOSED, 2)
    breaker.force_open()
    assert breaker.count_refusal() is not None
