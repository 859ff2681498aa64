"""Counts and spreads by label, as the gateway keeps them: a dictionary each, and no lock, for one loop writes them all.

prometheus-client writes them down. Its own counters would add a second family for each, of when it was made.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from steadyvoice.gateway.families import Family

Labels = tuple[str, ...]


class Tally:
    """What only grows: so many of each."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._counts: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """So many more."""
        self._counts[labels] = self._counts.get(labels, 0.0) + amount

    def collected(self) -> Metric:
        """As it is written down."""
        return filled(self.family, self._counts)


class Spread:
    """How values lie between the bounds of a family."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._bounds = family.bounds
        self._seen: dict[Labels, tuple[list[int], list[float]]] = {}  # how many in each bucket; and their sum

    def add(self, labels: Labels, value: float) -> None:
        """One more."""
        seen = self._seen.get(labels)
        if seen is None:
            seen = self._seen[labels] = ([0] * (len(self._bounds) + 1), [0.0])
        buckets, total = seen
        buckets[bisect_left(self._bounds, value)] += 1
        total[0] += value

    def collected(self) -> Metric:
        """As it is written down: each bucket with all below it."""
        family = self.family
        metric = HistogramMetricFamily(family.name, family.told, labels=family.labels)
        bounds = [*map(floatToGoString, family.bounds), "+Inf"]
        for labels, (buckets, total) in self._seen.items():
            metric.add_metric(labels, list(zip(bounds, accumulate(buckets), strict=True)), total[0])
        return metric


def filled(family: Family, values: dict[Labels, float]) -> Metric:
    """A counter or gauge with these values."""
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.told, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric
