"""Every metric there is: its name, kind and labels, and what it tells. docs/metrics.md says the same to people.

No label takes a value that a caller could make up: doors, rooms, kinds, causes and states are ours, and providers are
those of the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, by all its labels. Seconds, characters, shares between 0 and 1."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    told: str
    bounds: tuple[float, ...] = ()  # of a histogram's buckets


_SOON = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_LONG = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 45.0, 90.0, 180.0, 600.0)
_OUTAGE = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)
_BY_CALL = ("door", "provider", "outcome")

# What callers got.
REQUESTS = Family("steadyvoice_requests_total", "counter", _BY_CALL, "Utterances, by how they ended and who spoke")
FIRST_AUDIO = Family("steadyvoice_first_audio_seconds", "histogram", ("door",), "From request to first audio", _SOON)
DURATION = Family("steadyvoice_request_seconds", "histogram", ("door",), "From request to the last byte", _LONG)
CHARACTERS = Family("steadyvoice_characters_total", "counter", ("provider",), "Characters said; provider none: silence")
AUDIO = Family("steadyvoice_audio_seconds_total", "counter", ("provider",), "Audio made; provider none: silence")
MUTED = Family("steadyvoice_muted", "gauge", (), "1 while callers hear silence")
HTTP = Family("steadyvoice_http_requests_total", "counter", ("room", "status"), "Requests of any kind, by status class")
CONNECTIONS = Family("steadyvoice_connections", "gauge", (), "Connections that are open")
IN_FLIGHT = Family("steadyvoice_http_requests_in_flight", "gauge", (), "Requests that are being answered")
STREAMS = Family("steadyvoice_streams_in_flight", "gauge", (), "Utterances that are being spoken")

# Circuits.
STATE = Family("steadyvoice_circuit_state", "gauge", ("provider", "state"), "1 for the state it is in, 0 for others")
FAILURE_RATE = Family("steadyvoice_circuit_failure_rate", "gauge", ("provider",), "Share of failures in the window")
WINDOW_CALLS = Family("steadyvoice_circuit_window_calls", "gauge", ("provider",), "Calls in the window")
OPENED_AT = Family(
    "steadyvoice_circuit_opened_timestamp_seconds", "gauge", ("provider",), "When it opened, since 1970; absent if not"
)
CALLS = Family("steadyvoice_circuit_calls_total", "counter", ("provider", "result"), "Calls, by what they were to it")
REFUSED = Family("steadyvoice_circuit_refused_total", "counter", ("provider",), "Calls it refused")
TRANSITIONS = Family(
    "steadyvoice_circuit_transitions_total", "counter", ("provider", "from", "to", "reason"), "Changes of state"
)
WOULD_OPEN = Family(
    "steadyvoice_circuit_would_have_opened_total", "counter", ("provider", "reason"), "Only watching, it would have"
)
RECOVERY = Family(
    "steadyvoice_circuit_recovery_seconds", "histogram", ("provider",), "From opening to closing by itself", _OUTAGE
)

# Providers.
ATTEMPTS = Family(
    "steadyvoice_provider_attempts_total", "counter", ("provider", "result"), "Who was asked; ok, or the kind of error"
)
PROVIDER_FIRST_AUDIO = Family(
    "steadyvoice_provider_first_audio_seconds", "histogram", ("provider",), "From asking it to its first audio", _SOON
)
PROVIDER_MUTED = Family("steadyvoice_provider_muted", "gauge", ("provider",), "1 while nothing is heard from it")
RETRY_AFTER = Family(
    "steadyvoice_provider_retry_after_seconds", "gauge", ("provider",), "Until it is asked again; absent if not known"
)
BILLED = Family(
    "steadyvoice_provider_characters_total", "counter", ("provider", "charge"), "Characters billed, or perhaps billed"
)
WASTED = Family(
    "steadyvoice_provider_wasted_characters_total", "counter", ("provider", "cause"), "Of those, what nobody heard"
)
RUNNING = Family("steadyvoice_provider_requests_in_flight", "gauge", ("provider",), "Requests that run on its key")
LIMIT = Family("steadyvoice_provider_concurrency_limit", "gauge", ("provider",), "How many may; absent if any number")
WAITING = Family("steadyvoice_provider_queue_waiting", "gauge", ("provider",), "Requests that wait for their turn")
CREDIT = Family("steadyvoice_provider_credit_characters", "gauge", ("provider",), "Credit left; absent if not known")
CREDIT_RATE = Family("steadyvoice_provider_credit_characters_per_hour", "gauge", ("provider",), "How fast it goes")
CREDIT_ENDS = Family(
    "steadyvoice_provider_credit_ends_in_seconds", "gauge", ("provider",), "How long it lasts; absent if it does"
)
HOLDS = Family("steadyvoice_provider_holds", "gauge", ("provider", "kind"), "Keys, voices and models set aside")

# Overload.
ACTIVE = Family("steadyvoice_syntheses_active", "gauge", (), "Utterances that are being synthesised")
QUEUED = Family("steadyvoice_syntheses_queued", "gauge", (), "Utterances that wait for admission")
OVERLOADED = Family("steadyvoice_overloaded", "gauge", (), "1 while new requests are queued or refused")
NOT_ADMITTED = Family("steadyvoice_overload_refused_total", "counter", ("cause",), "Requests refused for overload")
LOOP_LAG = Family("steadyvoice_loop_lag_seconds", "gauge", (), "How late the event loop runs, smoothed over a second")
LOOP_LOST = Family("steadyvoice_loop_lost_seconds_total", "counter", (), "Time in which the event loop got no turn")
QUEUE_WAIT = Family("steadyvoice_engine_wait_seconds", "gauge", ("engine",), "How long work has waited for it")

# The cache, hedges, and the gateway itself.
CACHE = Family("steadyvoice_cache_requests_total", "counter", ("result",), "hit, miss, or joined to what is being said")
CACHE_KEPT = Family("steadyvoice_cache_kept_total", "counter", (), "Recordings that were kept")
CACHE_FAILING = Family("steadyvoice_cache_failing", "gauge", (), "1 while its disk is in trouble")
HEDGES = Family("steadyvoice_hedges_total", "counter", ("result",), "A provider was late: what came of asking another")
BUILD = Family("steadyvoice_build_info", "gauge", ("version", "python"), "Always 1")

FAMILIES: tuple[Family, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Family))
