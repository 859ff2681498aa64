"""Counts of workers as they stated them last: a worker that ends takes nothing away from any sum.

Whatever a worker answers is remembered on its way to the worker that asked. The supervisor asks for it as well, because
a worker may be killed before any other has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steadyvoice.gateway.workers.merging import added, lasting_counts, lasting_samples

RECORDED_QUESTIONS = ("metrics", "state", "statistics")
"""Questions by which the supervisor asks for what it remembers."""
_STEPS_KEPT = 240  # the hour of the statistics

Step = Sequence[Any]
"""Step of the hourly statistics: its number, and tables of counts."""


class WorkerCounts:
    """Counts of each worker, and the sums of those that ended."""

    def __init__(self) -> None:
        self._metrics: dict[int, list[Any]] = {}
        self._states: dict[int, dict[str, Any]] = {}
        self._steps: dict[int, dict[int, Step]] = {}
        self._departed_metrics: list[Any] = []
        self._departed_states: dict[str, Any] = {}
        self._departed_steps: dict[int, Step] = {}

    def remember(self, worker: int, question: str, answer: Any) -> None:
        """Note what a worker has answered, if it has counts."""
        match question:
            case _ if answer is None:
                return
            case "metrics":
                self._metrics[worker] = answer
            case "state":
                self._states[worker] = lasting_counts(answer)
            case "statistics":
                self._add_steps(worker, answer)
            case "overview":
                self._states[worker] = {**self._states.get(worker, {}), **lasting_counts(answer)}
                self._add_steps(worker, answer["statistics"]["steps"])

    def argument(self, question: str) -> Any:
        """Return what to ask with: of the statistics, the steps that are not known yet."""
        if question != "statistics":
            return None
        return min((max(steps, default=0) for steps in self._steps.values()), default=0)

    def end(self, worker: int) -> None:
        """Add the counts of a process that ended to those of former ones."""
        if metrics := self._metrics.pop(worker, None):
            self._departed_metrics = lasting_samples([self._departed_metrics, metrics])
        if state := self._states.pop(worker, None):
            self._departed_states = added([self._departed_states, state])
        for number, step in self._steps.pop(worker, {}).items():
            former = self._departed_steps.get(number)
            self._departed_steps[number] = _added_steps(former, step) if former else step
        self._departed_steps = _newest(self._departed_steps.values())

    def departed(self, question: str, argument: Any) -> Any:
        """Return what to add to the answers of the workers, as another answer; None for nothing."""
        match question:
            case "metrics":
                return self._departed_metrics or None
            case "state" if self._departed_states:
                return {"departed": self._departed_states}
            case "overview" if self._departed_states or self._departed_steps:
                # The step before is shown as a part of the present.
                steps = [step for number, step in self._departed_steps.items() if number >= argument - 1]
                return {"departed": self._departed_states, "steps": steps}
        return None

    def _add_steps(self, worker: int, steps: Iterable[Step]) -> None:
        known = self._steps.get(worker, {})
        self._steps[worker] = _newest([*known.values(), *steps])


def _newest(steps: Iterable[Step]) -> dict[int, Step]:
    """Return the steps of an hour by their numbers; of two with the same number, the last."""
    by_number = {step[0]: step for step in steps}
    return {number: by_number[number] for number in sorted(by_number)[-_STEPS_KEPT:]}


def _added_steps(first: Step, second: Step) -> Step:
    return [first[0], *(_added_tables(each) for each in zip(first[1:], second[1:], strict=True))]


def _added_tables(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of two tables, whose values are numbers or lists of numbers."""
    first, second = tables
    sums: dict[str, Any] = {**first}
    for name, value in second.items():
        former = sums.get(name)
        if former is None:
            sums[name] = value
        elif isinstance(value, Sequence):
            sums[name] = [a + b for a, b in zip(former, value, strict=True)]
        else:
            sums[name] = former + value
    return sums
