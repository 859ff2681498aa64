"""Prometheus metrics (`GET /metrics`): counters, histograms, and gauges read at scrape time.

Counts are plain dictionaries without locks, because one event loop writes them all. prometheus-client encodes them;
its own counters would add a `_created` series for each.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate, chain
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.utils import floatToGoString

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitState, Event, StateChanged, WouldHaveOpened
from steadyvoice.gateway.access_control import RouteClass
from steadyvoice.gateway.context import FinishedCall, GatewayContext, RequestObserver, Workers
from steadyvoice.gateway.http import Receive, Response, Scope, Send
from steadyvoice.gateway.observability import metric_definitions
from steadyvoice.gateway.observability.metric_definitions import MetricDefinition
from steadyvoice.gateway.observability.recent_calls import first_audio
from steadyvoice.gateway.request_context import RequestContext, client_outcome, request_context
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.gateway.workers.merging import MetricSamples, merged_samples
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.result import Attempt, ReportedUtterance, UtteranceReport
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import Blame, FailureKind, meaning_of

Labels = tuple[str, ...]

SERVICE_LEVELS = ("good", "late", "substituted", "cut", "muted", "failed")
"""Results of utterances for their callers; `good` is first audio in time, whole, in the wanted voice."""

_TEST_CALLS = "say"
_MISTAKES = {kind for kind in FailureKind if meaning_of(kind).blame is Blame.CALLER} - {FailureKind.DEADLINE}


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

    def collected(self) -> Metric:
        """Return the counter as a metric of prometheus-client."""
        return filled_metric(self.definition, self._counts)


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

    def collected(self) -> Metric:
        """Return the histogram as a metric of prometheus-client, whose buckets are cumulative."""
        definition = self.definition
        metric = HistogramMetricFamily(definition.name, definition.help, labels=definition.labels)
        bounds = [*map(floatToGoString, definition.buckets), "+Inf"]
        for labels, (buckets, total) in self._series.items():
            metric.add_metric(labels, list(zip(bounds, accumulate(buckets), strict=True)), total[0])
        return metric


def filled_metric(definition: MetricDefinition, values: dict[Labels, float]) -> Metric:
    """Return a counter or gauge with these values."""
    kind = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
    metric = kind(definition.name, definition.help, labels=definition.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric


_NONE = "none"


class Metrics(RequestObserver):
    """Metrics of one gateway: observer of requests, collector of prometheus-client, and the endpoint that serves it."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._requests, self._http = (
            LabelledCounter(metric_definitions.REQUESTS),
            LabelledCounter(metric_definitions.HTTP),
        )
        self._service_level = LabelledCounter(metric_definitions.SERVICE_LEVEL)
        self._characters, self._audio = (
            LabelledCounter(metric_definitions.CHARACTERS),
            LabelledCounter(metric_definitions.AUDIO),
        )
        self._attempts = LabelledCounter(metric_definitions.ATTEMPTS)
        self._transitions, self._would_open = (
            LabelledCounter(metric_definitions.TRANSITIONS),
            LabelledCounter(metric_definitions.WOULD_OPEN),
        )
        self._first_audio, self._duration = (
            LabelledHistogram(metric_definitions.FIRST_AUDIO),
            LabelledHistogram(metric_definitions.DURATION),
        )
        self._provider_first_audio = LabelledHistogram(metric_definitions.PROVIDER_FIRST_AUDIO)
        self._recovery = LabelledHistogram(metric_definitions.RECOVERY)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        context.answers["metrics"] = lambda argument: exported_samples(self.collect())
        context.on_stopped.append(context.subscribe(self._circuit_event))

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, account: ReportedUtterance
    ) -> None:
        """Count a finished utterance."""
        report = account.report
        self._requests.add((api, account.provider or _NONE, client_outcome(request, account)))
        self._duration.add((api,), request.seconds_at(self._context.clock()))
        if (seconds := first_audio(request)) is not None:
            self._first_audio.add((api,), seconds)
        if api != _TEST_CALLS and (level := service_level(request, order, account, self._context.server)):
            self._count_levels({(api, level): 1})
        self._count(report)

    def request_finished(self, request: RequestContext) -> None:
        """Count a finished request of any kind."""
        status = _NONE if request.status is None else f"{request.status // 100}xx"
        self._http.add((request.route_class.value, status))

    def usual_calls_finished(self, calls: Sequence[FinishedCall]) -> None:
        """Count requests that were spoken by one provider and sent to their end."""
        requests: dict[Labels, float] = defaultdict(float)
        characters, audio, attempts = requests.copy(), requests.copy(), requests.copy()
        seconds: dict[Labels, list[float]] = defaultdict(list)
        first_audio, provider_first_audio = seconds.copy(), seconds.copy()
        levels, objective = requests.copy(), self._context.server.first_audio_objective
        for request, api, _, _, speech in calls:
            provider = speech.provider
            requests[api, provider, speech.outcome] += 1
            now, began = request.finished_at, request.response_started_at
            if now is not None and began is not None:
                seconds[api,].append(now - request.received_at)
                first_audio[api,].append(began - request.received_at)
                in_time = began - request.received_at <= objective
                # Streams that one provider spoke: of their outcomes, only a substitute is not as good as asked for.
                substituted = speech.outcome not in ("spoken", "cached")
                levels[api, "substituted" if substituted else "good" if in_time else "late"] += 1
            characters[provider,] += speech.characters
            audio[provider,] += speech.audio
            for refusal in speech.refusals:
                attempts[refusal.provider, refusal.kind] += 1
            attempts[provider, "ok"] += 1
            if speech.first_audio is not None:
                provider_first_audio[provider,].append(speech.first_audio)
        self._requests.add_all(requests)
        self._count_levels(levels)
        self._characters.add_all(characters)
        self._audio.add_all(audio)
        self._attempts.add_all(attempts)
        self._duration.add_all(seconds)
        self._first_audio.add_all(first_audio)
        self._provider_first_audio.add_all(provider_first_audio)
        self._http.add((RouteClass.SPEECH.value, "2xx"), len(calls))

    def histogram(self, definition: MetricDefinition) -> LabelledHistogram:
        """Return the histogram with this definition."""
        histograms = (self._first_audio, self._duration, self._provider_first_audio, self._recovery)
        return next(each for each in histograms if each.definition is definition)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, for prometheus-client."""
        self._context.record_finished()
        for counter in (self._requests, self._service_level, self._http, self._characters, self._audio, self._attempts):
            yield counter.collected()
        for counter in (self._transitions, self._would_open):
            yield counter.collected()
        for histogram in (self._first_audio, self._duration, self._provider_first_audio, self._recovery):
            yield histogram.collected()
        yield from _state_metrics(self._context.service.get_error_state())
        yield from _gateway_metrics(self._context)
        yield from worker_metrics({"workers": ()})  # those of the supervisor are not merged: each worker has them all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `GET /metrics` in the format that the client accepts, Prometheus text or OpenMetrics."""
        accepted = request_context(scope).headers.get(b"accept", b"").decode("latin-1")
        registry = await self._of_all_workers(self._context.workers) if self._context.workers else self.registry
        try:
            encode, content_type = choose_encoder(accepted)
            body = encode(registry)
        # prometheus-client parses the version in the Accept header without checks, whatever stands there.
        except (ValueError, TypeError, LookupError):
            body, content_type = generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
        await Response(body=body, content_type=content_type)(scope, receive, send)

    async def _of_all_workers(self, workers: Workers) -> CollectorRegistry:
        """Return the metrics of all workers, those that ended included."""
        own = {metric.name: metric for metric in worker_metrics(workers.status())}
        merged = imported_metrics(merged_samples(await workers.gather("metrics")))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected([own.get(metric.name, metric) for metric in merged]))
        return registry

    def _count_levels(self, counts: Mapping[Labels, float]) -> None:
        # All results of an API appear with its first call: Prometheus sees no increase in a counter that is new.
        for api in {api for api, _ in counts}:
            self._service_level.add_all({(api, level): 0 for level in SERVICE_LEVELS})
        self._service_level.add_all(counts)

    def _count(self, report: UtteranceReport) -> None:
        for span in report.spans:
            labels = (span.provider or _NONE,)
            self._characters.add(labels, span.end - span.begin)
            self._audio.add(labels, span.stop - span.start)
        for attempt in report.attempts:
            self._attempts.add((attempt.provider, _result(attempt)))
            if attempt.first_audio is not None:
                self._provider_first_audio.add((attempt.provider,), attempt.first_audio)

    def _circuit_event(self, event: Event) -> None:
        match event:
            case StateChanged():
                states = (event.from_state.value, event.to_state.value)
                self._transitions.add((event.name, *states, event.cause.value))
                if event.is_recovery:
                    self._add_recovery(event.name)
            case WouldHaveOpened():
                self._would_open.add((event.name, event.cause.value))

    def _add_recovery(self, name: str) -> None:
        seconds = self._context.service.circuits[name].snapshot().recoveries.last_seconds
        if seconds is not None:
            self._recovery.add((name,), seconds)


