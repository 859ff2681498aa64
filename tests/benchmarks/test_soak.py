"""The soak test's own decisions: the search for capacity, percentiles, the weather, the bars."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice
from typing import Any

import pytest
from loadtest import criteria, fault_schedule, generator
from loadtest.capacity import CapacitySearch, Limits, Step
from loadtest.criteria import Opening, ResourceUsage
from loadtest.generator import CallResult, Report
from loadtest.statistics import growth, percentile
from loadtest.traffic import ENDPOINTS, Ending, arrivals, calls

from steadyvoice.speech.format import ELEVENLABS_FORMAT_NAMES
from steadyvoice.wire.openai.speech import RESPONSE_FORMATS


def searched(true_capacity: float, **settings: float) -> tuple[float, list[float]]:
    search, rates = CapacitySearch(**settings), list[float]()
    while search.rate is not None:
        rates.append(search.rate)
        search.record(search.rate > true_capacity)
    return search.capacity, rates


@pytest.mark.parametrize("true_capacity", [0.9, 3.0, 10.0, 47.0, 333.0])
def test_capacity_is_found_within_the_precision(true_capacity: float) -> None:
    found, rates = searched(true_capacity)
    assert found <= true_capacity <= found * 1.15
    assert len(rates) <= 12


def test_search_doubles_then_bisects() -> None:
    capacity, rates = searched(30.0, precision=1.5)
    assert rates == pytest.approx([10, 20, 40, 28.284], abs=0.001)
    assert capacity == rates[-1]


def test_search_ends_at_its_bounds() -> None:
    assert searched(math.inf, max_rate=100.0) == (80.0, [10, 20, 40, 80])
    assert searched(0.0, min_rate=2.0) == (0.0, [10, 5, 2.5])


def test_finished_search_accepts_no_further_results() -> None:
    search = CapacitySearch(rate=None)
    with pytest.raises(ValueError, match="over"):
        search.record(True)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step(10, 100, 98, 1.9, 0.2), ""),
        (Step(10, 100, 97, 0.1, 0.01), "answered 97.0%"),
        (Step(10, 100, 100, 2.1, 0.01), "first audio p99 2.10 s"),
        (Step(10, 100, 100, 0.1, 0.3), "lag p99 300 ms"),
        (Step(10, 0, 0, math.nan, math.nan), ""),
    ],
)
def test_step_is_overloaded_by_each_limit(step: Step, reason: str) -> None:
    reasons = step.overloaded(Limits())
    assert reason in reasons
    assert bool(reason) == bool(reasons)


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7
    assert math.isnan(percentile([], 0.5))


def test_growth_compares_the_last_fifth_with_the_first() -> None:
    assert growth([1, 1, 5, 5, 5, 5, 5, 5, 3, 3]) == 2
    assert growth([4, 9, 4]) == 0
    assert math.isnan(growth([1]))


def test_every_period_has_all_four_combinations_of_outages() -> None:
    down = [
        tuple(fault_schedule.vendor_is_down(vendor, minute) for vendor in fault_schedule.DOWN)
        for minute in (2, 7, 12, 17, 22)
    ]
    assert down == [(False, False), (False, True), (True, True), (True, False), (False, False)]


def test_margin_extends_an_outage_into_the_next_period() -> None:
    assert not fault_schedule.vendor_is_down(fault_schedule.FIRST, 20.5)
    assert fault_schedule.vendor_is_down(fault_schedule.FIRST, 20.5, margin=1.0)
    assert not fault_schedule.vendor_is_down(
        fault_schedule.FIRST, 0.5, margin=1.0
    )  # no outage came before the first period
    assert not fault_schedule.vendor_is_down("tone", 12.0)


def test_openings_outside_of_outages_are_counted_as_false() -> None:
    def ours(provider: str, from_state: str, seconds: float) -> bool:
        return Opening(provider, from_state, "failure_rate", seconds).ours(20.0)

    assert not ours("elevenlabs", "closed", 11.0)
    assert ours("elevenlabs", "closed", 5.0)
    assert not ours("elevenlabs", "half_open", 5.0)
    assert ours("tone", "closed", 11.0)
    assert ours("espeak", "half_open", 11.0)


def test_openings_are_read_from_events() -> None:
    def event(to: str, second: int, **more: str) -> dict[str, Any]:
        document = {"event": "transition", "provider": "openai", "from": "closed", "to": to, "cause": "failure_rate"}
        return {**document, "at": f"1970-01-01T00:00:{second:02d}Z", **more}

    events = [event("open", 3), event("open", 12), event("half_open", 14), event("open", 20, by="someone")]
    events.append({"event": "config", "at": "1970-01-01T00:00:21Z"})
    assert criteria.openings(events, began=10.0) == [Opening("openai", "closed", "failure_rate", 2.0)]


def usage(
    memory: list[float], threads: list[int] | None = None, descriptors: tuple[int, int] = (10, 12)
) -> ResourceUsage:
    times = [30.0 * index for index in range(len(memory))]
    return ResourceUsage(times, memory, threads or [9] * len(memory), *descriptors)


def test_memory_may_grow_within_the_first_minute_only() -> None:
    assert criteria.flat_memory(usage([50, 80, 100, 100, 101, 102, 100])).holds is True
    assert criteria.flat_memory(usage([50, 80, 100, 110, 120, 130, 140])).holds is False
    assert criteria.flat_memory(usage([50, 80])).holds is None


def test_size_criteria() -> None:
    assert criteria.max_memory(usage([50, 149, 60])).holds is True
    assert criteria.max_memory(usage([50, 151, 60])).holds is False
    assert criteria.max_threads(usage([50, 50], [30, 9])).holds is True
    assert criteria.max_threads(usage([50, 50], [31, 9])).holds is False
    assert criteria.flat_threads(usage([50] * 7, [4, 9, 9, 9, 9, 20, 20])).holds is False
    assert criteria.descriptors_released(usage([50], descriptors=(10, 26))).holds is True
    assert criteria.descriptors_released(usage([50], descriptors=(10, 27))).holds is False


def test_every_call_is_answered_or_refused() -> None:
    accepted = (generator.HEARD, generator.HUNG_UP, generator.REFUSED)
    assert criteria.all_answered({generator.HEARD: 8, generator.REFUSED: 2}, 10, accepted).holds is True
    broken = criteria.all_answered({generator.HEARD: 8, generator.BROKEN: 1}, 10, accepted)
    assert (broken.holds, broken.found) == (False, "1 broken off, 1 not accounted for")
    assert criteria.in_time(0, 0).holds is True
    assert criteria.in_time(1, 0).holds is False
    assert criteria.in_time(0, 1).holds is False
    assert criteria.none_muted(0).holds is True
    assert criteria.none_muted(1).holds is False
    assert criteria.no_circuit_opened_by_us([], 20.0).holds is True
    assert criteria.no_circuit_opened_by_us([Opening("tone", "closed", "failure_rate", 1.0)], 20.0).verdict == "NOT MET"


def got(**seen: Any) -> CallResult:
    call = next(each for each in calls(1) if each.ending is Ending.LISTEN and each.endpoint.streams)
    return CallResult(call, at=0.0, category=generator.HEARD, status=200, **seen)


def test_stream_is_late_by_its_first_byte_or_when_it_falls_behind_its_audio() -> None:
    deadline, second = got().call.deadline, got().call.bytes_per_second
    assert not got(first=0.1, over=deadline).late
    assert got(first=deadline + 1, over=deadline + 1).late
    assert got(first=0.1, over=deadline + 3, bytes=0).late
    assert not got(first=0.1, over=deadline + 3, bytes=int(3 * second)).late


def test_report_counts_every_call_once() -> None:
    report = Report()
    for seen in (got(first=0.1, over=0.2), got(first=99.0, over=99.0)):
        report.add(seen)
    assert report.categories == Counter({generator.HEARD: 2})
    assert (report.late, report.answered_in_time) == (1, 1)
    assert [example["late"] for example in report.examples] == [True]


def test_traffic_has_all_endpoints_formats_and_endings_and_repeats_itself() -> None:
    made = list(islice(calls(1), 5000))
    assert made == list(islice(calls(1), 5000))
    assert {call.endpoint for call in made} == set(ENDPOINTS)
    assert {call.ending for call in made} == set(Ending)
    assert {call.format.name for call in made} == {
        *ELEVENLABS_FORMAT_NAMES,
        *(format.name for format in RESPONSE_FORMATS.values()),
    }
    assert 0.1 < sum(call.ending.hangs_up for call in made) / len(made) < 0.25


def test_arrivals_do_not_depend_on_answers() -> None:
    times = list(arrivals(50.0, 100.0, seed=1))
    assert times == sorted(times)
    assert 4500 < len(times) < 5500
    assert 0 < times[0] <= times[-1] < 100
