"""Metrics that are read from the error state of a service: circuits, providers, load, cache, journal and fleet."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from steadyvoice.breaker import CircuitState
from steadyvoice.service.metrics import metric_definitions as definitions
from steadyvoice.service.metrics.metric_definitions import MetricDefinition

Labels = tuple[str, ...]


class MetricValues(NamedTuple):
    """Counter or gauge with its values by the values of its labels."""

    definition: MetricDefinition
    values: dict[Labels, float]


def state_metrics(state: dict[str, Any]) -> Iterator[MetricValues]:
    """Yield the metrics that are read from the error state."""
    states: dict[str, dict[str, Any]] = state["providers"]
    yield MetricValues(definitions.STATE, _circuit_states(states))
    for definition, steps in _GAUGES.items():
        values = {(name,): _value_at(each, steps) for name, each in states.items()}
        yield MetricValues(definition, {labels: value for labels, value in values.items() if value is not None})
    yield MetricValues(definitions.CALLS, _per_provider(states, "totals", _CALL_RESULTS))
    yield MetricValues(definitions.BILLED, _per_provider(states, "bills", {"billed": "billed", "unknown": "unknown"}))
    wasted: dict[Labels, float] = {
        (name, cause): n for name, each in states.items() for cause, n in each["bills"]["wasted_by"].items()
    }
    yield MetricValues(definitions.WASTED, wasted)
    yield MetricValues(definitions.HOLDS, _holds(states))
    yield MetricValues(definitions.MUTED, {(): float(state["is_muted"])})
    yield from _overload_metrics(state["overload"])
    yield from _cache_metrics(state["cache"] or {})
    yield from _journal_metrics(state["journal"])
    yield from _fleet_metrics(state["fleet"])
    hedging = state["hedging"] or {}
    yield MetricValues(
        definitions.HEDGES, {(result,): hedging[result] for result in _HEDGE_RESULTS if result in hedging}
    )


_HEDGE_RESULTS = ("won", "lost", "budget_exhausted", "no_candidate", "deferred_to_circuit")
_CALL_RESULTS = {"successes": "success", "failures": "failure", "ignored": "ignored"}

_GAUGES: dict[MetricDefinition, tuple[str, ...]] = {
    definitions.FAILURE_RATE: ("failure_rate",),
    definitions.WINDOW_CALLS: ("window", "calls"),
    definitions.OPENED_AT: ("circuit_opened_at",),
    definitions.RETRY_AFTER: ("retry_after",),
    definitions.REFUSED: ("totals", "refused"),
    definitions.PROVIDER_MUTED: ("is_muted",),
    definitions.RUNNING: ("concurrency", "in_use"),
    definitions.LIMIT: ("concurrency", "limit"),
    definitions.WAITING: ("concurrency", "waiting"),
    definitions.CREDIT: ("credit", "remaining"),
    definitions.CREDIT_RATE: ("credit", "per_hour"),
    definitions.CREDIT_ENDS: ("credit", "ends_in"),
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


def _cache_metrics(cache: dict[str, Any]) -> Iterator[MetricValues]:
    results = {"hits": "hit", "misses": "miss", "joined": "joined"}
    yield MetricValues(
        definitions.CACHE, {(label,): cache[field] for field, label in results.items() if field in cache}
    )
    yield MetricValues(definitions.CACHE_KEPT, {(): cache["kept"]} if cache else {})
    yield MetricValues(definitions.CACHE_FAILING, {(): float(cache["error"] is not None)} if cache else {})


def _journal_metrics(journal: dict[str, Any] | None) -> Iterator[MetricValues]:
    lines: dict[Labels, float] = {(result,): journal[result] for result in ("written", "lost")} if journal else {}
    yield MetricValues(definitions.JOURNAL_LINES, lines)
    failing: dict[Labels, float] = {(): float(journal["error"] is not None)} if journal else {}
    yield MetricValues(definitions.JOURNAL_FAILING, failing)


def _fleet_metrics(fleet: dict[str, Any] | None) -> Iterator[MetricValues]:
    """Yield the metrics of the fleet, without values if there is none."""
    values: dict[MetricDefinition, dict[Labels, float]] = {
        definition: {}
        for definition in (
            definitions.FLEET_REPLICAS,
            definitions.FLEET_STATE,
            definitions.FLEET_OUTLIER,
            definitions.FLEET_MISSED_BEATS,
            definitions.FLEET_DUPLICATE_PROBES,
            definitions.FLEET_SLOTS,
        )
    }
    if fleet:
        values[definitions.FLEET_REPLICAS][()] = len(fleet["replicas"]) + 1
        values[definitions.FLEET_MISSED_BEATS][()] = fleet["missed_beats"]
        for state in ("together", "stale", "alone"):
            values[definitions.FLEET_STATE][state,] = float(fleet["state"] == state)
        for name, circuit in fleet["circuits"].items():
            values[definitions.FLEET_OUTLIER][name,] = float(circuit["is_outlier"])
            values[definitions.FLEET_DUPLICATE_PROBES][name,] = circuit["duplicate_probes"]
        for name, slots in fleet["slots"].items():
            for kind, field in (("lent", "block"), ("used", "used"), ("queued", "queued")):
                values[definitions.FLEET_SLOTS][name, kind] = slots[field]
    for definition, labelled in values.items():
        yield MetricValues(definition, labelled)


def _overload_metrics(overload: dict[str, Any]) -> Iterator[MetricValues]:
    yield MetricValues(definitions.ACTIVE, {(): overload["active"]})
    yield MetricValues(definitions.QUEUED, {(): overload["queued"]})
    yield MetricValues(definitions.OVERLOADED, {(): float(overload["overloaded"])})
    yield MetricValues(definitions.NOT_ADMITTED, {(cause,): count for cause, count in overload["refused"].items()})
    yield MetricValues(definitions.LOOP_LAG, {(): overload["loop_lag"]})
    yield MetricValues(definitions.LOOP_LOST, {(): overload["loop_lost"]})
    yield MetricValues(definitions.QUEUE_WAIT, {(name,): wait for name, wait in overload["waits"].items()})
