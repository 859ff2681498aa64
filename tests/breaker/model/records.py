"""Results and calls that the model keeps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple


class Result(NamedTuple):
    at: float
    weight: float
    slow: bool


@dataclass(eq=False)
class Call:
    """Call in flight. Two eras are the same if they are the same object."""

    era: object
    disabled: bool
    started: float | None
    since: float
    useful: float | None = None
    held: bool = False
    hung: bool = False
    excused: bool = False  # it hung already when the last success came
    settled: bool = False

    def duration(self, now: float) -> float | None:
        if self.started is None:
            return None
        return (now if self.useful is None else self.useful) - self.started


def averaged_by_bucket(results: list[Result]) -> list[Result]:
    """Return the results of each bucket in one order: plain successes first, then failures that share their weight."""
    out: list[Result] = []
    for time, group in groupby(results, key=lambda r: r.at):
        bucket = list(group)
        failed = sum(r.weight > 0 for r in bucket)
        slow = sum(r.slow for r in bucket)
        marked = max(failed, slow)
        weight = sum(r.weight for r in bucket) / max(failed, 1)
        out += [Result(time, 0.0, False)] * (len(bucket) - marked)
        out += [Result(time, weight if n < failed else 0.0, n < slow) for n in range(marked)]
    return out
