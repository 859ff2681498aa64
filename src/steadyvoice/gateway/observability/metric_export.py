"""Metrics of the gateway as instruments of OpenTelemetry: the same definitions and values as at `GET /metrics`.

Counters and gauges are read when the SDK collects them, which it does in a thread of its own; histograms get each value
as it is observed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from opentelemetry import metrics as api
from opentelemetry.metrics import CallbackOptions, Observation

from steadyvoice._version import __version__
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.observability.metric_definitions import METRIC_DEFINITIONS, MetricDefinition
from steadyvoice.gateway.observability.metrics import Metrics, worker_metrics

_PATIENCE = 1.0
"""Seconds that a collection waits for the event loop; then it gets the values of the one before."""

Values = dict[str, list[Observation]]
"""Observations by name of the metric, without the ending of counters."""


class MetricExport:
    """Instruments for all metrics of one gateway, made within its event loop."""

    def __init__(self, context: GatewayContext, metrics: Metrics, meter_provider: Any = None) -> None:
        meter = (meter_provider or api.get_meter_provider()).get_meter("steadyvoice", __version__)
        self._snapshots = _Snapshots(partial(_read, context, metrics))
        for definition in METRIC_DEFINITIONS:
            name, unit, observe = definition.instrument, definition.unit, self._observer(definition)
            if definition.kind == "histogram":
                histogram = meter.create_histogram(
                    name, unit, definition.help, explicit_bucket_boundaries_advisory=definition.buckets
                )
                metrics.histogram(definition).listener = partial(_record, histogram, definition.labels)
            elif definition.kind == "counter":
                meter.create_observable_counter(name, [observe], unit, definition.help)
            else:
                meter.create_observable_gauge(name, [observe], unit, definition.help)
        context.on_stopped.append(self._snapshots.close)

    def _observer(self, definition: MetricDefinition) -> Callable[[CallbackOptions], Iterable[Observation]]:
        snapshots, name = self._snapshots, definition.name.removesuffix("_total")
        return lambda options: snapshots.values(name)


class _Snapshots:
    """Values of all metrics at one time, taken in the event loop for readers in any thread."""

    def __init__(self, read: Callable[[], Values]) -> None:
        self._read: Callable[[], Values] | None = read  # None once the gateway has stopped
        self._loop = _running_loop()
        self._values: Values = {}
        self._given: set[str] = set()  # metrics that were read from the present values
        self._lock = threading.Lock()

    def values(self, name: str) -> Sequence[Observation]:
        """Return the values of a metric; new ones if those at hand were read before, as by the last collection."""
        with self._lock:
            if not self._values or name in self._given:
                self._given.clear()
                self._renew()
            self._given.add(name)
            return self._values.get(name, ())

    def close(self) -> None:
        """Take the last values: the gateway stops, and is read no more."""
        self._take(None)
        self._read = None

    def _renew(self) -> None:
        if self._read is None:
            return
        if self._loop in (None, _running_loop()):
            self._take(None)
            return
        taken = threading.Event()
        assert self._loop is not None  # noqa: S101 - see above
        try:
            self._loop.call_soon_threadsafe(self._take, taken)
        except RuntimeError:  # it is closed
            return
        taken.wait(_PATIENCE)

    def _take(self, taken: threading.Event | None) -> None:
        if self._read:
            self._values = self._read()
        if taken:
            taken.set()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _read(context: GatewayContext, metrics: Metrics) -> Values:
    """Return what this process has counted: of several workers, each exports its own."""
    found = {metric.name: metric for metric in metrics.collect() if metric.type != "histogram"}
    if workers := context.workers:
        # Each of them knows all about all of them, so that one is enough.
        status = workers.status() if workers.number == 1 else {"workers": ()}
        for metric in worker_metrics(status):
            found[metric.name] = metric
            metric.samples = metric.samples if workers.number == 1 else []
    return {
        name: [Observation(float(sample.value), sample.labels) for sample in metric.samples]
        for name, metric in found.items()
    }


def _record(
    histogram: api.Histogram, labels: Sequence[str], values: tuple[str, ...], observed: Iterable[float]
) -> None:
    attributes = dict(zip(labels, values, strict=True))
    for value in observed:
        histogram.record(value, attributes)
