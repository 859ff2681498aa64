"""Metrics of a service: counters and histograms of its calls and circuits, and what its state says.

The gateway serves them to Prometheus, with those of its own requests; a service without a gateway gives them to
OpenTelemetry by itself. The definitions are the same.
"""

from __future__ import annotations

import asyncio
import platform
import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from weakref import ref

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitBreaker, Event, Listener, StateChanged, WouldHaveOpened
from steadyvoice.service.metrics import metric_definitions as definitions
from steadyvoice.service.metrics.metric_definitions import MetricDefinition
from steadyvoice.service.metrics.state_metrics import Labels, MetricValues, state_metrics
from steadyvoice.service.observers import EndedUtterance, UtteranceObserver
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.service.result import Attempt, UtteranceReport

NO_PROVIDER = "none"
"""Label of calls and audio that no provider spoke."""

_LIBRARY, _CONVERSATION = "library", "conversation"


class LabelledCounter:
    """Counter by label values."""

    def __init__(self, definition: MetricDefinition) -> None:
        self.definition = definition
        self._counts: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """Increase the count of these label values."""
        self._counts[labels] = self._counts.get(labels, 0.0) + amount

    def add_all(self, amounts: Mapping[Labels, float]) -> None:
        """Increase the counts by amounts."""
        counts = self._counts
        for labels, amount in amounts.items():
            counts[labels] = counts.get(labels, 0.0) + amount

    def read(self) -> MetricValues:
        """Return the present counts."""
        return MetricValues(self.definition, self._counts.copy())


class LabelledHistogram:
    """Histogram by label values."""

    def __init__(self, definition: MetricDefinition) -> None:
        self.definition = definition
        self.listener: Callable[[Labels, Iterable[float]], object] | None = None
        """Function that gets the values as well, with their labels."""
        self._buckets = definition.buckets
        self._series: dict[Labels, tuple[list[int], list[float]]] = {}  # counts of the buckets, and the sum

    def add(self, labels: Labels, value: float) -> None:
        """Observe a value."""
        self.add_all({labels: (value,)})

    def add_all(self, values: Mapping[Labels, Sequence[float]]) -> None:
        """Observe values by their labels."""
        bounds = self._buckets
        for labels, observed in values.items():
            series = self._series.get(labels)
            if series is None:
                series = self._series[labels] = ([0] * (len(bounds) + 1), [0.0])
            buckets, total = series
            # Counted in one bucket only, and summed up at the scrape: prometheus-client's cumulative buckets would be
            # up to fifteen additions for each value.
            for value in observed:
                buckets[bisect_left(bounds, value)] += 1
                total[0] += value
            if self.listener:
                self.listener(labels, observed)

    def series(self) -> Iterator[tuple[Labels, Sequence[int], float]]:
        """Yield the labels, the count of each bucket, which are not cumulative, and the sum of the values."""
        for labels, (buckets, total) in list(self._series.items()):
            yield labels, buckets, total[0]


