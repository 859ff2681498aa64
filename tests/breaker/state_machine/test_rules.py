"""Rules combined with & and |, and the rule that compares with the usual failure rate."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.breaker import (
    Cause,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitConfigError,
    ConsecutiveFailures,
    FailureRate,
    Rule,
    SlowCallRate,
    UnlikelyFailures,
    WindowStats,
)
from steadyvoice.breaker.rules import BASELINE_CALLS, FailureBaseline
from steadyvoice.breaker.testing import VirtualClock, assert_opens_after, assert_stays_closed
from tests.breaker.conftest import MakeScenario


def config(rule: Rule, **settings: Any) -> CircuitBreakerConfig:
    return CircuitBreakerConfig(**{"window_size": 10, "slow_call_duration": 4, "opens_when": rule, **settings})


def test_both_must_be_broken_where_rules_are_joined_with_and() -> None:
    both = FailureRate(0.5, 4) & SlowCallRate(0.5, 4)
    assert_stays_closed(config(both), "FFFF")
    assert_stays_closed(config(both), "WWWW")
    assert_opens_after(config(both), "FFWW")


def test_either_suffices_where_rules_are_joined_with_or() -> None:
    either = ConsecutiveFailures(3) | SlowCallRate(1.0, 4)
    assert_opens_after(config(either), "SFFF")
    assert_opens_after(config(either), "WWWW")
    assert_stays_closed(config(either), "FFSFFW")


def test_combined_rules_can_be_nested() -> None:
    nested = ConsecutiveFailures(5) | FailureRate(0.5, 4) & (SlowCallRate(0.25, 4) | ConsecutiveFailures(2))
    assert_opens_after(config(nested), "SSFF")
    assert_opens_after(config(nested), "WFFS")
    assert_stays_closed(config(nested), "SFSFSFSF")


def test_combined_rule_applies_to_every_entry_point(make_scenario: MakeScenario) -> None:
    scenario = make_scenario(opens_when=FailureRate(0.5, 4) & ConsecutiveFailures(2))
    assert scenario.play("FSFSS") == "closed"
    assert scenario.play("F") == "closed"
    assert scenario.play("F") == "open"


def test_reason_has_both_rules_and_cause_is_the_first(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", config(ConsecutiveFailures(2) & FailureRate(1.0, 2)), clock=clock)
    for _ in range(2):
        breaker.acquire().failure()
    transition = breaker.snapshot().last_transition
    assert transition is not None
    assert transition.cause is Cause.CONSECUTIVE_FAILURES
    assert transition.reason == "2 failures in a row and 2 of the last 2 calls failed"


def test_explanation_shows_the_structure_of_combined_rules(clock: VirtualClock) -> None:
    rule = ConsecutiveFailures(9) | FailureRate(0.5, 2) & SlowCallRate(1.0, 4)
    breaker = CircuitBreaker("voice", config(rule), clock=clock)
    breaker.acquire().failure(None, 5.0)
    breaker.acquire().success(1.0)
    explanation = breaker.explain()
    assert [str(status) for status in explanation.rules] == [
        "failures in a row 0, threshold 9",
        "failure rate 0.5, threshold 0.5",
        "slow call rate 0.5, threshold 1, 2 more calls needed",
    ]
    assert explanation.rule_descriptions == (
        "failures in a row 0, threshold 9",
        "(failure rate 0.5, threshold 0.5) and (slow call rate 0.5, threshold 1, 2 more calls needed)",
    )
    nested = FailureRate(0.5, 2) & (ConsecutiveFailures(9) | ConsecutiveFailures(7))
    breaker.update(config(nested))
    (description,) = breaker.explain().rule_descriptions
    either = "(failures in a row 0, threshold 9) or (failures in a row 0, threshold 7)"
    assert description == f"(failure rate 0.5, threshold 0.5) and ({either})"


def test_rule_of_another_class_is_refused() -> None:
    class AnyFailure(ConsecutiveFailures):
        """Rule of another class, which might raise under the circuit's lock."""

    for rule in (Rule(), AnyFailure(1), ConsecutiveFailures(3) | AnyFailure(1)):
        with pytest.raises(CircuitConfigError, match="must combine the rules of this package"):
            config(rule)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("opens_when", {"opens_when": "FailureRate(0.5, 4)"}),
        ("opens_when", {"opens_when": SlowCallRate(0.5, 4)}),
        ("opens_when", {"opens_when": ConsecutiveFailures(3) | FailureRate(0.5, 11)}),
        ("minimum_calls", {"opens_when": ConsecutiveFailures(3), "minimum_calls": 3}),
        ("consecutive_failures", {"opens_when": ConsecutiveFailures(3), "consecutive_failures": 3}),
        ("significance", {"opens_when": ConsecutiveFailures(3), "significance": 0.1}),
        (
            "slow_call_threshold",
            {"opens_when": ConsecutiveFailures(3), "slow_call_duration": 1, "slow_call_threshold": 0.5},
        ),
    ],
)
def test_impossible_combined_rule_is_refused(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(CircuitConfigError) as refusal:
        CircuitBreakerConfig(**settings)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("threshold", lambda: FailureRate(0, 4)),
        ("threshold", lambda: FailureRate(None, 4)),  # type: ignore[arg-type]
        ("minimum_calls", lambda: FailureRate(0.5, 0)),
        ("threshold", lambda: SlowCallRate(1.5, 4)),
        ("minimum_calls", lambda: SlowCallRate(0.5, True)),
        ("count", lambda: ConsecutiveFailures(0)),
        ("count", lambda: ConsecutiveFailures(None)),  # type: ignore[arg-type]
        ("significance", lambda: UnlikelyFailures(0)),
        ("significance", lambda: UnlikelyFailures(1)),
        ("significance", lambda: UnlikelyFailures(None)),  # type: ignore[arg-type]
    ],
)
def test_impossible_rule_is_refused_with_the_field(field: str, make: Any) -> None:
    with pytest.raises(CircuitConfigError) as refusal:
        make()
    assert refusal.value.field == field