def service_level(
    request: RequestContext, order: GatewaySpeechRequest, account: ReportedUtterance, settings: ServerConfig
) -> str | None:
    """Return the result of an utterance for its caller; None if the caller left, or made a mistake.

    An answer that is sent whole is late by the audio that it has: it may take as much longer.
    """
    error, seconds = account.report.error, first_audio(request)
    match client_outcome(request, account):
        case "interrupted":
            return None
        # A call's own deadline is no mistake: a vendor that hangs makes all of them expire.
        case "failed" if isinstance(error, TTSError) and error.kind in _MISTAKES:
            return None
        case "failed":
            return "failed" if seconds is None else "cut"
        case "muted" | "recorded":
            return "muted"
        case "substituted" | "resumed":
            return "substituted"
        case _:
            allowed = settings.first_audio_objective + (account.duration if order.buffered else 0.0)
            return "late" if seconds is None or seconds > allowed else "good"


class _Collected:
    """Collector of metrics that are collected already."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


_DEFINITIONS = {each.name.removesuffix("_total"): each for each in metric_definitions.METRIC_DEFINITIONS}
"""Definitions by name; prometheus-client names a counter without its ending."""


def exported_samples(metrics: Iterable[Metric]) -> list[MetricSamples]:
    """Return metrics as plain values for another worker."""
    return [
        MetricSamples(
            metric.name,
            metric.type,
            _DEFINITIONS[metric.name].rule,
            [(sample.name, tuple(chain(*sample.labels.items())), sample.value) for sample in metric.samples],
        )
        for metric in metrics
    ]


def imported_metrics(exported: Iterable[MetricSamples]) -> Iterator[Metric]:
    """Yield the metrics that were exported."""
    for name, kind, _, samples in exported:
        metric = Metric(name, _DEFINITIONS[name].help, kind)
        for sample, labels, value in samples:
            metric.add_sample(sample, dict(zip(labels[::2], labels[1::2], strict=True)), value)
        yield metric


def worker_metrics(status: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of a gateway's worker processes, by what any of them knows."""
    states = Counter(worker["state"] for worker in status["workers"])
    yield filled_metric(metric_definitions.WORKERS, {(state,): float(count) for state, count in states.items()})
    restarts = sum(worker["restarts"] for worker in status["workers"])
    yield filled_metric(metric_definitions.WORKER_RESTARTS, {(): restarts})


