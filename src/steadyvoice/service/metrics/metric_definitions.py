"""Definitions of all metrics: name, kind, labels and help text, as listed in docs/metrics.md.

No label takes a value that a caller could choose: APIs, route classes, kinds, causes and states are fixed lists, and
providers are those of the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

RULES: Mapping[str, Callable[[float, float], float]] = {"sum": lambda one, other: one + other, "max": max, "min": min}
"""Rules by which values of several workers, or of several services of one process, become one."""


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """Definition of a metric. Durations are in seconds, shares from 0 to 1; `buckets` are a histogram's bounds.

    `rule` is how the values of several workers become one: see RULES.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    rule: Literal["sum", "max", "min"] = "sum"

    @property
    def instrument(self) -> str:
        """Name in OpenTelemetry, from which its Prometheus exporters make the same name again, with the unit's."""
        return self.name.removesuffix("_total").removesuffix("_seconds").replace("_", ".", 1)

    @property
    def unit(self) -> str:
        """Unit in OpenTelemetry: seconds, or none."""
        return "s" if self.name.removesuffix("_total").endswith("_seconds") else ""


_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 45.0, 90.0, 180.0, 600.0)
_OUTAGE_BUCKETS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)

# Calls, as clients see them.
REQUESTS = MetricDefinition(
    "steadyvoice_requests_total",
    "counter",
    ("api", "provider", "outcome"),
    "Finished utterances by API, first provider and outcome",
)
SERVICE_LEVEL = MetricDefinition(
    "steadyvoice_service_level_total",
    "counter",
    ("api", "result"),
    "Utterances by what their callers heard: good, late, substituted, cut, muted or failed",
)
FIRST_AUDIO = MetricDefinition(
    "steadyvoice_first_audio_seconds",
    "histogram",
    ("api",),
    "Seconds from the request to the first byte of audio",
    _LATENCY_BUCKETS,
)
DURATION = MetricDefinition(
    "steadyvoice_request_seconds",
    "histogram",
    ("api",),
    "Seconds from the request to the last byte of audio",
    _DURATION_BUCKETS,
)
CHARACTERS = MetricDefinition(
    "steadyvoice_characters_total", "counter", ("provider",), "Characters spoken; provider none: replaced by silence"
)
AUDIO = MetricDefinition(
    "steadyvoice_audio_seconds_total", "counter", ("provider",), "Seconds of audio delivered; provider none: silence"
)
MUTED = MetricDefinition(
    "steadyvoice_muted",
    "gauge",
    (),
    "1 while no provider can be called and callers get silence or errors",
    rule="max",
)
HTTP = MetricDefinition(
    "steadyvoice_http_requests_total",
    "counter",
    ("route_class", "status"),
    "HTTP requests by class of route and of status code",
)
CONNECTIONS = MetricDefinition("steadyvoice_connections", "gauge", (), "Open client connections")
IN_FLIGHT = MetricDefinition("steadyvoice_http_requests_in_flight", "gauge", (), "HTTP requests in progress")
WEBSOCKETS = MetricDefinition("steadyvoice_websockets", "gauge", (), "Open websockets of clients")
STREAMS = MetricDefinition("steadyvoice_streams_in_flight", "gauge", (), "Utterances in progress")