def test_status_of_rules_before_and_after_the_first_calls() -> None:
    nothing, enough = WindowStats(0, 0.0, 0, 0.0, 0.05), WindowStats(6, 3.0, 3, 1.0, 0.05)
    for rule in (FailureRate(0.5, 4), SlowCallRate(0.5, 4)):
        assert (rule.status(nothing).value, rule.status(nothing).missing_calls) == (0, 4)
        assert (rule.status(enough).value, rule.status(enough).missing_calls) == (0.5, 0)


def test_second_rule_is_not_evaluated_when_the_first_of_and_holds() -> None:
    class NeverAsked(ConsecutiveFailures):
        def evaluate(self, stats: WindowStats) -> Any:
            raise AssertionError

    assert (FailureRate(1.0, 1) & NeverAsked(1)).evaluate(WindowStats(2, 1.0, 0, 1.0, 0.05)) is None


# ---- what is normal

WARY = CircuitBreakerConfig(failure_threshold=None, significance=1e-8, window_seconds=600)


def test_four_in_a_row_are_unlikely_where_none_failed_before() -> None:
    assert_opens_after(WARY, "S" * 100 + "FFFF", every=0.1)


def test_seven_in_a_row_are_needed_while_the_baseline_is_unknown() -> None:
    assert_opens_after(WARY, "F" * 7, every=0.1)
    assert_opens_after(WARY, "S" * 99 + "F" * 7, every=0.1)


def test_provider_with_a_higher_baseline_needs_a_longer_run() -> None:
    usual = ("S" * 5 + "F") * 40
    assert_opens_after(WARY, usual + "S" + "F" * 11, every=0.1)


def test_run_of_failures_does_not_change_the_baseline_before_it() -> None:
    # If the run at hand were taken in, it would make itself look normal, and this would never open.
    assert_opens_after(WARY, "S" * 100 + "FFF" + "X" * 50 + "F", every=0.1)


def test_reason_and_explanation_have_the_baseline(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", WARY, clock=clock)
    for _ in range(100):
        breaker.acquire().success()
    for _ in range(3):
        breaker.acquire().failure()
    assert breaker.explain().rule_descriptions == ("unlikely failures in a row 3, threshold 4",)
    assert breaker.snapshot().normal_failure_rate == pytest.approx(1 / 102)
    breaker.acquire().failure()
    transition = breaker.snapshot().last_transition
    assert transition is not None
    assert transition.cause is Cause.UNLIKELY_FAILURES
    assert transition.reason == "4 failures in a row, at a failure rate of 0.0098 before"


def test_hanging_calls_are_part_of_the_run(clock: VirtualClock) -> None:
    settings = CircuitBreakerConfig(failure_threshold=None, significance=0.02, hung_after=2)
    breaker = CircuitBreaker("voice", settings, clock=clock)
    breaker.acquire().failure()
    hanging = [breaker.acquire() for _ in range(2)]
    clock.advance(2)
    hanging[0].progress()
    assert breaker.state == "open"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 300))))
def test_successes_recorded_together_give_the_same_baseline_as_one_by_one(runs: list[tuple[int, int]]) -> None:
    at_once, one_by_one = FailureBaseline(), FailureBaseline()
    for failures, successes in runs:
        at_once.record(failures, successes)
        one_by_one.record(failures, 1)
        for _ in range(successes - 1):
            one_by_one.record(0, 1)
        assert at_once.rate == one_by_one.rate
        assert 0 < at_once.rate < 1


@given(st.integers(0, 3), st.integers(5, 20))
def test_baseline_approaches_the_true_rate_and_forgets(failures: int, successes: int) -> None:
    baseline = FailureBaseline()
    for _ in range(20):
        baseline.record(50, 50)
    for _ in range(60):
        baseline.record(failures, successes)
    truth = failures / (failures + successes)
    assert baseline.rate == pytest.approx(truth, abs=4 / BASELINE_CALLS)


def test_snapshot_has_the_minimum_of_calls_of_the_rule(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("voice", CircuitBreakerConfig(opens_when=FailureRate(0.5, 8)), clock=clock)
    for _ in range(7):
        breaker.acquire().success()
    assert (breaker.snapshot().minimum_calls, breaker.snapshot().enough_calls) == (8, False)
    breaker.acquire().success()
    assert breaker.snapshot().enough_calls


def test_slow_probes_matter_only_with_a_slow_call_rule(clock: VirtualClock) -> None:
    def after_slow_probes(rule: Rule) -> str:
        settings = config(rule, success_threshold=3, cooldown_period=60)
        breaker = CircuitBreaker("voice", settings, clock=clock)
        breaker.acquire().failure(trip=True)
        clock.advance(60)
        for duration in (5.0, 1.0, 1.0):
            breaker.acquire().success(duration)
            if breaker.state == "open":
                break
        return breaker.state

    assert after_slow_probes(ConsecutiveFailures(5)) == "closed"
    assert after_slow_probes(SlowCallRate(0.2, 5)) == "open"
    assert after_slow_probes(ConsecutiveFailures(5) | SlowCallRate(0.5, 5) & SlowCallRate(0.4, 5)) == "closed"
