"""Definitions of all metrics: name, kind, labels and help text, as listed in docs/metrics.md.

No label takes a value that a caller could choose: APIs, route classes, kinds, causes and states are fixed lists, and
providers are those of the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric, by all its labels. Seconds, characters, shares between 0 and 1."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    told: str
    bounds: tuple[float, ...] = ()  # of a histogram's buckets


_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 45.0, 90.0, 180.0, 600.0)
_OUTAGE_BUCKETS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)
_CALL_LABELS = ("door", "provider", "outcome")

# What callers got.
REQUESTS = MetricDefinition(
    "steadyvoice_requests_total", "counter", _CALL_LABELS, "Utterances, by how they ended and who spoke"
)
FIRST_AUDIO = MetricDefinition(
    "steadyvoice_first_audio_seconds", "histogram", ("door",), "From request to first audio", _LATENCY_BUCKETS
)
DURATION = MetricDefinition(
    "steadyvoice_request_seconds", "histogram", ("door",), "From request to the last byte", _DURATION_BUCKETS
)
CHARACTERS = MetricDefinition(
    "steadyvoice_characters_total", "counter", ("provider",), "Characters said; provider none: silence"
)
AUDIO = MetricDefinition(
    "steadyvoice_audio_seconds_total", "counter", ("provider",), "Audio made; provider none: silence"
)
MUTED = MetricDefinition("steadyvoice_muted", "gauge", (), "1 while callers hear silence")
HTTP = MetricDefinition(
    "steadyvoice_http_requests_total", "counter", ("room", "status"), "Requests of any kind, by status class"
)
CONNECTIONS = MetricDefinition("steadyvoice_connections", "gauge", (), "Connections that are open")
IN_FLIGHT = MetricDefinition("steadyvoice_http_requests_in_flight", "gauge", (), "Requests that are being answered")
STREAMS = MetricDefinition("steadyvoice_streams_in_flight", "gauge", (), "Utterances that are being spoken")

# Circuits.
STATE = MetricDefinition(
    "steadyvoice_circuit_state", "gauge", ("provider", "state"), "1 for the state it is in, 0 for others"
)
FAILURE_RATE = MetricDefinition(
    "steadyvoice_circuit_failure_rate", "gauge", ("provider",), "Share of failures in the window"
)
WINDOW_CALLS = MetricDefinition("steadyvoice_circuit_window_calls", "gauge", ("provider",), "Calls in the window")
OPENED_AT = MetricDefinition(
    "steadyvoice_circuit_opened_timestamp_seconds", "gauge", ("provider",), "When it opened, since 1970; absent if not"
)
CALLS = MetricDefinition(
    "steadyvoice_circuit_calls_total", "counter", ("provider", "result"), "Calls, by what they were to it"
)
REFUSED = MetricDefinition("steadyvoice_circuit_refused_total", "counter", ("provider",), "Calls it refused")
TRANSITIONS = MetricDefinition(
    "steadyvoice_circuit_transitions_total", "counter", ("provider", "from", "to", "reason"), "Changes of state"
)
WOULD_OPEN = MetricDefinition(
    "steadyvoice_circuit_would_have_opened_total", "counter", ("provider", "reason"), "Only watching, it would have"
)
RECOVERY = MetricDefinition(
    "steadyvoice_circuit_recovery_seconds",
    "histogram",
    ("provider",),
    "From opening to closing by itself",
    _OUTAGE_BUCKETS,
)

# Providers.
ATTEMPTS = MetricDefinition(
    "steadyvoice_provider_attempts_total", "counter", ("provider", "result"), "Who was asked; ok, or the kind of error"
)
PROVIDER_FIRST_AUDIO = MetricDefinition(
    "steadyvoice_provider_first_audio_seconds",
    "histogram",
    ("provider",),
    "From asking it to its first audio",
    _LATENCY_BUCKETS,
)
PROVIDER_MUTED = MetricDefinition(
    "steadyvoice_provider_muted", "gauge", ("provider",), "1 while nothing is heard from it"
)
RETRY_AFTER = MetricDefinition(
    "steadyvoice_provider_retry_after_seconds", "gauge", ("provider",), "Until it is asked again; absent if not known"
)
BILLED = MetricDefinition(
    "steadyvoice_provider_characters_total", "counter", ("provider", "charge"), "Characters billed, or perhaps billed"
)
WASTED = MetricDefinition(
    "steadyvoice_provider_wasted_characters_total", "counter", ("provider", "cause"), "Of those, what nobody heard"
)
RUNNING = MetricDefinition(
    "steadyvoice_provider_requests_in_flight", "gauge", ("provider",), "Requests that run on its key"
)
LIMIT = MetricDefinition(
    "steadyvoice_provider_concurrency_limit", "gauge", ("provider",), "How many may; absent if any number"
)
WAITING = MetricDefinition(
    "steadyvoice_provider_queue_waiting", "gauge", ("provider",), "Requests that wait for their turn"
)
CREDIT = MetricDefinition(
    "steadyvoice_provider_credit_characters", "gauge", ("provider",), "Credit left; absent if not known"
)
CREDIT_RATE = MetricDefinition(
    "steadyvoice_provider_credit_characters_per_hour", "gauge", ("provider",), "How fast it goes"
)
CREDIT_ENDS = MetricDefinition(
    "steadyvoice_provider_credit_ends_in_seconds", "gauge", ("provider",), "How long it lasts; absent if it does"
)
HOLDS = MetricDefinition(
    "steadyvoice_provider_holds", "gauge", ("provider", "kind"), "Keys, voices and models set aside"
)

# Overload.
ACTIVE = MetricDefinition("steadyvoice_syntheses_active", "gauge", (), "Utterances that are being synthesised")
QUEUED = MetricDefinition("steadyvoice_syntheses_queued", "gauge", (), "Utterances that wait for admission")
OVERLOADED = MetricDefinition("steadyvoice_overloaded", "gauge", (), "1 while new requests are queued or refused")
NOT_ADMITTED = MetricDefinition(
    "steadyvoice_overload_refused_total", "counter", ("cause",), "Requests refused for overload"
)
LOOP_LAG = MetricDefinition(
    "steadyvoice_loop_lag_seconds", "gauge", (), "How late the event loop runs, smoothed over a second"
)
LOOP_LOST = MetricDefinition(
    "steadyvoice_loop_lost_seconds_total", "counter", (), "Time in which the event loop got no turn"
)
QUEUE_WAIT = MetricDefinition(
    "steadyvoice_engine_wait_seconds", "gauge", ("engine",), "How long work has waited for it"
)

# The cache, hedges, and the gateway itself.
CACHE = MetricDefinition(
    "steadyvoice_cache_requests_total", "counter", ("result",), "hit, miss, or joined to what is being said"
)
CACHE_KEPT = MetricDefinition("steadyvoice_cache_kept_total", "counter", (), "Recordings that were kept")
CACHE_FAILING = MetricDefinition("steadyvoice_cache_failing", "gauge", (), "1 while its disk is in trouble")
HEDGES = MetricDefinition(
    "steadyvoice_hedges_total", "counter", ("result",), "A provider was late: what came of asking another"
)
BUILD = MetricDefinition("steadyvoice_build_info", "gauge", ("version", "python"), "Always 1")

METRIC_DEFINITIONS: tuple[MetricDefinition, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, MetricDefinition)
)