def _result(attempt: Attempt) -> str:
    return attempt.error.kind.value if attempt.error else "ok"


def _state_metrics(state: dict[str, Any]) -> Iterator[Metric]:
    """Yield the metrics that are read from the error state."""
    states: dict[str, dict[str, Any]] = state["providers"]
    yield filled_metric(metric_definitions.STATE, _circuit_states(states))
    for definition, steps in _GAUGES.items():
        values = {(name,): _value_at(each, steps) for name, each in states.items()}
        yield filled_metric(definition, {labels: value for labels, value in values.items() if value is not None})
    yield filled_metric(metric_definitions.CALLS, _per_provider(states, "totals", _CALL_RESULTS))
    yield filled_metric(
        metric_definitions.BILLED, _per_provider(states, "bills", {"billed": "billed", "unknown": "unknown"})
    )
    wasted: dict[Labels, float] = {
        (name, cause): n for name, each in states.items() for cause, n in each["bills"]["wasted_by"].items()
    }
    yield filled_metric(metric_definitions.WASTED, wasted)
    yield filled_metric(metric_definitions.HOLDS, _holds(states))
    yield filled_metric(metric_definitions.MUTED, {(): float(state["is_muted"])})
    yield from _overload_metrics(state["overload"])
    yield from _cache_metrics(state["cache"] or {})
    yield from _journal_metrics(state["journal"])
    yield from _fleet_metrics(state["fleet"])
    hedging = state["hedging"] or {}
    yield filled_metric(
        metric_definitions.HEDGES, {(result,): hedging[result] for result in _HEDGE_RESULTS if result in hedging}
    )


