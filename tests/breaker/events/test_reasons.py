"""Cause and reason of each state and transition."""

from __future__ import annotations

from typing import Any

import pytest

from steadyvoice.breaker import Cause, CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock


def circuit(clock: VirtualClock, **settings: Any) -> CircuitBreaker:
    defaults: dict[str, Any] = {"window_size": 4, "minimum_calls": 4, "success_threshold": 2}
    return CircuitBreaker("voice", CircuitBreakerConfig(**{**defaults, **settings}), clock=clock)


def why(breaker: CircuitBreaker) -> tuple[Cause | None, str]:
    """Return cause and reason of the state, which the event of the last transition repeats."""
    snapshot = breaker.snapshot()
    if snapshot.last_transition is None:
        return None, snapshot.reason
    assert snapshot.last_transition.reason == snapshot.reason
    return snapshot.last_transition.cause, snapshot.reason


def test_reason_of_a_new_circuit(clock: VirtualClock) -> None:
    assert why(circuit(clock)) == (None, "new")


def test_reason_of_a_failure_rate_has_both_counts(clock: VirtualClock) -> None:
    breaker = circuit(clock)
    for _ in range(2):
        breaker.acquire().success()
        breaker.acquire().failure()
    assert why(breaker) == (Cause.FAILURE_RATE, "2 of the last 4 calls failed")


def test_reason_of_a_slow_call_rate_differs_from_failures(clock: VirtualClock) -> None:
    breaker = circuit(clock, slow_call_duration=5)
    for _ in range(4):
        breaker.acquire().success(5.0)
    assert why(breaker) == (Cause.SLOW_CALL_RATE, "4 of the last 4 calls were slow")


def test_reason_of_a_run_of_failures_includes_hanging_calls(clock: VirtualClock) -> None:
    breaker = circuit(clock, consecutive_failures=3, hung_after=5)
    for _ in range(2):
        breaker.acquire().failure()
    hanging = breaker.acquire()
    clock.advance(5)
    hanging.progress()
    assert why(breaker) == (
        Cause.CONSECUTIVE_FAILURES,
        "3 failures in a row, 1 of them still in flight without progress",
    )


def test_reasons_of_an_outage_and_its_recovery(clock: VirtualClock) -> None:
    breaker = circuit(clock, half_open_timeout=10)
    breaker.acquire().failure(ConnectionError(), trip=True)
    assert why(breaker) == (Cause.TRIPPED, "tripped by ConnectionError")
    clock.advance(60)
    probe = breaker.acquire()
    assert why(breaker) == (Cause.COOLDOWN_OVER, "the cooldown is over")
    probe.failure(TimeoutError())
    assert why(breaker) == (Cause.PROBE_FAILED, "a probe failed with TimeoutError")
    clock.advance(60)
    silent = breaker.acquire()
    clock.advance(10)
    silent.success()
    assert why(breaker) == (Cause.PROBE_EXPIRED, "a probe made no progress for 10 s")
    clock.advance(60)
    for _ in range(2):
        breaker.acquire().success()
    assert why(breaker) == (Cause.PROBES_SUCCEEDED, "2 probes in a row succeeded")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ConnectionError("nobody answers"), "a probe failed with ConnectionError: nobody answers"),
        (ConnectionError(), "a probe failed with ConnectionError"),
        ("503", "a probe failed: 503"),
        (None, "a probe failed"),
        (OSError("one\nline, \x1b[31m no\ttricks"), "a probe failed with OSError: one line, [31m no tricks"),
        (OSError("n" * 80), "a probe failed with OSError: " + "n" * 80),
        (OSError("n" * 81), "a probe failed with OSError: " + "n" * 79 + "…"),
    ],
)
def test_reason_of_a_failed_probe_is_one_line(
    clock: VirtualClock, failure: Exception | str | None, reason: str
) -> None:
    breaker = circuit(clock)
    breaker.acquire().failure(trip=True)
    clock.advance(60)
    breaker.acquire().failure(failure)
    assert why(breaker) == (Cause.PROBE_FAILED, reason)


def test_reason_of_a_probe_with_a_failure_result(clock: VirtualClock) -> None:
    breaker = circuit(clock, failure_result=lambda answer: answer == {})
    breaker.acquire().failure(trip=True)
    clock.advance(60)
    breaker.call(dict[str, str])
    assert why(breaker) == (Cause.PROBE_FAILED, "a probe failed: a dict that counts as a failure")


def test_reason_of_slow_probes(clock: VirtualClock) -> None:
    breaker = circuit(clock, slow_call_duration=5, slow_call_threshold=0.5)
    breaker.acquire().failure(trip=True)
    clock.advance(60)
    breaker.acquire().success(5.0)
    assert why(breaker) == (Cause.PROBES_SLOW, "1 of 2 probes was slow")


def test_reason_of_a_manual_state_lasts_until_its_end(clock: VirtualClock) -> None:
    breaker = circuit(clock)
    breaker.force_open("maintenance", duration=10)
    assert why(breaker) == (Cause.MANUAL, "maintenance")
    clock.advance(10)
    probe = breaker.acquire()
    assert why(breaker) == (Cause.DURATION_OVER, "the duration of forced open is over")
    probe.ignore()
    breaker.disable("load test", duration=10)
    clock.advance(10)
    breaker.acquire().ignore()
    assert why(breaker) == (Cause.DURATION_OVER, "the duration of disabled is over")
    breaker.monitor()
    assert why(breaker) == (Cause.MANUAL, "monitoring only")
    breaker.reset()
    assert why(breaker) == (Cause.RESET, "reset")


@pytest.mark.parametrize(
    ("settings", "letters", "sentence"),
    [
        ({"consecutive_failures": 1}, "F", "1 failure in a row"),
        ({"consecutive_failures": 2}, "FF", "2 failures in a row"),
        ({"failure_threshold": 0.5, "minimum_calls": 1}, "F", "1 of the last 1 call failed"),
        ({"failure_threshold": 0.5, "minimum_calls": 2}, "SF", "1 of the last 2 calls failed"),
        ({"slow_call_duration": 5, "minimum_calls": 1}, "W", "1 of the last 1 call was slow"),
        (
            {"slow_call_duration": 5, "slow_call_threshold": 0.25, "minimum_calls": 2},
            "SW",
            "1 of the last 2 calls was slow",
        ),
        ({"significance": 0.5}, "F", "1 failure in a row, at a failure rate of 0.05 before"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_one_failure_is_written_in_the_singular(
    clock: VirtualClock, settings: dict[str, Any], letters: str, sentence: str
) -> None:
    breaker = circuit(clock, **{"failure_threshold": None, **settings})
    for letter in letters:
        if letter == "F":
            breaker.acquire().failure(duration=0.0)
        else:
            breaker.acquire().success(5.0 if letter == "W" else 0.0)
    assert breaker.state == "open"
    assert breaker.snapshot().reason == sentence


def test_one_probe_is_written_in_the_singular(clock: VirtualClock) -> None:
    breaker = circuit(clock, success_threshold=1)
    breaker.acquire().failure(trip=True)
    clock.advance(60)
    probe = breaker.acquire()
    assert breaker.explain().next == "closes after 1 more successful probe in a row, opens when one fails"
    with pytest.raises(CircuitOpenError) as refusal:
        breaker.acquire()
    assert refusal.value.reason == "1 of 1 probe in flight"
    probe.success()
    assert why(breaker) == (Cause.PROBES_SUCCEEDED, "1 probe in a row succeeded")
