"""Scoring of a policy over a history of calls."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from lab.outage_world import Arrival

Settle: TypeAlias = Callable[[float, bool], None]
"""Function that reports the end of a call: its time, and whether it succeeded."""


class Policy(Protocol):
    """Policy that admits or refuses each call, and receives the results of admitted ones."""

    openings: int

    def admit(self, now: float) -> Settle | None: ...


@dataclass(slots=True)
class Score:
    """Score over a history. `floor` is the mistakes of an oracle that knows the success probability of each call."""

    arrivals: int = 0
    failed: int = 0
    refused_good: int = 0
    floor: int = 0
    caller_seconds: float = 0.0
    openings: int = 0

    @property
    def mistakes(self) -> float:
        """Percentage of calls that were sent and failed, or refused and would have succeeded."""
        return 100 * (self.failed + self.refused_good) / self.arrivals

    @property
    def regret(self) -> float:
        """Percentage points of mistakes above the floor."""
        return self.mistakes - 100 * self.floor / self.arrivals

    @property
    def waiting(self) -> float:
        """Seconds that callers spent in failed calls, per 1,000 arrivals."""
        return 1000 * self.caller_seconds / self.arrivals


def score_policy(history: Iterable[Arrival], policy: Policy) -> Score:
    """Return the score of one policy over one history."""
    score = Score()
    out: list[tuple[float, int, Settle, bool]] = []
    for arrival in history:
        _settle_until(out, arrival.at)
        score.arrivals += 1
        # The oracle sends what will rather succeed than fail, and is wrong where chance decides otherwise.
        score.floor += arrival.works is (arrival.success < 0.5)
        settle = policy.admit(arrival.at)
        if settle is None:
            score.refused_good += arrival.works
            continue
        # The number of the arrival breaks ties: functions cannot be compared.
        heapq.heappush(out, (arrival.at + arrival.seconds, score.arrivals, settle, arrival.works))
        if not arrival.works:
            score.failed += 1
            score.caller_seconds += arrival.seconds
    score.openings = policy.openings
    return score


def _settle_until(out: list[tuple[float, int, Settle, bool]], now: float) -> None:
    while out and out[0][0] <= now:
        time, _, settle, works = heapq.heappop(out)
        settle(time, works)


def total(scores: Iterable[Score]) -> Score:
    """Return the sum of several scores."""
    summed = Score()
    for score in scores:
        summed.arrivals += score.arrivals
        summed.failed += score.failed
        summed.refused_good += score.refused_good
        summed.floor += score.floor
        summed.caller_seconds += score.caller_seconds
        summed.openings += score.openings
    return summed
