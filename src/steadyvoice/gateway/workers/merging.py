"""Answers of several workers as one: error states, overviews, readiness and metrics.

Circuits of all workers change together, so the worst state of a circuit is shown, and counts are added up. Among the
answers may be one with the counts of workers that ended: a table with the only key `departed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from steadyvoice._option_rules import is_number
from steadyvoice.service.metrics.metric_definitions import RULES

_BY_SEVERITY = ("closed", "monitoring", "disabled", "half_open", "open", "forced_open")
"""States of a circuit, the one that is shown last: a worker that refuses calls is what matters."""

State = Mapping[str, Any]


def split_departed(answers: Sequence[State]) -> tuple[list[State], State]:
    """Return the answers of workers that run, and the counts of those that ended."""
    departed: State = next((answer["departed"] for answer in answers if "departed" in answer), {})
    return [answer for answer in answers if "departed" not in answer], departed


def lasting_counts(state: State) -> dict[str, Any]:
    """Return what of an error state, or of an overview, outlasts its worker: the counts that are added up."""
    counts: dict[str, Any] = {"refused": state["overload"]["refused"], "providers": {}}
    for name, part in state["providers"].items():
        provider = part.get("state", part)  # in an overview, the state is one part of several
        counts["providers"][name] = {group: provider[group] for group in ("totals", "bills")}
    for group in ("hedging", "cache"):
        if values := state.get(group):
            counts[group] = {name: value for name, value in values.items() if is_number(value)}
    return counts


def merged_state(answers: Sequence[State]) -> dict[str, Any]:
    """Return the error states of workers as one."""
    states, departed = split_departed(answers)
    ended = departed.get("providers", {})
    providers = {
        name: merged_provider(parts, ended.get(name))
        for name, parts in _by_name(state["providers"] for state in states)
    }
    hedging = [each["hedging"] for each in (*states, departed) if each.get("hedging")]
    return {
        **states[0],
        **next(iter(providers.values())),
        "is_muted": any(state["is_muted"] for state in states),
        "cache": _merged_cache([each.get("cache") for each in (*states, departed)]),
        "journal": _merged_journal([state["journal"] for state in states if state["journal"]]),
        "hedging": added(hedging) or None,
        "overload": merged_overload([state["overload"] for state in states], departed),
        "providers": providers,
    }


def merged_provider(states: Sequence[State], ended: State | None = None) -> dict[str, Any]:
    """Return the error states of one provider at several workers as one, with the counts of workers that ended."""
    counts = [*states, ended] if ended else states
    worst = states[_worst(states)]
    calls = sum(state["window"]["calls"] for state in states)
    failed = sum(state["failure_rate"] * state["window"]["calls"] for state in states)
    return {
        **worst,
        "failure_rate": failed / calls if calls else worst["failure_rate"],
        "window": {**worst["window"], "calls": calls, "failures": sum(state["window"]["failures"] for state in states)},
        "consecutive_failures": max(state["consecutive_failures"] for state in states),
        "last_error": _newest([state["last_error"] for state in states]),
        "is_muted": all(state["is_muted"] for state in states),
        "totals": added([state["totals"] for state in counts]),
        # Each worker's circuit recovers from the same outage.
        "recoveries": max((state["recoveries"] for state in states), key=lambda each: each["count"]),
        "holds": _merged_holds(states),
        "bills": added([state["bills"] for state in counts]),
        "overdue_after": max(state["overdue_after"] for state in states),
        "overdue_after_by_voice": _combined([state["overdue_after_by_voice"] for state in states], max),
        "concurrency": _merged_concurrency([state["concurrency"] for state in states]),
        "credit": _merged_credit([state["credit"] for state in states if state["credit"]]),
    }


def merged_overload(parts: Sequence[State], departed: State) -> dict[str, Any]:
    """Return the loads of workers as one. Limits are those of all workers together."""
    return {
        **added(parts),
        "refused": added([*(part["refused"] for part in parts), departed.get("refused", {})]),
        "overloaded": any(part["overloaded"] for part in parts),
        "queue_timeout": parts[0]["queue_timeout"],
        "loop_lag": max(part["loop_lag"] for part in parts),
        "waits": _combined([part["waits"] for part in parts], max),
    }


def merged_circuit(states: Sequence[State], circuits: Sequence[State]) -> dict[str, Any]:
    """Return the explanations of one circuit at several workers as one: that of the worst, and all results."""
    worst = circuits[_worst(states)]
    return {
        **worst,
        "probe_successes": sum(circuit["probe_successes"] for circuit in circuits),
        "dots": _merged_dots([circuit["dots"] for circuit in circuits], by_age=worst["window_seconds"] is not None),
    }


def merged_readiness(documents: Sequence[State]) -> dict[str, Any]:
    """Return the readiness of workers as one: one that is ready is enough."""
    providers = {
        name: next((part for part in parts if part["ready"]), parts[0])
        for name, parts in _by_name(document["providers"] for document in documents)
    }
    reasons = [f"{name}: {each['reason']}" for name, each in providers.items() if each["reason"]]
    return {
        "ready": any(document["ready"] for document in documents),
        "reasons": reasons if providers else documents[0]["reasons"],
        "overloaded": all(document["overloaded"] for document in documents),
        "providers": providers,
    }


def _worst(states: Sequence[State]) -> int:
    """Return the index of the state to show: the worst, and of equals the one that changed last."""

    def rank(index: int) -> tuple[int, str]:
        moved = states[index]["last_transition"]
        return _BY_SEVERITY.index(states[index]["circuit_state"]), moved["at"] if moved else ""

    return max(range(len(states)), key=rank)


def _newest(entries: Iterable[State | None]) -> State | None:
    return max((entry for entry in entries if entry), key=lambda entry: entry["at"], default=None)


def _merged_holds(states: Sequence[State]) -> list[State]:
    longest: dict[tuple[str, str], State] = {}
    for hold in sorted((hold for state in states for hold in state["holds"]), key=lambda hold: str(hold["until"])):
        longest[hold["key"], hold["kind"]] = hold
    return list(longest.values())


def _merged_concurrency(parts: Sequence[State]) -> dict[str, Any]:
    limits = [part["limit"] for part in parts]
    return {**added(parts), "limit": None if None in limits else max(limits)}


def _merged_credit(parts: Sequence[State]) -> dict[str, Any] | None:
    """Return the least of the credits, which was stated last, spent at the rate of all."""
    if not parts:
        return None
    least = min(parts, key=lambda part: float("inf") if part["remaining"] is None else part["remaining"])
    return {**least, "per_hour": sum(part["per_hour"] for part in parts)}


def _merged_cache(parts: Sequence[State | None]) -> dict[str, Any] | None:
    found = [part for part in parts if part]
    if not found:
        return None
    return {**added(found), "error": next((part["error"] for part in found if part.get("error")), None)}


def _merged_journal(parts: Sequence[State]) -> dict[str, Any] | None:
    if not parts:
        return None
    counts = {name: sum(part[name] for part in parts) for name in ("written", "lost")}
    return {**parts[0], **counts, "error": next((part["error"] for part in parts if part["error"]), None)}


def _merged_dots(all_dots: Sequence[Sequence[Sequence[float]]], *, by_age: bool) -> list[Sequence[float]]:
    if not by_age:
        return [dot for dots in all_dots for dot in dots][-60:]
    return [[sum(part) for part in zip(*dots, strict=True)] for dots in zip(*all_dots, strict=True)]


def _by_name(tables: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, list[Any]]]:
    """Return the values of tables by their keys, in the order of the first table that has the key."""
    found: dict[str, list[Any]] = {}
    for table in tables:
        for name, value in table.items():
            found.setdefault(name, []).append(value)
    return found.items()


def _combined(tables: Sequence[Mapping[str, float]], combine: Callable[[Sequence[float]], float]) -> dict[str, float]:
    return {name: combine(values) for name, values in _by_name(tables)}


def added(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of all numbers, in tables within the tables as well; of other values the first."""
    return {name: _added_values(values) for name, values in _by_name(tables)}


