"""Instruments of OpenTelemetry for all metrics, by the definitions and with the values of `GET /metrics`.

Counters and gauges are read when the SDK collects them, which it does in a thread of its own; histograms get each value
as it is observed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry import metrics as api
from opentelemetry.metrics import CallbackOptions, Observation

from steadyvoice._version import __version__
from steadyvoice.breaker.fork_safety import register_fork_aware
from steadyvoice.service.metrics.metric_definitions import METRIC_DEFINITIONS, RULES, MetricDefinition
from steadyvoice.service.metrics.service_metrics import ServiceMetrics, running_loop
from steadyvoice.service.metrics.state_metrics import Labels

_PATIENCE = 1.0
"""Seconds that a collection waits for an event loop; then it gets the values of the one before."""

Values = Mapping[MetricDefinition, Mapping[Labels, float]]


class MetricExport:
    """Instruments for all that report to one provider of meters.

    OpenTelemetry keeps an instrument for ever and gives the same one to all that ask for its name. So there is one
    export for each provider, with the sum of all that report to it. What has been counted outlasts its source.
    """

    def __init__(self, meter_provider: Any = None) -> None:
        meter = (meter_provider or api.get_meter_provider()).get_meter("steadyvoice", __version__)
        self._present = _Present()
        self._changing, self._reading = threading.Lock(), threading.Lock()  # the former is never held for long
        self._observations: dict[MetricDefinition, list[Observation]] = {}
        self._given: set[MetricDefinition] = set()  # metrics that were read from the present observations
        self._histograms: dict[MetricDefinition, api.Histogram] = {}
        for definition in METRIC_DEFINITIONS:
            name, unit, observe = definition.instrument, definition.unit, partial(self._observe, definition)
            if definition.kind == "histogram":
                self._histograms[definition] = meter.create_histogram(
                    name, unit, definition.help, explicit_bucket_boundaries_advisory=definition.buckets
                )
            elif definition.kind == "counter":
                meter.create_observable_counter(name, [observe], unit, definition.help)
            else:
                meter.create_observable_gauge(name, [observe], unit, definition.help)
        register_fork_aware(self)

    fork_lock = None

    def after_fork(self) -> None:
        """Renew the locks, which a thread of the parent may have held."""
        self._changing, self._reading = threading.Lock(), threading.Lock()

    @classmethod
    def of(cls, meter_provider: Any = None) -> MetricExport:
        """Return the export to a provider of meters; None: to that of the process."""
        key = _process if meter_provider is None else meter_provider
        with _creating:
            if key not in _exports:
                _exports[key] = cls(meter_provider)
            return _exports[key]

    def add(self, metrics: ServiceMetrics) -> None:
        """Export the metrics of a service from now on."""
        for histogram in metrics.histograms:
            instrument = self._histograms[histogram.definition]
            histogram.listener = partial(_record, instrument, histogram.definition.labels)
        with self._changing:
            present = self._present
            self._present = _Present((*present.sources, _Source(metrics)), present.counts)

    def remove(self, metrics: ServiceMetrics) -> None:
        """Take the last values of a service, which is to be read no more. Called in its event loop."""
        for source in self._present.sources:
            if source.metrics is metrics:
                source.take(None)
                self._retire(source)

    def _retire(self, source: _Source) -> None:
        for histogram in source.metrics.histograms:
            histogram.listener = None
        with self._changing:
            present = self._present
            if source in present.sources:
                left = tuple(each for each in present.sources if each is not source)
                counts = merged([present.counts, _counts_in(source.values)])
                self._present = _Present(left, counts, last=source.values)

    def _observe(self, definition: MetricDefinition, options: CallbackOptions) -> Sequence[Observation]:
        """Return the values of a metric; new ones if those at hand were read before, as by the last collection."""
        with self._reading:
            if not self._observations or definition in self._given:
                self._given.clear()
                self._renew()
            self._given.add(definition)
            return self._observations.get(definition, ())

    def _renew(self) -> None:
        for source in self._present.sources:
            if source.metrics.is_gone:
                self._retire(source)
            else:
                source.renew()
        values = self._present.values()
        self._observations = {
            definition: [
                Observation(float(value), dict(zip(definition.labels, labels, strict=True)))
                for labels, value in labelled.items()
            ]
            for definition, labelled in values.items()
        }


class _Source:
    """Metrics of one service, with the values that were read last, all of them at one time."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self.metrics = metrics
        self.values: Values = {}

    def renew(self) -> None:
        """Read the values in the event loop of the service, for a caller in any thread."""
        loop = self.metrics.loop
        if loop is None or not loop.is_running() or loop is running_loop():
            self.take(None)
            return
        taken = threading.Event()
        try:
            loop.call_soon_threadsafe(self.take, taken)
        except RuntimeError:  # it was closed just now
            return
        taken.wait(_PATIENCE)

    def take(self, taken: threading.Event | None) -> None:
        """Read the values."""
        try:
            self.values = dict(self.metrics.read())
        finally:
            if taken:
                taken.set()


class _Present(NamedTuple):
    """Sources that are read, and what those that ended have counted.

    Replaced as a whole, and never changed: it is read without a lock, because the thread that reads waits for the event
    loop, which may be about to change it.
    """

    sources: tuple[_Source, ...] = ()
    counts: Values = MappingProxyType({})
    last: Values = MappingProxyType({})
    """All values of the source that ended last: gauges of one that ended count only while there is no other."""

    def values(self) -> Values:
        """Return the values of all sources together, each by its rule."""
        gauges = {} if self.sources else {each: values for each, values in self.last.items() if each.kind == "gauge"}
        return merged([self.counts, gauges, *(source.values for source in self.sources)])


def merged(parts: Iterable[Values]) -> Values:
    """Return the values of several sources as those of one, each by its rule."""
    found: dict[MetricDefinition, dict[Labels, float]] = {}
    for part in parts:
        for definition, labelled in part.items():
            values, combine = found.setdefault(definition, {}), RULES[definition.rule]
            for labels, value in labelled.items():
                values[labels] = combine(values[labels], value) if labels in values else value
    return found


def _counts_in(values: Values) -> Values:
    return {definition: labelled for definition, labelled in values.items() if definition.kind == "counter"}


class _Process:
    """Key of the export to the provider of meters that the process has, or will have."""


_process = _Process()
_creating = threading.Lock()
_exports: WeakKeyDictionary[Any, MetricExport] = WeakKeyDictionary()


def _record(
    histogram: api.Histogram, labels: Sequence[str], values: tuple[str, ...], observed: Iterable[float]
) -> None:
    attributes = dict(zip(labels, values, strict=True))
    for value in observed:
        histogram.record(value, attributes)
