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

from steadyvoice.gateway.observability.metric_definitions import METRIC_DEFINITIONS
from tests.required_tools import require_tool

DEPLOY = Path(__file__).parents[3] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
GRAFANA = DEPLOY / "grafana" / "steadyvoice.json"
OF_PROMETHEUS = {"instance", "job", "le"}  # labels that the scraper adds

_METRIC = re.compile(r"\bsteadyvoice_\w+")
_LABELS = re.compile(r"\bby \(([\w, ]+)\)|(\w+)=~?[\"']")


def queries() -> list[str]:
    board = json.loads(GRAFANA.read_text("utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    alerts = ALERTS.read_text("utf-8").split("- alert:")[1:]
    return [*asked, *(alert.split("expr:")[1].split("for:")[0] for alert in alerts)]


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
    named = set(_METRIC.findall(query))
    assert named
    assert named <= known.keys()
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


@pytest.mark.parametrize("order", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_accepts_the_alerts_and_their_tests(order: list[str]) -> None:
    require_tool(shutil.which("promtool") is not None, "promtool")
    done = subprocess.run(["promtool", *order], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text("utf-8")))
    fires = re.findall(r"alertname: (\w+)\n +exp_alerts", (ALERTS.parent / "alerts_test.yml").read_text("utf-8"))
    assert alerts == set(fires)
