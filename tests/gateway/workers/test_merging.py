"""Answers of several workers as one."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, Tone
from steadyvoice.gateway.observability.hourly_statistics import HourlyStatistics
from steadyvoice.gateway.observability.metrics import exported_samples, filled_histogram, imported_metrics
from steadyvoice.gateway.state_file import merged_worker_states
from steadyvoice.gateway.workers.merging import lasting_samples, merged_readiness, merged_samples, merged_state
from steadyvoice.service.metrics.metric_definitions import METRIC_DEFINITIONS
from steadyvoice.service.metrics.service_metrics import LabelledHistogram


def state_after(*failures: bool, forced: bool = False) -> dict[str, Any]:
    """Return the error state of a service with these results."""

    async def make() -> dict[str, Any]:
        async with AsyncTTSService([Tone()], circuit=CircuitBreakerConfig(window_size=4)) as service:
            circuit = service.circuits["tone"]
            for failed in failures:
                permit = circuit.try_acquire()
                if permit:
                    permit.failure("503") if failed else permit.success()
            if forced:
                circuit.force_open("maintenance")
            return service.get_error_state()

    return asyncio.run(make())


def test_state_of_one_worker_is_its_own() -> None:
    state = state_after(True, False)
    assert merged_state([state]) == state


def test_the_worst_state_is_shown_and_counts_are_added() -> None:
    healthy, failing = state_after(False, False, False), state_after(True, True, True, True, True)
    merged = merged_state([healthy, failing])["providers"]["tone"]
    assert merged["circuit_state"] == "open"
    assert merged["retry_after"] == failing["retry_after"]
    totals = [state["totals"] for state in (healthy, failing)]
    assert merged["totals"] == {name: sum(each[name] for each in totals) for name in totals[0]}
    assert merged["totals"]["refused"] > 0
    assert merged["window"]["calls"] == healthy["window"]["calls"] + failing["window"]["calls"]
    assert merged["failure_rate"] == failing["window"]["failures"] / merged["window"]["calls"]
    assert not merged["is_muted"], "one of them speaks"
    assert merged_state([failing, failing])["providers"]["tone"]["is_muted"]
    assert merged_state([healthy, state_after(forced=True), failing])["circuit_state"] == "forced_open"


def test_one_worker_that_is_ready_is_enough() -> None:
    open_circuit = {"ready": False, "circuit_state": "open", "reason": "circuit open: 503"}
    closed = {"ready": True, "circuit_state": "closed", "reason": None}
    ready = {"ready": True, "reasons": [], "overloaded": True, "providers": {"a": closed}}
    muted = {"ready": False, "reasons": ["a: circuit open: 503"], "overloaded": False, "providers": {"a": open_circuit}}
    assert merged_readiness([muted, ready]) == {**ready, "overloaded": False}
    assert merged_readiness([muted, muted]) == muted


HISTOGRAM = next(each for each in METRIC_DEFINITIONS if each.kind == "histogram")


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.01, 100)), max_size=8), min_size=1, max_size=4))
def test_merged_histograms_are_that_of_one_process(workers: list[list[tuple[str, float]]]) -> None:
    whole, parts = LabelledHistogram(HISTOGRAM), [LabelledHistogram(HISTOGRAM) for _ in workers]
    for part, values in zip(parts, workers, strict=True):
        for label, value in values:
            whole.add((label,), value)
            part.add((label,), value)
    (merged,) = imported_metrics(merged_samples(exported_samples([filled_histogram(part)]) for part in parts))
    expected = {(each.name, *each.labels.items()): each.value for each in filled_histogram(whole).samples}
    found = {(each.name, *each.labels.items()): each.value for each in merged.samples}
    assert found.keys() == expected.keys()
    assert all(abs(found[key] - value) <= 1e-6 * (1 + value) for key, value in expected.items())


def test_gauges_do_not_outlast_their_worker() -> None:
    exports = [[["calls", "counter", "sum", [["calls_total", [], 1.0]]], ["open", "gauge", "max", [["open", [], 1.0]]]]]
    assert [metric.name for metric in lasting_samples(exports)] == ["calls"]


def test_statistics_of_several_workers_are_one_hour() -> None:
    now = 1_700_000_000.0
    both = []
    for count, begin in ((2, now), (3, now + 1)):
        statistics = HourlyStatistics(lambda begin=begin: begin)  # type: ignore[misc]
        step = statistics._current_step()
        step.outcomes["spoken"] += count
        step.of("a")[0] += count
        statistics._first_audio.add(begin, 0.1 * count)
        statistics.add_recovery("a", 10.0)
        both.append(statistics.export())
    merged = HourlyStatistics.merged(both, lambda: now + 1)
    assert merged.current()["calls"] == 5
    assert [count for _, count in merged.outcomes()] == [{"spoken": 5}]
    assert [results[1:] for results in merged.attempts("a")] == [[5, 0, 0, 0]]
    assert len(merged.recoveries) == 1, "all recover from one outage"
    assert merged.current()["first_audio"]["p99"] == 0.1 * 3


def saved(at: str, state: str, remaining: float | None, holds: list[dict[str, Any]]) -> dict[str, Any]:
    circuit = {"state": state, "remaining": remaining, "window": [[1, 0, 0, 0, 2.0]]}
    providers = {"a": {"credential": "x", "holds": holds}} if holds else {}
    return {"saved_at": at, "circuits": {"a": circuit}, "holds": {"salt": "00", "providers": providers}}


def test_one_state_file_has_what_all_workers_know() -> None:
    hold = {"key": "a/credential", "remaining": 100.0}
    older = saved("2026-11-29T10:00:00.000Z", "open", 30.0, [hold])
    newer = saved("2026-11-29T10:00:10.000Z", "closed", None, [{**hold, "remaining": 5.0}])
    merged = merged_worker_states([older, newer])
    assert merged["saved_at"] == newer["saved_at"]
    assert merged["circuits"]["a"]["state"] == "open"
    assert merged["circuits"]["a"]["remaining"] == 20.0
    assert merged["holds"]["providers"]["a"]["holds"] == [{**hold, "remaining": 90.0}]
