"""Errors that other rooms extend, and that travel between processes."""

from __future__ import annotations

import pickle

from steadyvoice.breaker import CircuitConfigError, CircuitOpenError, CircuitState


def test_a_refusal_may_be_another_kind_of_error_too() -> None:
    class ServiceError(Exception):
        def __init__(self, message: str, *, provider: str) -> None:
            super().__init__(message)
            self.provider = provider

    class ServiceCircuitOpenError(ServiceError, CircuitOpenError):
        pass

    error = ServiceCircuitOpenError("no voice", provider="p")
    assert (str(error), error.provider, error.state, error.retry_after) == ("no voice", "p", "open", None)


def test_errors_survive_a_pickle() -> None:
    refusal = CircuitOpenError(name="voice", state=CircuitState.FORCED_OPEN, reason="why", retry_after=5.0)
    again = pickle.loads(pickle.dumps(refusal))
    assert (str(again), again.name, again.state, again.retry_after) == (str(refusal), "voice", "forced_open", 5)
    config = pickle.loads(pickle.dumps(CircuitConfigError("window_size", 0, "must be 1 or more")))
    assert (config.field, config.value, config.reason) == ("window_size", 0, "must be 1 or more")


def test_a_half_open_refusal_says_so() -> None:
    refusal = CircuitOpenError(name="voice", state=CircuitState.HALF_OPEN, reason="1 of 1 probes in flight")
    assert "half open (1 of 1 probes in flight): its probes are out" in str(refusal)


def test_a_refusal_in_a_list_of_errors_says_which_circuit_refused() -> None:
    refusal = CircuitOpenError(name="voice", reason="why", retry_after=5.0)
    assert repr(refusal) == """CircuitOpenError("circuit 'voice' is open (why): try again in 5 s")"""
