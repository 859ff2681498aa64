"""What is normal for a provider: its failure rate over the last calls, the present run of failures left out.

Four failures in a row say little of a provider that fails one call in five, and a lot of one that never did.
"""

from __future__ import annotations

import math

MEMORY = 100  # calls that must have ended before anything is known; at least as many are remembered from then on
UNKNOWN = 0.05  # the failure rate that is taken for normal until then, if not more is seen
FEW = 20  # calls that this guess weighs as much as


class Baseline:
    """Takes in each run of failures together with the successes that ended it."""

    __slots__ = ("_calls", "_earlier", "_failures")

    def __init__(self) -> None:
        self._calls = self._failures = 0.0  # lately
        self._earlier: float | None = None  # the failure rate of the MEMORY calls before those

    def learn(self, failures: float, successes: int) -> None:
        """So many failures in a row ended with so many successes."""
        self._calls += failures
        self._failures += failures
        while successes:
            step = 1 if successes == 1 else min(successes, max(1, math.ceil(MEMORY - self._calls)))
            successes -= step
            self._calls += step
            if self._calls >= MEMORY:
                self._earlier = self._failures / self._calls
                self._calls = self._failures = 0.0

    @property
    def rate(self) -> float:
        """The failure rate to be expected: never 0, for what has not failed yet may."""
        if self._earlier is None:
            return max(UNKNOWN, (self._failures + UNKNOWN * FEW) / (self._calls + FEW))
        return (self._earlier * MEMORY + self._failures + 1) / (MEMORY + self._calls + 2)
