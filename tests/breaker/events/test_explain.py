"""Explanation of a state: reason, failures, and the next change."""

from __future__ import annotations

import pytest

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.entry_points import ProviderDownError


@pytest.fixture
def breaker(clock: VirtualClock) -> CircuitBreaker:
    config = CircuitBreakerConfig(
        window_size=4,
        minimum_calls=3,
        consecutive_failures=4,
        slow_call_duration=5,
        slow_call_threshold=0.5,
        success_threshold=2,
    )
    return CircuitBreaker("voice", config, clock=clock)


def test_explanation_of_an_open_circuit_lists_the_failures(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    breaker.acquire().success(0.1)
    for error in ("first", "second"):
        permit = breaker.acquire()
        clock.advance(1.5)
        permit.failure(ProviderDownError(error))
    clock.advance(10)
    explanation = breaker.explain()
    assert explanation.reason == "2 of the last 3 calls failed"
    assert [(f.kind, f.message, f.latency) for f in explanation.failures] == [
        ("ProviderDownError", "first", 1.5),
        ("ProviderDownError", "second", 1.5),
    ]
    assert explanation.changes_in == 50
    text = str(explanation)
    assert text.startswith("voice is open: 2 of the last 3 calls failed\nnext: the first caller in 50 s or later")
    assert text.index("second") < text.index("first\x20after")


def test_explanation_of_a_closed_circuit_has_the_status_of_each_rule(breaker: CircuitBreaker) -> None:
    breaker.acquire().failure(None, 6.0)
    breaker.acquire().success(1.0)
    streak, rate, slow = breaker.explain().rules
    assert (rate.value, rate.threshold, rate.missing_calls) == (0.5, 0.5, 1)
    assert (streak.value, streak.threshold, streak.missing_calls) == (0, 4, 0)
    assert (slow.value, slow.threshold, slow.missing_calls) == (0.5, 0.5, 1)
    assert str(streak) == "failures in a row 0, threshold 4"


def test_explanation_names_the_next_change_in_every_state(breaker: CircuitBreaker, clock: VirtualClock) -> None:
    next_changes = [breaker.explain().next]
    breaker.acquire().failure(trip=True)
    next_changes.append(breaker.explain().next)
    clock.advance(60)
    next_changes.append(breaker.explain().next)
    breaker.acquire().success()
    next_changes.append(breaker.explain().next)
    breaker.force_open(duration=5)
    next_changes.append(breaker.explain().next)
    breaker.force_open()
    next_changes.append(breaker.explain().next)
    breaker.monitor()
    next_changes.append(breaker.explain().next)
    breaker.monitor(duration=30)
    next_changes.append(breaker.explain().next)
    breaker.disable(duration=20)
    next_changes.append(breaker.explain().next)
    assert breaker.explain().changes_in == 20
    breaker.disable()
    next_changes.append(breaker.explain().next)
    assert breaker.explain().changes_in is None
    assert next_changes == [
        "opens when a rule is broken",
        "the first caller in 60 s or later is a probe",
        "the next caller is a probe",
        "closes after 1 more successful probe in a row, opens when one fails",
        "the first caller in 5 s or later is a probe",
        "unchanged until close() or reset()",
        "reports when it would open, refuses no call, until close() or reset()",
        "reports when it would open, refuses no call; closed by the first caller in 30 s or later",
        "closed by the first caller in 20 s or later",
        "unchanged until close() or reset()",
    ]


def test_only_the_last_failures_are_remembered(breaker: CircuitBreaker) -> None:
    breaker.monitor()
    for number in range(30):
        breaker.acquire().failure(str(number))
    assert [failure.message for failure in breaker.explain().failures] == [str(n) for n in range(20, 30)]


def test_explanation_lists_calls_that_hang_when_they_opened_the_circuit(clock: VirtualClock) -> None:
    config = CircuitBreakerConfig(failure_threshold=None, consecutive_failures=3, hung_after=5)
    breaker = CircuitBreaker("voice", config, clock=clock)
    hanging = []
    for _ in range(3):
        hanging.append(breaker.acquire())
        clock.advance(1)
    clock.advance(5)
    hanging[0].ignore()
    explanation = breaker.explain()
    assert explanation.reason == "3 failures in a row, 3 of them still in flight without progress"
    assert [(f.kind, f.message) for f in explanation.failures] == [
        ("hanging", "no progress for 7 s"),
        ("hanging", "no progress for 6 s"),
        ("hanging", "no progress for 5 s"),
    ]
    last_error = breaker.snapshot().last_error
    assert last_error is not None
    assert last_error.kind == "hanging"