# Circuits.
STATE = MetricDefinition(
    "steadyvoice_circuit_state",
    "gauge",
    ("provider", "state"),
    "1 for the circuit's current state, 0 for the others",
    rule="max",
)
FAILURE_RATE = MetricDefinition(
    "steadyvoice_circuit_failure_rate",
    "gauge",
    ("provider",),
    "Share of failed calls in the window, 0 to 1",
    rule="max",
)
WINDOW_CALLS = MetricDefinition("steadyvoice_circuit_window_calls", "gauge", ("provider",), "Calls in the window")
OPENED_AT = MetricDefinition(
    "steadyvoice_circuit_opened_timestamp_seconds",
    "gauge",
    ("provider",),
    "Time at which the circuit opened, in seconds since 1970; absent while it is not open",
    rule="min",
)
CALLS = MetricDefinition(
    "steadyvoice_circuit_calls_total", "counter", ("provider", "result"), "Calls recorded by the circuit, by result"
)
REFUSED = MetricDefinition(
    "steadyvoice_circuit_refused_total", "counter", ("provider",), "Calls refused by the circuit"
)
TRANSITIONS = MetricDefinition(
    "steadyvoice_circuit_transitions_total",
    "counter",
    ("provider", "from", "to", "cause"),
    "Changes of the circuit's state",
)
WOULD_OPEN = MetricDefinition(
    "steadyvoice_circuit_would_have_opened_total",
    "counter",
    ("provider", "cause"),
    "Times the circuit would have opened, in the state monitoring",
)
RECOVERY = MetricDefinition(
    "steadyvoice_circuit_recovery_seconds",
    "histogram",
    ("provider",),
    "Seconds from opening to closing after successful probes",
    _OUTAGE_BUCKETS,
)

# Providers.
ATTEMPTS = MetricDefinition(
    "steadyvoice_provider_attempts_total",
    "counter",
    ("provider", "result"),
    "Attempts by result: ok, or the kind of failure",
)
PROVIDER_FIRST_AUDIO = MetricDefinition(
    "steadyvoice_provider_first_audio_seconds",
    "histogram",
    ("provider",),
    "Seconds from an attempt's request to the provider's first audio",
    _LATENCY_BUCKETS,
)
PROVIDER_MUTED = MetricDefinition(
    "steadyvoice_provider_muted",
    "gauge",
    ("provider",),
    "1 while the provider is not called: circuit open, or credential on hold",
    rule="max",
)
RETRY_AFTER = MetricDefinition(
    "steadyvoice_provider_retry_after_seconds",
    "gauge",
    ("provider",),
    "Seconds until the provider is called again; absent if unknown",
    rule="max",
)
BILLED = MetricDefinition(
    "steadyvoice_provider_characters_total",
    "counter",
    ("provider", "charge"),
    "Characters billed by the vendor, or possibly billed",
)
WASTED = MetricDefinition(
    "steadyvoice_provider_wasted_characters_total",
    "counter",
    ("provider", "cause"),
    "Billed characters whose audio was not delivered, by cause",
)
RUNNING = MetricDefinition(
    "steadyvoice_provider_requests_in_flight",
    "gauge",
    ("provider",),
    "Requests in progress with the provider's credential",
)
LIMIT = MetricDefinition(
    "steadyvoice_provider_concurrency_limit",
    "gauge",
    ("provider",),
    "Concurrency limit of the provider's credential; absent if unlimited",
    rule="max",
)
WAITING = MetricDefinition(
    "steadyvoice_provider_queue_waiting",
    "gauge",
    ("provider",),
    "Requests that wait for a slot within the concurrency limit",
)
CREDIT = MetricDefinition(
    "steadyvoice_provider_credit_characters",
    "gauge",
    ("provider",),
    "Remaining characters of the account's quota; absent if unknown",
    rule="min",
)
CREDIT_RATE = MetricDefinition(
    "steadyvoice_provider_credit_characters_per_hour",
    "gauge",
    ("provider",),
    "Characters used per hour, at the present rate",
)
CREDIT_ENDS = MetricDefinition(
    "steadyvoice_provider_credit_ends_in_seconds",
    "gauge",
    ("provider",),
    "Seconds until the quota is used up at the present rate; absent if it lasts beyond the reset",
    rule="min",
)
HOLDS = MetricDefinition(
    "steadyvoice_provider_holds",
    "gauge",
    ("provider", "kind"),
    "Credentials, voices and models on hold, by kind of failure",
    rule="max",
)

