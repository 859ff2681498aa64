"""Counts of workers that ended, in what is shown of all workers."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, Tone
from steadyvoice.gateway.observability.hourly_statistics import HourlyStatistics
from steadyvoice.gateway.workers.merging import merged_samples, merged_state
from steadyvoice.gateway.workers.worker_statistics import WorkerCounts

NOW = 1_700_000_000.0


async def empty_state() -> dict[str, Any]:
    async with AsyncTTSService([Tone()], circuit=CircuitBreakerConfig()) as service:
        return service.get_error_state()


EMPTY = asyncio.run(empty_state())


class CountingWorker:
    """Worker process that has finished some calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.statistics = HourlyStatistics(lambda: NOW)

    def call(self) -> None:
        self.calls += 1
        step = self.statistics._current_step()
        step.outcomes["spoken"] += 1
        step.of("tone")[0] += 1

    def answer(self, question: str) -> Any:
        totals = {**EMPTY["totals"], "calls": self.calls}
        providers = {"tone": {**EMPTY["providers"]["tone"], "totals": totals}}
        overload = {**EMPTY["overload"], "refused": {"deadline": self.calls}}
        match question:
            case "metrics":
                return [["calls", "counter", "sum", [["calls_total", [], float(self.calls)]]]]
            case "state":
                return {**EMPTY, "providers": providers, "overload": overload}
            case "statistics":
                return self.statistics.export(0)["steps"]
            case _:
                parts = {name: {"state": each} for name, each in providers.items()}
                return {"overload": overload, "providers": parts, "statistics": self.statistics.export(0)}


class ShownCounts:
    """What is shown of all workers, by the answers that pass the supervisor."""

    def __init__(self, workers: int) -> None:
        self.counts = WorkerCounts()
        self.workers = {number: CountingWorker() for number in range(1, workers + 1)}

    def ask(self, question: str, argument: Any = None) -> list[Any]:
        answers = {number: worker.answer(question) for number, worker in self.workers.items()}
        for number, answer in answers.items():
            self.counts.remember(number, question, answer)
        departed = self.counts.departed(question, argument)
        return [*answers.values(), *([] if departed is None else [departed])]

    def shown(self) -> list[int]:
        """Return the number of calls by the metrics, the state, its refusals, and the hour."""
        (metric,) = merged_samples(self.ask("metrics"))
        state = merged_state(self.ask("state"))
        answers = self.ask("overview", 0)
        exports = [each["statistics"] for each in answers if "departed" not in each]
        steps = [step for each in answers if "departed" in each for step in each["steps"]]
        hour = HourlyStatistics.merged(exports, lambda: NOW, steps)
        assert sum(results[1] for results in hour.attempts("tone")) == hour.current()["calls"]
        refused = state["overload"]["refused"].get("deadline", 0)
        return [int(metric.samples[0][2]), state["totals"]["calls"], refused, hour.current()["calls"]]

    def end(self, number: int) -> None:
        self.counts.end(number)
        self.workers[number] = CountingWorker()


@given(st.lists(st.tuples(st.sampled_from(["call", "call", "show", "end", "record"]), st.integers(1, 3)), max_size=40))
def test_no_sum_that_was_shown_ever_falls(happened: list[tuple[str, int]]) -> None:
    all_workers, known = ShownCounts(3), [0] * 4
    for event, number in happened:
        match event:
            case "call":
                all_workers.workers[number].call()
            case "end":
                all_workers.end(number)
            case "record":
                for question in ("metrics", "state", "statistics"):
                    all_workers.ask(question, all_workers.counts.argument(question))
            case "show":
                shown = all_workers.shown()
                assert all(now >= before for now, before in zip(shown, known, strict=True))
                known = shown


def test_calls_that_were_recorded_before_the_end_are_counted_though_none_had_asked() -> None:
    all_workers = ShownCounts(2)
    for _ in range(5):
        all_workers.workers[1].call()
    all_workers.workers[2].call()
    for question in ("metrics", "state", "statistics"):
        all_workers.ask(question)
    for _ in range(2):  # a worker may end more than once
        all_workers.end(1)
        all_workers.workers[1].call()
        for question in ("metrics", "state", "statistics"):
            all_workers.ask(question)
    assert all_workers.shown() == [8] * 4


def test_state_without_departed_workers_is_as_it_was() -> None:
    assert merged_state(ShownCounts(1).ask("state"))["totals"] == EMPTY["totals"]
