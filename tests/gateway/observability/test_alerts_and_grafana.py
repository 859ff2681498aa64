"""Alerting rules and Grafana dashboard: queried metrics exist, and promtool accepts the rules."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from steadyvoice.service.metrics.metric_definitions import METRIC_DEFINITIONS
from tests.required_tools import require_tool

DEPLOY = Path(__file__).parents[3] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
GRAFANA = DEPLOY / "grafana" / "steadyvoice.json"
OF_PROMETHEUS = {"instance", "job", "le"}  # labels that the scraper adds

_METRIC = re.compile(r"\bsteadyvoice_\w+")
_RECORDED = re.compile(r"\bsteadyvoice:[\w:]+")
_LABELS = re.compile(r"\bby \(([\w, ]+)\)|(\w+)=~?[\"']")


def queries() -> list[str]:
    board = json.loads(GRAFANA.read_text("utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [*asked, *(rule["expr"] for rule in rules())]


def rules() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]


def exported() -> dict[str, set[str]]:
    """Every series there is, with its labels."""
    return {series: set(labels) for name, labels in _families() for series in _series(name)}


def _families() -> Iterator[tuple[str, tuple[str, ...]]]:
    for family in METRIC_DEFINITIONS:
        yield family.name, tuple(family.labels)


def _series(name: str) -> list[str]:
    return [name, f"{name}_bucket", f"{name}_sum", f"{name}_count"]


@pytest.mark.parametrize("query", queries())
def test_queried_metrics_are_exported_with_the_queried_labels(query: str) -> None:
    known = exported()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    named = set(_METRIC.findall(query))
    assert named | set(_RECORDED.findall(query))
    assert named <= known.keys()
    assert set(_RECORDED.findall(query)) <= recorded
    asked = {label.strip() for by, one in _LABELS.findall(query) for label in (by or one).split(",")}
    assert asked <= OF_PROMETHEUS.union(*(known[name] for name in named))


def test_grafana_dashboard_is_up_to_date() -> None:
    draw = runpy.run_path(str(DEPLOY / "grafana" / "draw.py"))
    assert json.loads(GRAFANA.read_text("utf-8")) == draw["dashboard"]()


def test_grafana_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in json.loads(GRAFANA.read_text("utf-8"))["panels"]]
    covered = [(x, place["y"]) for place in places for x in range(place["x"], place["x"] + place["w"])]
    assert len(covered) == len(set(covered))
    assert max(x for x, _ in covered) < 24


NOT_SHOWN = {
    "steadyvoice_build_info",
    "steadyvoice_cache_failing",
    "steadyvoice_cache_kept_total",
    "steadyvoice_circuit_opened_timestamp_seconds",
    "steadyvoice_circuit_window_calls",
    "steadyvoice_engine_wait_seconds",
    "steadyvoice_loop_lost_seconds_total",
    "steadyvoice_overloaded",
    "steadyvoice_provider_credit_characters_per_hour",
    "steadyvoice_provider_retry_after_seconds",
}
"""Metrics without a panel, because another one says nearly the same."""


def test_grafana_shows_every_metric() -> None:
    shown = set(_METRIC.findall(GRAFANA.read_text("utf-8")))
    assert {name for name, _ in _families() if not shown & set(_series(name))} == NOT_SHOWN


@pytest.mark.parametrize(
    "order",
    [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
        ["test", "rules", "outages_test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_accepts_the_alerts_and_their_tests(order: list[str]) -> None:
    require_tool(shutil.which("promtool") is not None, "promtool")
    done = subprocess.run(["promtool", *order], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test() -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    fires = re.findall(r"alertname: (\w+)\n +exp_alerts", (ALERTS.parent / "alerts_test.yml").read_text("utf-8"))
    outages = yaml.safe_load((ALERTS.parent / "outages_test.yml").read_text("utf-8"))["tests"]
    found = [
        re.findall(r'alertname="(\w+)"', each["expr"])[0]
        for outage in outages
        for each in outage["promql_expr_test"]
        if each["exp_samples"][0]["value"] == 1
    ]
    assert alerts == {*fires, *found}


def test_recorded_outages_are_those_of_the_script() -> None:
    record = runpy.run_path(str(ALERTS.parent / "record.py"))
    outages = yaml.safe_load((ALERTS.parent / "outages_test.yml").read_text("utf-8"))["tests"]
    assert [each["name"] for each in outages] == [each.name for each in record["SCENARIOS"]]
    for outage, scenario in zip(outages, record["SCENARIOS"], strict=True):
        fires = [each for each in outage["promql_expr_test"] if each["exp_samples"][0]["value"] == 1]
        assert len(fires) == len(scenario.fires)