_HEDGE_RESULTS = ("won", "lost", "budget_exhausted", "no_candidate", "deferred_to_circuit")
_CALL_RESULTS = {"successes": "success", "failures": "failure", "ignored": "ignored"}

_GAUGES: dict[MetricDefinition, tuple[str, ...]] = {
    metric_definitions.FAILURE_RATE: ("failure_rate",),
    metric_definitions.WINDOW_CALLS: ("window", "calls"),
    metric_definitions.OPENED_AT: ("circuit_opened_at",),
    metric_definitions.RETRY_AFTER: ("retry_after",),
    metric_definitions.REFUSED: ("totals", "refused"),
    metric_definitions.PROVIDER_MUTED: ("is_muted",),
    metric_definitions.RUNNING: ("concurrency", "in_use"),
    metric_definitions.LIMIT: ("concurrency", "limit"),
    metric_definitions.WAITING: ("concurrency", "waiting"),
    metric_definitions.CREDIT: ("credit", "remaining"),
    metric_definitions.CREDIT_RATE: ("credit", "per_hour"),
    metric_definitions.CREDIT_ENDS: ("credit", "ends_in"),
}


def _value_at(state: Any, steps: tuple[str, ...]) -> float | None:
    """Return the number at this path of keys, or None. Times of day become seconds since 1970."""
    for step in steps:
        if state is None:
            return None
        state = state[step]
    return datetime.fromisoformat(state).timestamp() if isinstance(state, str) else state


def _circuit_states(states: dict[str, dict[str, Any]]) -> dict[Labels, float]:
    return {
        (name, state.value): float(each["circuit_state"] == state.value)
        for name, each in states.items()
        for state in CircuitState
    }


def _per_provider(states: dict[str, dict[str, Any]], field_group: str, fields: dict[str, str]) -> dict[Labels, float]:
    return {(name, label): each[field_group][field] for name, each in states.items() for field, label in fields.items()}


def _holds(states: dict[str, dict[str, Any]]) -> dict[Labels, float]:
    counts: dict[Labels, float] = {}
    for name, each in states.items():
        for hold in each["holds"]:
            counts[name, hold["kind"]] = counts.get((name, hold["kind"]), 0.0) + 1
    return counts


