"""Decisions of hedging as pure functions: when, to which provider, and at which cost."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import AudioFormat, HedgeConfig, SpeechRequest, SynthesisOffer, TTSConfigurationError
from steadyvoice.service.resilience.failover import CandidateStatus, TryProvider
from steadyvoice.service.resilience.hedging import MAX_STREAK, HedgeBudget, HedgeCandidate, HedgeStreak, choose_hedge
from steadyvoice.service.resilience.latency import LatencyPercentiles, latency_class
from steadyvoice.speech.failure_kinds import FAILURE_TABLE, FailureKind


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"percentile": 1.0}, "percentile: must be a number, more than 0 and less than 1, got 1.0"),
        ({"percentile": 95}, "percentile: must be a number, more than 0 and less than 1, got 95"),
        ({"percentile": float("nan")}, "percentile: must be a number, more than 0 and less than 1, got nan"),
        ({"percentile": True}, "percentile: must be a number, more than 0 and less than 1, got True"),
        ({"budget": 0}, "budget: must be a number, more than 0 and at most 1, got 0"),
        ({"budget": 5}, "budget: must be a number, more than 0 and at most 1, got 5"),
        ({"budget": "5 %"}, "budget: must be a number, more than 0 and at most 1, got '5 %'"),
        ({"minimum_samples": 0}, "minimum_samples: must be a whole number, 1 or more, got 0"),
        ({"minimum_samples": 2.5}, "minimum_samples: must be a whole number, 1 or more, got 2.5"),
        ({"window_seconds": 0.0}, "window_seconds: must be a number of seconds, more than 0, got 0.0"),
        ({"window_seconds": float("inf")}, "window_seconds: must be a number of seconds, more than 0, got inf"),
    ],
)
def test_invalid_settings_are_rejected(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(TTSConfigurationError, match=re.escape(message)):
        HedgeConfig(**wrong)


def candidate(account: str, **standing: Any) -> HedgeCandidate:
    return HedgeCandidate(CandidateStatus(**standing), closed=True, free=True, account=account)


FIRST, NEXT = candidate("first"), candidate("next")


def chosen_hedge(*candidates: HedgeCandidate, remaining: float = 40.0) -> TryProvider | None:
    return choose_hedge([FIRST, *candidates], 0, now=0.0, remaining=remaining, max_attempts=3)


def test_next_provider_is_hedged_to_and_leaves_time() -> None:
    assert chosen_hedge(NEXT) == TryProvider(1, 40.0)
    assert chosen_hedge(NEXT, candidate("third")) == TryProvider(1, 32.0)
    assert chosen_hedge(NEXT, candidate("third", refused=True)) == TryProvider(1, 40.0)


def test_same_account_is_not_charged_twice() -> None:
    assert chosen_hedge(candidate("first")) is None
    assert chosen_hedge(candidate("first"), NEXT) == TryProvider(2, 32.0)


@pytest.mark.parametrize(
    "unwilling",
    [
        replace(NEXT, closed=False),
        replace(NEXT, free=False),
        candidate("next", refused=True),
        candidate("next", billed=True),
        candidate("next", probe=1.0),
        candidate("next", tries=1, failure=FAILURE_TABLE[FailureKind.SERVER_ERROR]),
        candidate("next", local=True),
    ],
)
def test_unready_or_tried_provider_is_skipped(unwilling: HedgeCandidate) -> None:
    assert chosen_hedge(unwilling) is None
    third = chosen_hedge(unwilling, candidate("third"))
    assert third is not None
    assert third.index == 2


def test_no_time_means_no_hedge() -> None:
    assert chosen_hedge(NEXT, remaining=0.0) is None


def test_budget_is_a_share_of_recent_characters() -> None:
    budget = HedgeBudget(0.05, 600.0)
    assert not budget.spend(1, 0.0), "nothing was asked for yet"
    budget.record_requested(200, 0.0)
    assert not budget.spend(11, 1.0)
    assert budget.spend(10, 1.0)
    assert not budget.spend(1, 1.0)
    assert budget.totals(1.0) == (200, 10)
    budget.record_requested(1000, 700.0)
    assert budget.totals(700.0) == (1000, 0), "ten minutes ago is forgotten"


def test_hedged_characters_are_remembered_longer() -> None:
    budget = HedgeBudget(0.5, 60.0)
    budget.record_requested(100, 0.0)
    assert budget.spend(50, 30.0)
    budget.record_requested(40, 62.0)
    assert budget.totals(62.0) == (40, 50)
    assert not budget.spend(1, 62.0), "in the last minute more was asked for twice than half of what was asked for"


def test_repeatedly_late_provider_is_hedged_half_of_the_time() -> None:
    streak = HedgeStreak()
    for _ in range(MAX_STREAK):
        assert streak.allows()
        streak.record_cancelled()
    assert [streak.allows() for _ in range(6)] == [False, True] * 3
    streak.record_heard()
    assert [streak.allows() for _ in range(6)] == [True] * 6


def test_window_errs_towards_lower_cost() -> None:
    budget = HedgeBudget(1.0, 60.0)
    budget.record_requested(10, 0.5)
    budget.record_requested(100, 2.0)
    assert budget.spend(50, 2.0)
    assert budget.totals(60.7) == (100, 50), "what was asked for 60.2 s ago is not counted"
    assert budget.totals(61.9) == (100, 50), "what was asked for twice 59.9 s ago is"
    assert budget.totals(62.5) == (0, 50), "and for some time more"
    assert budget.totals(63.0) == (0, 0)


MOMENTS = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 400), st.booleans()), min_size=1, max_size=60)


@given(MOMENTS, st.floats(0.01, 1.0), st.floats(1.0, 200.0))
def test_budget_is_never_exceeded_in_any_window(
    moments: list[tuple[float, int, bool]], share: float, seconds: float
) -> None:
    budget, now = HedgeBudget(share, seconds), 0.0
    asked: list[tuple[float, int]] = []
    twice: list[tuple[float, int]] = []
    for pause, characters, hedge in moments:
        now += pause
        if not hedge:
            budget.record_requested(characters, now)
            asked.append((now, characters))
        elif budget.spend(characters, now):
            twice.append((now, characters))
            lately = [sum(count for time, count in each if time > now - seconds) for each in (twice, asked)]
            assert lately[0] <= share * lately[1]
    assert sum(count for _, count in twice) <= share * sum(count for _, count in asked)


@given(st.integers(20, 400), st.floats(0.05, 1.0))
def test_unused_budget_can_be_spent(characters: int, share: float) -> None:
    budget = HedgeBudget(share, 60.0)
    budget.record_requested(characters, 0.0)
    assert budget.spend(int(share * characters), 58.0)


def test_no_call_is_late_before_enough_samples() -> None:
    latencies = LatencyPercentiles(0.95, 20)
    for number in range(19):
        latencies.record("kind", number / 100)
    assert latencies.limit("kind") is None
    latencies.record("kind", 9.0)
    assert latencies.limit("kind") == 0.18, "19 of 20 were no later than that"
    assert latencies.limit("other") is None


@given(st.lists(st.floats(0, 60), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_percentile_bounds_the_share_of_later_answers(seconds: list[float], percentile: float) -> None:
    latencies = LatencyPercentiles(percentile, 1)
    for after in seconds:
        latencies.record("kind", after)
    limit = latencies.limit("kind")
    assert limit in seconds
    assert sum(after > limit for after in seconds) <= (1 - percentile) * len(seconds) + 1e-9


def test_cancelled_late_calls_stay_late() -> None:
    latencies = LatencyPercentiles(0.9, 10)
    for _ in range(9):
        latencies.record("kind", 0.1)
    latencies.record("kind", 0.5)
    for _ in range(1000):  # one in ten is hung up on after half a second
        for _ in range(9):
            latencies.record("kind", 0.1)
        latencies.record_cancelled("kind", 0.5)
    assert not any(latencies.record_cancelled("kind", 0.01) for _ in range(200)), "of those nothing is known"
    assert not latencies.record_cancelled("another kind", 60.0)
    assert latencies.limit("kind") == 0.1
    for _ in range(30):
        latencies.record_cancelled("kind", 0.5)
    assert latencies.limit("kind") == 0.5, "whoever is late more often has become slower"


def test_old_answers_are_forgotten() -> None:
    latencies = LatencyPercentiles(0.95, 1)
    for seconds in [9.0] * 200 + [0.1] * 200:
        latencies.record("kind", seconds)
    assert latencies.limit("kind") == 0.1


def test_rare_classes_are_forgotten_first() -> None:
    latencies = LatencyPercentiles(0.95, 1)
    for number in range(1000):
        latencies.record(number, 0.1)
        latencies.record("usual", 0.2)
    assert latencies.limit(0) is None
    assert latencies.limit("usual") == 0.2
    assert len(latencies._recorded) <= 100


def test_texts_within_a_factor_of_four_share_a_class() -> None:
    def kind(characters: int, form: str = "mp3_44100_128", model: str = "flash", timed: bool = False) -> object:
        format = AudioFormat.parse(form)
        request = SpeechRequest("x" * characters, format=format)
        return latency_class("vendor", request, SynthesisOffer(format, "voice", model=model, timed=timed))

    assert kind(32) == kind(100) == kind(127) != kind(128)
    assert kind(32) == kind(32, "mp3_22050_32") != kind(32, "pcm_16000")
    assert kind(32) != kind(32, model="multilingual")
    assert kind(32) != kind(32, timed=True)