# Overload.
ACTIVE = MetricDefinition("steadyvoice_syntheses_active", "gauge", (), "Utterances being synthesized")
QUEUED = MetricDefinition("steadyvoice_syntheses_queued", "gauge", (), "Utterances queued for admission")
OVERLOADED = MetricDefinition(
    "steadyvoice_overloaded", "gauge", (), "1 while new requests are queued or refused", rule="max"
)
NOT_ADMITTED = MetricDefinition(
    "steadyvoice_overload_refused_total", "counter", ("cause",), "Requests refused for overload, by cause"
)
LOOP_LAG = MetricDefinition(
    "steadyvoice_loop_lag_seconds",
    "gauge",
    (),
    "Lag of the event loop in seconds, smoothed over one second",
    rule="max",
)
LOOP_LOST = MetricDefinition(
    "steadyvoice_loop_lost_seconds_total", "counter", (), "Seconds in which the event loop did not run"
)
QUEUE_WAIT = MetricDefinition(
    "steadyvoice_engine_wait_seconds",
    "gauge",
    ("engine",),
    "Seconds that work has waited for a local engine or the audio workers",
    rule="max",
)

# Cache, hedging, and the gateway itself.
CACHE = MetricDefinition(
    "steadyvoice_cache_requests_total",
    "counter",
    ("result",),
    "Cache lookups: hit, miss, or joined to the same text in progress",
)
CACHE_KEPT = MetricDefinition("steadyvoice_cache_kept_total", "counter", (), "Recordings stored in the cache")
CACHE_FAILING = MetricDefinition(
    "steadyvoice_cache_failing",
    "gauge",
    (),
    "1 while the cache cannot be read or written",
    rule="max",
)
JOURNAL_LINES = MetricDefinition(
    "steadyvoice_journal_lines_total", "counter", ("result",), "Lines of the journal of outcomes: written or lost"
)
JOURNAL_FAILING = MetricDefinition(
    "steadyvoice_journal_failing", "gauge", (), "1 while the journal of outcomes cannot be written", rule="max"
)
HEDGES = MetricDefinition(
    "steadyvoice_hedges_total", "counter", ("result",), "Hedges: late first attempts, by result of the second attempt"
)
BUILD = MetricDefinition(
    "steadyvoice_build_info",
    "gauge",
    ("version", "python"),
    "Version of steadyvoice and Python; always 1",
    rule="max",
)

# Fleet.
FLEET_REPLICAS = MetricDefinition(
    "steadyvoice_fleet_replicas",
    "gauge",
    (),
    "Replicas of the fleet that are heard of, this one included; absent without a fleet",
    rule="max",
)
FLEET_STATE = MetricDefinition(
    "steadyvoice_fleet_state",
    "gauge",
    ("state",),
    "1 for the replica's state: together, stale or alone; 0 for the others",
    rule="max",
)
FLEET_OUTLIER = MetricDefinition(
    "steadyvoice_fleet_outlier",
    "gauge",
    ("provider",),
    "1 while the circuit is open here, and calls succeed at most other replicas",
    rule="max",
)
FLEET_MISSED_BEATS = MetricDefinition(
    "steadyvoice_fleet_missed_beats_total", "counter", (), "Beats that the store did not answer in time"
)
FLEET_DUPLICATE_PROBES = MetricDefinition(
    "steadyvoice_fleet_duplicate_probes_total",
    "counter",
    ("provider",),
    "Probes in flight while another replica probed as well",
)
FLEET_SLOTS = MetricDefinition(
    "steadyvoice_fleet_slots",
    "gauge",
    ("provider", "slots"),
    "Slots of the account's limit: lent to this replica, and requests that use or wait for one",
)

# Workers.
WORKERS = MetricDefinition(
    "steadyvoice_workers",
    "gauge",
    ("state",),
    "Worker processes by state: ready, starting, restarting, not responding",
)
WORKER_RESTARTS = MetricDefinition(
    "steadyvoice_worker_restarts_total", "counter", (), "Restarts of worker processes that ended by themselves"
)

METRIC_DEFINITIONS: tuple[MetricDefinition, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, MetricDefinition)
)