class MeasuredService(Protocol):
    """Service, as its metrics see it."""

    @property
    def lag(self) -> LoopLag:
        """Lag of its event loop."""
        ...

    @property
    def circuits(self) -> Mapping[str, CircuitBreaker]:
        """Circuit breakers by name of the provider."""
        ...

    @property
    def streams(self) -> Collection[object]:
        """Streams in progress."""
        ...

    @property
    def relays(self) -> Collection[object]:
        """Relays in progress."""
        ...

    @property
    def turns(self) -> Collection[object]:
        """Turns in progress."""
        ...

    def get_error_state(self) -> dict[str, Any]:
        """Return the error state."""
        ...

    def observe(self, observer: UtteranceObserver) -> Callable[[], None]:
        """Tell an observer of each utterance that ends; return a function that ends it."""
        ...

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call a listener with every event of every circuit; return a function that ends it."""
        ...


class ServiceMetrics:
    """Metrics of one service from its construction until `close()`: of its circuits, and of the calls that are counted.

    `observe_calls` has it count all calls of the service; a gateway counts them itself, by its own API's names.
    """

    def __init__(self, service: MeasuredService) -> None:
        self.requests = LabelledCounter(definitions.REQUESTS)
        self.characters, self.audio = LabelledCounter(definitions.CHARACTERS), LabelledCounter(definitions.AUDIO)
        self.attempts = LabelledCounter(definitions.ATTEMPTS)
        self.first_audio = LabelledHistogram(definitions.FIRST_AUDIO)
        self.duration = LabelledHistogram(definitions.DURATION)
        self.provider_first_audio = LabelledHistogram(definitions.PROVIDER_FIRST_AUDIO)
        self._transitions = LabelledCounter(definitions.TRANSITIONS)
        self._would_open = LabelledCounter(definitions.WOULD_OPEN)
        self._recovery = LabelledHistogram(definitions.RECOVERY)
        self.histograms = (self.first_audio, self.duration, self.provider_first_audio, self._recovery)
        self.extension: Callable[[], Iterable[MetricValues]] | None = None
        """Function of a gateway, which gives all values, those of the service included; None without one."""
        self._gateway_loop: asyncio.AbstractEventLoop | None = None
        self._service = ref(service)  # which refers to this
        self._lock = threading.Lock()  # a fleet changes circuits in a thread of its own
        self._end_calls: Callable[[], None] | None = None
        self._end_events = service.subscribe(self._circuit_event)

    def observe_calls(self) -> None:
        """Count all calls of the service from now on."""
        if service := self._service():
            self._end_calls = service.observe(self)

    def leave_calls(self) -> None:
        """Count no calls any more."""
        if self._end_calls:
            self._end_calls()
            self._end_calls = None

    def extend(self, read: Callable[[], Iterable[MetricValues]]) -> None:
        """Leave calls to a gateway on the running event loop, whose values are read instead of the service's own."""
        self.leave_calls()
        self.extension, self._gateway_loop = read, running_loop()

    def close(self) -> None:
        """Count nothing any more."""
        self.leave_calls()
        self._end_events()
        self.extension = self._gateway_loop = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Event loop in which the values change; None before the first call."""
        service = self._service()
        return self._gateway_loop or (service.lag.loop if service else None)

    @property
    def is_gone(self) -> bool:
        """True if the service was dropped without being closed."""
        return self._service() is None

    def read(self) -> Iterable[MetricValues]:
        """Return all counters and gauges of the process's service, or of the gateway in front of it."""
        return self.extension() if self.extension else self.collect()

    def collect(self) -> Iterator[MetricValues]:
        """Yield the counters and gauges of the service alone."""
        for counter in (self.requests, self.characters, self.audio, self.attempts, self._transitions, self._would_open):
            yield counter.read()
        if service := self._service():
            yield from state_metrics(service.get_error_state())
            utterances = len(service.streams) + len(service.relays) + len(service.turns)
            yield MetricValues(definitions.STREAMS, {(): utterances})
        yield MetricValues(definitions.BUILD, {(__version__, platform.python_version()): 1})

    def utterance_ended(self, ended: EndedUtterance) -> None:
        """Count an utterance, or a turn of a conversation."""
        report, api = ended.report, _CONVERSATION if ended.is_turn else _LIBRARY
        self.requests.add((api, report.provider or NO_PROVIDER, report.outcome))
        self.duration.add((api,), ended.seconds)
        if (seconds := ended.first_audio) is not None:
            self.first_audio.add((api,), seconds)
        self.count(report)

    def count(self, report: UtteranceReport) -> None:
        """Count what a call delivered, and its attempts."""
        for span in report.spans:
            labels = (span.provider or NO_PROVIDER,)
            self.characters.add(labels, span.end - span.begin)
            self.audio.add(labels, span.stop - span.start)
        for attempt in report.attempts:
            self.attempts.add((attempt.provider, attempt_label(attempt)))
            if attempt.first_audio is not None:
                self.provider_first_audio.add((attempt.provider,), attempt.first_audio)

    def _circuit_event(self, event: Event) -> None:
        with self._lock:
            match event:
                case StateChanged():
                    states = (event.from_state.value, event.to_state.value)
                    self._transitions.add((event.name, *states, event.cause.value))
                    if event.is_recovery:
                        self._add_recovery(event.name)
                case WouldHaveOpened():
                    self._would_open.add((event.name, event.cause.value))

    def _add_recovery(self, name: str) -> None:
        service = self._service()
        seconds = service.circuits[name].snapshot().recoveries.last_seconds if service else None
        if seconds is not None:
            self._recovery.add((name,), seconds)


def attempt_label(attempt: Attempt) -> str:
    """Return the result of an attempt: `ok`, or the kind of its failure."""
    return attempt.error.kind.value if attempt.error else "ok"


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread; None if there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
