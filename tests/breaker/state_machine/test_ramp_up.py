"""Ramp-up after a recovery: a tenth of the calls at first, then gradually more."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from steadyvoice.breaker import CallRefused, CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from steadyvoice.breaker.testing import VirtualClock
from tests.breaker.conftest import MakeScenario

GENTLE = CircuitBreakerConfig(window_size=10, success_threshold=1, ramp_up=10)


@pytest.fixture
def recovered(clock: VirtualClock) -> CircuitBreaker:
    """A circuit that was closed by its probe just now."""
    breaker = CircuitBreaker("voice", GENTLE, clock=clock)
    breaker.acquire().failure(trip=True)
    clock.advance(60)
    breaker.acquire().success()
    assert breaker.state == "closed"
    return breaker


def admitted(breaker: CircuitBreaker, callers: int = 100) -> int:
    """Return how many of so many calls at one moment are admitted."""
    through = 0
    for _ in range(callers):
        try:
            breaker.acquire().success()
        except CircuitOpenError:
            continue
        through += 1
    return through


def test_admitted_share_grows_until_all_are_admitted(recovered: CircuitBreaker, clock: VirtualClock) -> None:
    shares = []
    for _ in range(11):
        shares.append(admitted(recovered))
        clock.advance(1)
    assert shares == [pytest.approx(share, abs=1) for share in [10, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]]
    assert recovered.snapshot().totals.refused == 1100 - sum(shares)


def test_ramp_up_applies_to_every_entry_point(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(window_size=1, success_threshold=1, ramp_up=10)
    scenario.play("F")
    scenario.clock.advance(60)
    assert scenario.play("SS") == "closed"  # the probe, and the first one behind it
    refusal = scenario.refused()
    assert (refusal.state, refusal.retry_after) == ("closed", None)
    assert refusal.reason == "just recovered: 10% of the calls are admitted"
    assert str(refusal).endswith("retry shortly")
    scenario.clock.advance(10)
    assert scenario.play("S" * 20) == "closed"


def test_refusals_during_ramp_up_are_reported_and_not_counted_as_calls(recovered: CircuitBreaker) -> None:
    received: list[object] = []
    recovered.acquire().success()
    recovered.subscribe(received.append, calls=True)
    with pytest.raises(CircuitOpenError):
        recovered.acquire()
    assert recovered.snapshot().calls == 1
    (refused,) = received
    assert isinstance(refused, CallRefused)
    assert refused.state == "closed"


def test_failures_during_ramp_up_open_the_circuit(recovered: CircuitBreaker, clock: VirtualClock) -> None:
    clock.advance(9)
    while recovered.state == "closed":
        try:
            recovered.acquire().failure()
        except CircuitOpenError:
            continue
    assert recovered.snapshot().failures == 5


def test_manual_close_skips_the_ramp_up(recovered: CircuitBreaker) -> None:
    assert admitted(recovered) < 100
    recovered.close()
    assert admitted(recovered) == 100
    recovered.force_open()
    recovered.reset()
    assert admitted(recovered) == 100


def test_ramp_up_is_in_snapshot_and_explanation(recovered: CircuitBreaker, clock: VirtualClock) -> None:
    clock.advance(4)
    assert recovered.snapshot().admitted_share == pytest.approx(0.4)
    assert recovered.explain().next == "admits 40% of the calls, gradually all; opens when a rule is broken"
    clock.advance(6)
    assert recovered.snapshot().admitted_share == 1
    assert recovered.explain().next == "opens when a rule is broken"
    assert admitted(recovered) == 100
    assert (recovered.explain().changes_in, recovered.export()["remaining"]) == (None, None)


def test_ramp_up_can_be_changed_while_it_runs(recovered: CircuitBreaker, clock: VirtualClock) -> None:
    clock.advance(5)
    recovered.update(replace(GENTLE, ramp_up=50))
    assert recovered.snapshot().admitted_share == pytest.approx(0.1)
    recovered.update(replace(GENTLE, ramp_up=None))
    assert admitted(recovered) == 100


def test_ramp_up_continues_after_a_restart(recovered: CircuitBreaker, clock: VirtualClock) -> None:
    clock.advance(5)
    later = VirtualClock(3.0)
    again = CircuitBreaker("voice", GENTLE, clock=later)
    again.restore(json.loads(json.dumps(recovered.export())))
    assert again.snapshot().admitted_share == pytest.approx(0.5)
    later.advance(5)
    assert admitted(again) == 100