def _added_values(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        return added(values)
    if is_number(first):
        return sum(value for value in values if value is not None)
    return first


# ---------------------------------------------------------------- metrics


class MetricSamples(NamedTuple):
    """Samples of one metric: `kind` is counter, gauge or histogram, `rule` is sum, max or min.

    Each sample is its name, the names and values of its labels in turn, and its value.
    """

    name: str
    kind: str
    rule: str
    samples: Sequence[tuple[str, Sequence[str], float]]


def merged_samples(exports: Iterable[Iterable[Sequence[Any]]]) -> list[MetricSamples]:
    """Return the metrics of several workers as one, each by its rule."""
    merged: dict[str, tuple[MetricSamples, dict[tuple[str, tuple[str, ...]], float]]] = {}
    for metrics in exports:
        for fields in metrics:
            metric = MetricSamples(*fields)
            _, values = merged.setdefault(metric.name, (metric, {}))
            combine = RULES[metric.rule]
            for name, labels, value in metric.samples:
                key = (name, tuple(labels))
                values[key] = combine(values[key], value) if key in values else value
    return [
        metric._replace(samples=[(name, labels, value) for (name, labels), value in values.items()])
        for metric, values in merged.values()
    ]


def lasting_samples(exports: Iterable[Iterable[Sequence[Any]]]) -> list[MetricSamples]:
    """Return what outlasts workers that ended: their counts. A counter that fell would be taken for a restart."""
    return [metric for metric in merged_samples(exports) if metric.kind != "gauge"]
