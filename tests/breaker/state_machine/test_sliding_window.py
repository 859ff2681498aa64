"""Sliding windows, compared with a list of results."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.breaker import CircuitBreakerConfig
from steadyvoice.breaker.sliding_window import CountWindow, ResultRun, TimeWindow, window_for

WEIGHTS = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0])
RESULTS = st.lists(st.tuples(WEIGHTS, st.booleans()), max_size=60)
TIMED = st.lists(st.tuples(st.integers(0, 30), WEIGHTS, st.booleans()), max_size=60)


@given(size=st.integers(1, 12), results=RESULTS)
def test_count_window_equals_the_tail_of_a_list(size: int, results: list[tuple[float, bool]]) -> None:
    window = CountWindow(size)
    for weight, slow in results:
        window.add(0.0, weight, slow)
    tail = results[-size:]
    assert window.calls == len(tail)
    assert window.failures == sum(weight for weight, _ in tail)
    assert window.slow == sum(slow for _, slow in tail)


@given(size=st.integers(1, 12), runs=st.lists(st.tuples(st.integers(1, 20), WEIGHTS), max_size=20))
def test_count_window_can_add_several_successes_at_once(size: int, runs: list[tuple[int, float]]) -> None:
    by_the_dozen, one_by_one = CountWindow(size), CountWindow(size)
    for successes, weight in runs:
        by_the_dozen.add_successes(0.0, successes)
        by_the_dozen.add(0.0, weight, False)
        for _ in range(successes):
            one_by_one.add(0.0, 0.0, False)
        one_by_one.add(0.0, weight, False)
    assert by_the_dozen.runs(0.0) == one_by_one.runs(0.0)
    assert (by_the_dozen.calls, by_the_dozen.failures) == (one_by_one.calls, one_by_one.failures)


@given(seconds=st.integers(1, 40), results=TIMED)
def test_time_window_equals_the_results_since_a_time(seconds: int, results: list[tuple[int, float, bool]]) -> None:
    window = TimeWindow(float(seconds))
    now, history = 0, []
    for wait, weight, slow in results:
        now += wait
        history.append((now, weight, slow))
        window.add(now, weight, slow)
        recent = [(w, s) for time, w, s in history if time + seconds > now]
        assert window.calls == len(recent)
        assert window.failures == sum(w for w, _ in recent)
        assert window.slow == sum(s for _, s in recent)


@given(results=RESULTS, size=st.integers(1, 12), smaller=st.integers(1, 12))
def test_smaller_window_keeps_the_newest_results(results: list[tuple[float, bool]], size: int, smaller: int) -> None:
    old = CountWindow(size)
    for weight, slow in results:
        old.add(0.0, weight, slow)
    config = CircuitBreakerConfig(window_size=smaller, minimum_calls=1)
    new = window_for(config, 0.0, old.runs(0.0))
    tail = results[-size:][-smaller:]
    assert new.calls == len(tail)
    assert new.failures == sum(weight for weight, _ in tail)
    assert new.slow == sum(slow for _, slow in tail)


@given(results=TIMED)
def test_from_time_to_count_and_back_loses_nothing_that_fits(results: list[tuple[int, float, bool]]) -> None:
    old = TimeWindow(1e9)
    now = 0
    for wait, weight, slow in results:
        now += wait
        old.add(now, weight, slow)
    counted = window_for(CircuitBreakerConfig(window_size=100), now, old.runs(now))
    timed = window_for(CircuitBreakerConfig(window_seconds=5), now, counted.runs(now))
    for window in (counted, timed):
        assert window.calls == old.calls
        assert window.failures == pytest.approx(old.failures)
        assert window.slow == old.slow


@pytest.mark.parametrize("seconds", [None, 10.0])
def test_odd_weights_leave_no_rounding_errors(seconds: float | None) -> None:
    config = CircuitBreakerConfig(window_size=5, window_seconds=seconds)
    window = window_for(config, 0.0)
    for second, weight in enumerate([0.1, 0.7, 0.2, 0.1, 0.3]):
        window.add(second, weight, False)
    copy = window_for(config, 4.0, window.runs(4.0))
    for each in (window, copy):
        for second in range(5):
            each.add(20.0 + second, 0.0, False)
        assert (each.calls, each.failures) == (5, 0.0)


def test_time_window_can_add_several_successes_at_once() -> None:
    window = TimeWindow(10.0)
    window.add_successes(0.0, 12)
    window.expire(9.0)
    assert window.calls == 12
    window.expire(10.0)
    assert window.calls == 0


def test_runs_are_never_empty() -> None:
    window = CountWindow(10)
    for weight in (1.0, 1.0, 0.0, 0.0, 1.0):
        window.add(0.0, weight, False)
    assert [run.calls for run in window.runs(0.0)] == [1, 1, 2, 1]


def test_busy_time_window_stays_small() -> None:
    window = TimeWindow(10.0)
    for tick in range(20_000):
        window.add(tick / 1000, 0.0, False)
    assert len(window.runs(20.0)) <= 101
    assert window.calls == pytest.approx(10_000, rel=0.02)


def test_time_window_tolerates_a_clock_that_steps_back() -> None:
    window = TimeWindow(10.0)
    window.add(5.0, 1.0, False)
    window.add(4.0, 1.0, False)
    assert window.failures == 2
    window.expire(15.0)
    assert window.calls == 0


def test_runs_of_a_count_window_separate_failures_and_slow_calls() -> None:
    window = CountWindow(10)
    window.add_successes(0.0, 2)
    window.add(0.0, 0.5, False)
    window.add(0.0, 0.0, True)
    window.add_successes(0.0, 3)
    assert window.runs(7.0) == [
        ResultRun(2, 0, 0.0, 0, 0.0),
        ResultRun(1, 1, 0.5, 0, 0.0),
        ResultRun(1, 0, 0.0, 1, 0.0),
        ResultRun(3, 0, 0.0, 0, 0.0),
    ]


def test_bucket_is_a_hundredth_of_a_time_window_and_ends_before_the_next_begins() -> None:
    window = TimeWindow(100.0)
    for now, weight in [(0.0, 0.5), (0.5, 0.5), (0.75, 0.0), (1.0, 1.0)]:
        window.add(now, weight, False)
    assert window.runs(2.0) == [ResultRun(3, 2, 1.0, 0, 2.0), ResultRun(1, 1, 1.0, 0, 1.0)]


def test_successes_added_together_share_buckets_with_others() -> None:
    window = TimeWindow(100.0)
    for now, count in [(0.0, 3), (0.5, 2), (1.0, 4)]:
        window.add_successes(now, count)
    assert window.calls == 9
    assert [(run.calls, run.age) for run in window.runs(1.0)] == [(5, 1.0), (4, 0.0)]


def test_runs_of_one_age_become_one_bucket() -> None:
    config = CircuitBreakerConfig(window_seconds=100)
    window = window_for(config, 5.0, [ResultRun(2, 1, 0.5, 1, 0.0), ResultRun(1, 1, 1.0, 0, 0.0)])
    assert window.runs(5.0) == [ResultRun(3, 2, 1.5, 1, 0.0)]
