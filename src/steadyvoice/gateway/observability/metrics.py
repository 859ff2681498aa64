"""Prometheus metrics (`GET /metrics`): counters, histograms, and gauges read at scrape time.

Counts are plain dictionaries without locks, because one event loop writes them all. prometheus-client encodes them;
its own counters would add a `_created` series for each.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.utils import floatToGoString

from steadyvoice._version import __version__
from steadyvoice.breaker import CircuitState, Event, StateChanged, WouldHaveOpened
from steadyvoice.breaker.states import Cause
from steadyvoice.gateway.context import GatewayContext
from steadyvoice.gateway.http import Receive, Response, Scope, Send
from steadyvoice.gateway.observability import metric_definitions
from steadyvoice.gateway.observability.metric_definitions import MetricDefinition
from steadyvoice.gateway.observability.recent_calls import first_audio
from steadyvoice.gateway.request_context import RequestContext, client_outcome, request_context
from steadyvoice.gateway.speech_request import SpeechOrder
from steadyvoice.service.result import Attempt, ReportedUtterance, UtteranceReport

Labels = tuple[str, ...]


class LabelledCounter:
    """What only grows: so many of each."""

    def __init__(self, family: MetricDefinition) -> None:
        self.family = family
        self._counts: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """So many more."""
        self._counts[labels] = self._counts.get(labels, 0.0) + amount

    def collected(self) -> Metric:
        """As it is written down."""
        return filled_metric(self.family, self._counts)


class LabelledHistogram:
    """How values lie between the bounds of a family."""

    def __init__(self, family: MetricDefinition) -> None:
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


def filled_metric(family: MetricDefinition, values: dict[Labels, float]) -> Metric:
    """A counter or gauge with these values."""
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.told, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric


_NONE = "none"


class Metrics:
    """One gateway's own. Everything here happens in its event loop."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._requests, self._http = (
            LabelledCounter(metric_definitions.REQUESTS),
            LabelledCounter(metric_definitions.HTTP),
        )
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
        context.on_stopped.append(context.service.subscribe(self._moved))

    def speech_finished(
        self, request: RequestContext, door: str, order: SpeechOrder, account: ReportedUtterance
    ) -> None:
        """An utterance is over."""
        spoken = account.report
        self._requests.add((door, spoken.provider or _NONE, client_outcome(request, account)))
        self._duration.add((door,), self._context.clock() - request.received_at)
        if (soon := first_audio(request)) is not None:
            self._first_audio.add((door,), soon)
        self._count(spoken)

    def request_finished(self, request: RequestContext) -> None:
        """A request of any kind is over."""
        status = _NONE if request.status is None else f"{request.status // 100}xx"
        self._http.add((request.route_class.value, status))

    def collect(self) -> Iterator[Metric]:
        """All of it, as prometheus-client wants it."""
        for kept in (self._requests, self._http, self._characters, self._audio, self._attempts):
            yield kept.collected()
        for kept in (self._transitions, self._would_open):
            yield kept.collected()
        for spread in (self._first_audio, self._duration, self._provider_first_audio, self._recovery):
            yield spread.collected()
        yield from _state_metrics(self._context.service.get_error_state())
        yield from _gateway_metrics(self._context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `GET /metrics`, in the form that the caller accepts."""
        accepted = request_context(scope).headers.get(b"accept", b"").decode("latin-1")
        try:
            encode, content_type = choose_encoder(accepted)
            body = encode(self.registry)
        except (ValueError, TypeError, LookupError):  # prometheus-client compares whatever stands there as a version
            body, content_type = generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4
        await Response(body=body, content_type=content_type)(scope, receive, send)

    def _count(self, spoken: UtteranceReport) -> None:
        for span in spoken.spans:
            who = (span.provider or _NONE,)
            self._characters.add(who, span.end - span.begin)
            self._audio.add(who, span.stop - span.start)
        for attempt in spoken.attempts:
            self._attempts.add((attempt.provider, _result(attempt)))
            if attempt.first_audio is not None:
                self._provider_first_audio.add((attempt.provider,), attempt.first_audio)

    def _moved(self, event: Event) -> None:
        match event:
            case StateChanged():
                where = (event.from_state.value, event.to_state.value)
                self._transitions.add((event.name, *where, event.cause.value))
                if event.cause is Cause.PROBES_SUCCEEDED:
                    self._recovered(event.name)
            case WouldHaveOpened():
                self._would_open.add((event.name, event.cause.value))

    def _recovered(self, name: str) -> None:
        took = self._context.service.circuits[name].snapshot().recoveries.last_seconds
        if took is not None:
            self._recovery.add((name,), took)


def _result(attempt: Attempt) -> str:
    return attempt.error.kind.value if attempt.error else "ok"


def _state_metrics(state: dict[str, Any]) -> Iterator[Metric]:
    """What the error state tells."""
    states: dict[str, dict[str, Any]] = state["providers"]
    yield filled_metric(metric_definitions.STATE, _circuit_states(states))
    for family, steps in _GAUGES.items():
        values = {(name,): _value_at(each, steps) for name, each in states.items()}
        yield filled_metric(family, {labels: value for labels, value in values.items() if value is not None})
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
    hedging = state["hedging"] or {}
    yield filled_metric(
        metric_definitions.HEDGES, {(word,): hedging[word] for word in _HEDGE_RESULTS if word in hedging}
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
    """The number that lies there, if any does. Times of day become seconds since 1970."""
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


def _per_provider(states: dict[str, dict[str, Any]], where: str, fields: dict[str, str]) -> dict[Labels, float]:
    return {(name, word): each[where][field] for name, each in states.items() for field, word in fields.items()}


def _holds(states: dict[str, dict[str, Any]]) -> dict[Labels, float]:
    counts: dict[Labels, float] = {}
    for name, each in states.items():
        for hold in each["holds"]:
            counts[name, hold["kind"]] = counts.get((name, hold["kind"]), 0.0) + 1
    return counts


def _cache_metrics(cache: dict[str, Any]) -> Iterator[Metric]:
    results = {"hits": "hit", "misses": "miss", "joined": "joined"}
    yield filled_metric(
        metric_definitions.CACHE, {(word,): cache[field] for field, word in results.items() if field in cache}
    )
    yield filled_metric(metric_definitions.CACHE_KEPT, {(): cache["kept"]} if cache else {})
    yield filled_metric(metric_definitions.CACHE_FAILING, {(): float(cache["error"] is not None)} if cache else {})


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
    yield filled_metric(metric_definitions.STREAMS, {(): len(context.service.streams)})
    yield filled_metric(metric_definitions.BUILD, {(__version__, platform.python_version()): 1})