def _cache_metrics(cache: dict[str, Any]) -> Iterator[Metric]:
    results = {"hits": "hit", "misses": "miss", "joined": "joined"}
    yield filled_metric(
        metric_definitions.CACHE, {(label,): cache[field] for field, label in results.items() if field in cache}
    )
    yield filled_metric(metric_definitions.CACHE_KEPT, {(): cache["kept"]} if cache else {})
    yield filled_metric(metric_definitions.CACHE_FAILING, {(): float(cache["error"] is not None)} if cache else {})


def _journal_metrics(journal: dict[str, Any] | None) -> Iterator[Metric]:
    lines: dict[Labels, float] = {(result,): journal[result] for result in ("written", "lost")} if journal else {}
    yield filled_metric(metric_definitions.JOURNAL_LINES, lines)
    failing: dict[Labels, float] = {(): float(journal["error"] is not None)} if journal else {}
    yield filled_metric(metric_definitions.JOURNAL_FAILING, failing)


def _fleet_metrics(fleet: dict[str, Any] | None) -> Iterator[Metric]:
    """Yield the metrics of the fleet, without values if there is none."""
    values: dict[MetricDefinition, dict[Labels, float]] = {
        definition: {}
        for definition in (
            metric_definitions.FLEET_REPLICAS,
            metric_definitions.FLEET_STATE,
            metric_definitions.FLEET_OUTLIER,
            metric_definitions.FLEET_MISSED_BEATS,
            metric_definitions.FLEET_DUPLICATE_PROBES,
            metric_definitions.FLEET_SLOTS,
        )
    }
    if fleet:
        values[metric_definitions.FLEET_REPLICAS][()] = len(fleet["replicas"]) + 1
        values[metric_definitions.FLEET_MISSED_BEATS][()] = fleet["missed_beats"]
        for state in ("together", "stale", "alone"):
            values[metric_definitions.FLEET_STATE][state,] = float(fleet["state"] == state)
        for name, circuit in fleet["circuits"].items():
            values[metric_definitions.FLEET_OUTLIER][name,] = float(circuit["is_outlier"])
            values[metric_definitions.FLEET_DUPLICATE_PROBES][name,] = circuit["duplicate_probes"]
        for name, slots in fleet["slots"].items():
            for kind, field in (("lent", "block"), ("used", "used"), ("queued", "queued")):
                values[metric_definitions.FLEET_SLOTS][name, kind] = slots[field]
    for definition, labelled in values.items():
        yield filled_metric(definition, labelled)


def _overload_metrics(overload: dict[str, Any]) -> Iterator[Metric]:
    yield filled_metric(metric_definitions.ACTIVE, {(): overload["active"]})
    yield filled_metric(metric_definitions.QUEUED, {(): overload["queued"]})
    yield filled_metric(metric_definitions.OVERLOADED, {(): float(overload["overloaded"])})
    yield filled_metric(
        metric_definitions.NOT_ADMITTED, {(cause,): count for cause, count in overload["refused"].items()}
    )
    yield filled_metric(metric_definitions.LOOP_LAG, {(): overload["loop_lag"]})
    yield filled_metric(metric_definitions.LOOP_LOST, {(): overload["loop_lost"]})
    yield filled_metric(metric_definitions.QUEUE_WAIT, {(name,): wait for name, wait in overload["waits"].items()})


def _gateway_metrics(context: GatewayContext) -> Iterator[Metric]:
    traffic = context.traffic()
    yield filled_metric(metric_definitions.CONNECTIONS, {(): traffic.connections})
    yield filled_metric(metric_definitions.IN_FLIGHT, {(): traffic.requests})
    service = context.service
    utterances = len(service.streams) + len(service.relays) + len(service.turns)
    yield filled_metric(metric_definitions.WEBSOCKETS, {(): context.websockets})
    yield filled_metric(metric_definitions.STREAMS, {(): utterances})
    yield filled_metric(metric_definitions.BUILD, {(__version__, platform.python_version()): 1})
