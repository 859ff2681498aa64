"""Percentiles and trends of measured values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all values does not exceed (nearest rank); nan of none."""
    if not values:
        return math.nan
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def growth(values: Sequence[float]) -> float:
    """Return by how much the mean of the last fifth exceeds that of the first fifth; nan of fewer than two values."""
    if len(values) < 2:
        return math.nan
    fifth = max(1, len(values) // 5)
    return mean(values[-fifth:]) - mean(values[:fifth])
