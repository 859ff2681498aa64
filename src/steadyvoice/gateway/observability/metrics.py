"""Prometheus metrics (`GET /metrics`): counters, histograms, and gauges read at scrape time.

What the service counts by itself is in `service/metrics`. Counts are plain dictionaries without locks, because
one event loop writes them all. prometheus-client encodes them; its own counters would add a `_created` series for each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.utils import floatToGoString

from steadyvoice.gateway.access_control import RouteClass
from steadyvoice.gateway.context import FinishedCall, GatewayContext, RequestObserver, Workers
from steadyvoice.gateway.http import Receive, Response, Scope, Send
from steadyvoice.gateway.observability.recent_calls import first_audio
from steadyvoice.gateway.request_context import RequestContext, client_outcome, request_context
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.gateway.workers.merging import MetricSamples, merged_samples
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.metrics import metric_definitions as definitions
from steadyvoice.service.metrics.service_metrics import (
    NO_PROVIDER,
    LabelledCounter,
    LabelledHistogram,
    ServiceMetrics,
)
from steadyvoice.service.metrics.state_metrics import Labels, MetricValues
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import Blame, FailureKind, meaning_of

SERVICE_LEVELS = ("good", "late", "substituted", "cut", "muted", "failed")
"""Results of utterances for their callers; `good` is first audio in time, whole, in the wanted voice."""

_TEST_CALLS = "say"
_MISTAKES = {kind for kind in FailureKind if meaning_of(kind).blame is Blame.CALLER} - {FailureKind.DEADLINE}


def filled_metric(values: MetricValues) -> Metric:
    """Return a counter or gauge as a metric of prometheus-client."""
    definition = values.definition
    kind = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
    metric = kind(definition.name, definition.help, labels=definition.labels)
    for labels, value in values.values.items():
        metric.add_metric(labels, value)
    return metric


def filled_histogram(histogram: LabelledHistogram) -> Metric:
    """Return a histogram as a metric of prometheus-client, whose buckets are cumulative."""
    definition = histogram.definition
    metric = HistogramMetricFamily(definition.name, definition.help, labels=definition.labels)
    bounds = [*map(floatToGoString, definition.buckets), "+Inf"]
    for labels, buckets, total in histogram.series():
        metric.add_metric(labels, list(zip(bounds, accumulate(buckets), strict=True)), total)
    return metric


class Metrics(RequestObserver):
    """Metrics of one gateway: observer of requests, collector of prometheus-client, and the endpoint that serves it."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        own = context.service.metrics
        self._service = service = own or ServiceMetrics(context.service)
        self._service_level = LabelledCounter(definitions.SERVICE_LEVEL)
        self._http = LabelledCounter(definitions.HTTP)
        self._requests, self._attempts = service.requests, service.attempts
        self._characters, self._audio = service.characters, service.audio
        self._duration, self._first_audio = service.duration, service.first_audio
        self._provider_first_audio = service.provider_first_audio
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        context.answers["metrics"] = lambda argument: exported_samples(self.collect())
        if own:
            own.extend(self._exported)
        context.on_stopped.append(context.service.close_metrics if own else service.close)

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
    ) -> None:
        """Count a finished utterance."""
        self._requests.add((api, utterance.provider or NO_PROVIDER, client_outcome(request, utterance)))
        self._duration.add((api,), request.seconds_at(self._context.clock()))
        if (seconds := first_audio(request)) is not None:
            self._first_audio.add((api,), seconds)
        if api != _TEST_CALLS and (level := service_level(request, order, utterance, self._context.server)):
            self._count_levels({(api, level): 1})
        self._service.count(utterance.report)

    def request_finished(self, request: RequestContext) -> None:
        """Count a finished request of any kind."""
        status = NO_PROVIDER if request.status is None else f"{request.status // 100}xx"
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

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, for prometheus-client."""
        yield from map(filled_metric, self._values())
        yield from map(filled_histogram, self._service.histograms)
        yield from worker_metrics({"workers": ()})  # those of the supervisor are not merged: each worker has them all

    def _values(self) -> Iterator[MetricValues]:
        self._context.record_finished()
        yield from self._service.collect()
        yield self._service_level.read()
        yield self._http.read()
        yield from _gateway_metrics(self._context)

    def _exported(self) -> Iterator[MetricValues]:
        """Yield what this process reports to OpenTelemetry: of several workers, each reports its own."""
        yield from self._values()
        workers = self._context.workers
        # Each of them knows all about all of them, so that one is enough.
        if workers is None or workers.number == 1:
            yield from worker_values(workers.status() if workers else {"workers": ()})

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


def service_level(
    request: RequestContext, order: GatewaySpeechRequest, utterance: ReportedUtterance, settings: ServerConfig
) -> str | None:
    """Return the result of an utterance for its caller; None if the caller left, or made a mistake.

    An answer that is sent whole is late by the audio that it has: it may take as much longer.
    """
    error, seconds = utterance.report.error, first_audio(request)
    match client_outcome(request, utterance):
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
            allowed = settings.first_audio_objective + (utterance.duration if order.buffered else 0.0)
            return "late" if seconds is None or seconds > allowed else "good"


class _Collected:
    """Collector of metrics that are collected already."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


_DEFINITIONS = {each.name.removesuffix("_total"): each for each in definitions.METRIC_DEFINITIONS}
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
    return map(filled_metric, worker_values(status))


def worker_values(status: Mapping[str, Any]) -> Iterator[MetricValues]:
    """Yield the values of the metrics of a gateway's worker processes."""
    states = Counter(worker["state"] for worker in status["workers"])
    yield MetricValues(definitions.WORKERS, {(state,): float(count) for state, count in states.items()})
    restarts = sum(worker["restarts"] for worker in status["workers"])
    yield MetricValues(definitions.WORKER_RESTARTS, {(): restarts})


def _gateway_metrics(context: GatewayContext) -> Iterator[MetricValues]:
    traffic = context.traffic()
    yield MetricValues(definitions.CONNECTIONS, {(): traffic.connections})
    yield MetricValues(definitions.IN_FLIGHT, {(): traffic.requests})
    yield MetricValues(definitions.WEBSOCKETS, {(): context.websockets})
