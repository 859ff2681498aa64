"""Generate steadyvoice.json, the Grafana dashboard. Run: `python deploy/grafana/draw.py [FOLDER]`.

Import the file in Grafana, and choose the Prometheus data source that scrapes the gateway. A panel without a
description of its own has that of its metrics' definitions.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steadyvoice.service.metrics.metric_definitions import METRIC_DEFINITIONS

HERE = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${source}"}
SOME = 'instance=~"$instance"'
WORSE = "result!='good'"
TURNS = "api=~'.*websocket'"

_HELP = {each.name: each.help for each in METRIC_DEFINITIONS}
_METRIC = re.compile(r"\bsteadyvoice_\w+?(?=_bucket|\b)")


@dataclass(frozen=True)
class Panel:
    """Panel: kind, title, queries by legend, unit, and width in columns of 24."""

    kind: str
    title: str
    queries: dict[str, str]
    unit: str = "short"
    width: int = 8
    about: str = ""
    stacked: bool = False


def _rate(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{SOME}{more}}}[$__rate_interval]))"


def _increase(metric: str, by: str) -> str:
    return f"sum by ({by}) (increase({metric}{{{SOME}}}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str, more: str = "") -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', f'{by}, le', more)})"


PANELS = [
    Panel(
        "stat",
        "Providers not called",
        {"{{provider}}": f"max by (provider) (steadyvoice_provider_muted{{{SOME}}})"},
        width=6,
        about="1: the provider is not called, because its circuit is open or its credential on hold.",
    ),
    Panel(
        "state-timeline",
        "Circuit states",
        {"{{provider}}: {{state}}": f"max by (provider, state) (steadyvoice_circuit_state{{{SOME}}}) == 1"},
        width=18,
        about="State of each circuit.",
    ),
    Panel(
        "timeseries",
        "Call outcomes",
        {"{{outcome}}": _rate("steadyvoice_requests_total", "outcome")},
        "reqps",
        12,
        "Spoken, substituted, resumed and cached are successful; muted and failed are not.",
        stacked=True,
    ),
    Panel(
        "timeseries",
        "Service level: calls that are worse than good",
        {
            "{{result}}": f"sum by (result) (rate(steadyvoice_service_level_total{{{SOME},{WORSE}}}[$__rate_interval]))"
            f" / scalar(sum(rate(steadyvoice_service_level_total{{{SOME}}}[$__rate_interval])))"
        },
        "percentunit",
        12,
        "Share of calls that are late, in another voice, cut, silent or failed, instead of in time and whole.",
        stacked=True,
    ),
    Panel(
        "timeseries",
        "Time to first audio",
        {
            "median": _quantile(0.5, "steadyvoice_first_audio_seconds", "job"),
            "p95": _quantile(0.95, "steadyvoice_first_audio_seconds", "job"),
            "p99": _quantile(0.99, "steadyvoice_first_audio_seconds", "job"),
        },
        "s",
        about="From the request to the first byte of audio, of any provider.",
    ),
    Panel(
        "timeseries",
        "Time to first audio by provider (p95)",
        {"{{provider}}": _quantile(0.95, "steadyvoice_provider_first_audio_seconds", "provider")},
        "s",
    ),
    Panel(
        "timeseries",
        "Failure rate in the window",
        {"{{provider}}": f"max by (provider) (steadyvoice_circuit_failure_rate{{{SOME}}})"},
        "percentunit",
    ),
    Panel(
        "timeseries",
        "Attempts by result",
        {"{{provider}}: {{result}}": _rate("steadyvoice_provider_attempts_total", "provider, result")},
        "reqps",
        about="ok, or the kind of failure. Calls refused by a circuit are not attempts.",
    ),
    Panel(
        "timeseries",
        "Circuit transitions",
        {
            "{{provider}} {{from}} to {{to}}: {{cause}}": "sum by (provider, from, to, cause) "
            f"(increase(steadyvoice_circuit_transitions_total{{{SOME}}}[$__rate_interval]))"
        },
    ),
    Panel(
        "timeseries",
        "Recovery times",
        {
            "median": _quantile(0.5, "steadyvoice_circuit_recovery_seconds", "job"),
            "p95": _quantile(0.95, "steadyvoice_circuit_recovery_seconds", "job"),
        },
        "s",
    ),
    Panel(
        "timeseries",
        "Characters billed and wasted",
        {
            "{{provider}}": _rate("steadyvoice_provider_characters_total", "provider"),
            "{{provider}} wasted: {{cause}}": _rate("steadyvoice_provider_wasted_characters_total", "provider, cause"),
        },
        about="Characters per second, as the vendors count them.",
    ),
    Panel(
        "timeseries",
        "Remaining quota",
        {"{{provider}}": f"min by (provider) (steadyvoice_provider_credit_characters{{{SOME}}})"},
    ),
    Panel(
        "timeseries",
        "Time until the quota is used up",
        {"{{provider}}": f"min by (provider) (steadyvoice_provider_credit_ends_in_seconds{{{SOME}}})"},
        "s",
    ),
    Panel(
        "timeseries",
        "Concurrency and its limit",
        {
            "{{provider}}": f"sum by (provider) (steadyvoice_provider_requests_in_flight{{{SOME}}})",
            "{{provider}} limit": f"min by (provider) (steadyvoice_provider_concurrency_limit{{{SOME}}})",
            "{{provider}} waiting": f"sum by (provider) (steadyvoice_provider_queue_waiting{{{SOME}}})",
        },
    ),
    Panel(
        "timeseries",
        "Streams and connections",
        {
            "streams": f"sum(steadyvoice_streams_in_flight{{{SOME}}})",
            "connections": f"sum(steadyvoice_connections{{{SOME}}})",
        },
    ),
    Panel(
        "timeseries",
        "Load and overload",
        {
            "active": f"sum(steadyvoice_syntheses_active{{{SOME}}})",
            "queued": f"sum(steadyvoice_syntheses_queued{{{SOME}}})",
            "refused per second, {{cause}}": _rate("steadyvoice_overload_refused_total", "cause"),
        },
    ),
    Panel(
        "timeseries",
        "Event loop lag",
        {"{{instance}}": f"max by (instance) (steadyvoice_loop_lag_seconds{{{SOME}}})"},
        "s",
        about="Above 0.25 s new requests are queued, and refused after queue_timeout.",
    ),
    Panel(
        "timeseries",
        "Turns of websockets by outcome",
        {
            "{{outcome}}": _rate("steadyvoice_requests_total", "outcome", f",{TURNS}"),
            "open websockets": f"sum(steadyvoice_websockets{{{SOME}}})",
        },
    ),
    Panel(
        "timeseries",
        "Turns: time to first audio",
        {
            "median": _quantile(0.5, "steadyvoice_first_audio_seconds", "job", f",{TURNS}"),
            "p95": _quantile(0.95, "steadyvoice_first_audio_seconds", "job", f",{TURNS}"),
        },
        "s",
        about="From the first text of a turn to its first audio.",
    ),
    Panel(
        "timeseries",
        "Duration of calls (p95)",
        {"{{api}}": _quantile(0.95, "steadyvoice_request_seconds", "api")},
        "s",
    ),
    Panel(
        "timeseries",
        "Speech delivered",
        {
            "characters per second, {{provider}}": _rate("steadyvoice_characters_total", "provider"),
            "seconds of audio per second, {{provider}}": _rate("steadyvoice_audio_seconds_total", "provider"),
        },
    ),
    Panel(
        "timeseries",
        "HTTP requests by status",
        {
            "{{route_class}} {{status}}": _rate("steadyvoice_http_requests_total", "route_class, status"),
            "in progress": f"sum(steadyvoice_http_requests_in_flight{{{SOME}}})",
        },
    ),
    Panel(
        "timeseries",
        "Calls of circuits by result",
        {
            "{{provider}}: {{result}}": _rate("steadyvoice_circuit_calls_total", "provider, result"),
            "{{provider}}: refused": _rate("steadyvoice_circuit_refused_total", "provider"),
            "{{provider}}: would have opened": _rate("steadyvoice_circuit_would_have_opened_total", "provider"),
        },
        "reqps",
    ),
    Panel(
        "stat",
        "Holds of keys, voices and models",
        {"{{provider}}: {{kind}}": f"max by (provider, kind) (steadyvoice_provider_holds{{{SOME}}})"},
    ),
    Panel(
        "state-timeline",
        "Fleet: state of the replicas",
        {"{{instance}}: {{state}}": f"max by (instance, state) (steadyvoice_fleet_state{{{SOME}}}) == 1"},
        width=12,
        about="together: shares; stale: beats are missed; alone: goes on by its own evidence.",
    ),
    Panel(
        "timeseries",
        "Fleet: replicas, outliers, missed beats and duplicate probes",
        {
            "replicas, seen by {{instance}}": f"max by (instance) (steadyvoice_fleet_replicas{{{SOME}}})",
            "{{instance}} is an outlier: {{provider}}": "max by (instance, provider) "
            f"(steadyvoice_fleet_outlier{{{SOME}}}) == 1",
            "missed beats of {{instance}}": _increase("steadyvoice_fleet_missed_beats_total", "instance"),
            "duplicate probes: {{provider}}": _increase("steadyvoice_fleet_duplicate_probes_total", "provider"),
        },
        width=12,
    ),
    Panel(
        "timeseries",
        "Fleet: slots of accounts",
        {"{{provider}}: {{slots}}": f"sum by (provider, slots) (steadyvoice_fleet_slots{{{SOME}}})"},
    ),
    Panel(
        "timeseries",
        "Journal",
        {
            "lines per second, {{result}}": _rate("steadyvoice_journal_lines_total", "result"),
            "failing": f"max(steadyvoice_journal_failing{{{SOME}}})",
        },
    ),
    Panel(
        "timeseries",
        "Workers",
        {
            "{{instance}}: {{state}}": f"max by (instance, state) (steadyvoice_workers{{{SOME}}})",
            "restarts of {{instance}}": _increase("steadyvoice_worker_restarts_total", "instance"),
        },
    ),
    Panel(
        "timeseries",
        "Cache and hedging",
        {
            "cache {{result}}": _rate("steadyvoice_cache_requests_total", "result"),
            "hedge {{result}}": _rate("steadyvoice_hedges_total", "result"),
        },
        "reqps",
    ),
]


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return {
        "title": "steadyvoice",
        "uid": "steadyvoice",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "tags": ["text-to-speech"],
        "templating": {"list": [_source(), _instances()]},
        "panels": _placed(),
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _instances() -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "Gateway",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(steadyvoice_muted, instance)",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _placed() -> list[dict[str, Any]]:
    """Place panels side by side, as many as fit into 24 columns."""
    x = y = 0
    placed = []
    for number, panel in enumerate(PANELS, start=1):
        if x + panel.width > 24:
            x, y = 0, y + 8
        placed.append(_panel(panel, number) | {"gridPos": {"x": x, "y": y, "w": panel.width, "h": 8}})
        x += panel.width
    return placed


def _described(panel: Panel) -> str:
    names = dict.fromkeys(name for query in panel.queries.values() for name in _METRIC.findall(query))
    return ". ".join(_HELP[name] for name in names) + "."


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 40} if panel.stacked else {}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about or _described(panel),
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": SOURCE}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    (folder / "steadyvoice.json").write_text(json.dumps(dashboard(), indent=1) + "\n", encoding="utf-8")
