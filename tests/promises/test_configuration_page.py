"""Configuration page: it lists every key of the file, each with its true default."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import pytest

from steadyvoice import CacheConfig, CircuitBreakerConfig, HedgeConfig, JournalConfig, RetryConfig, TimeoutConfig
from steadyvoice.fleet import FleetConfig
from steadyvoice.providers import plugins
from steadyvoice.service.config_file import ConfigFile, FallbackConfig, ServerConfig, TelemetryTable

from .layers import ROOT

NOT_IN_FILES = {"opens_when", "failure_on", "ignore", "failure_result", "failure_weight", "cooldown_from_error"}
NOT_OF_FILES = {"name", "voices", "wall_clock", "files"}  # of providers: common to all, or for code only


def section(title: str) -> list[list[str]]:
    """Return the cells of the rows below a heading, header rows excluded."""
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    lines = text.partition(f"\n## `{title}`\n")[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    assert rows, f"there is no section {title}"
    return rows


def default_in(cell: str) -> Any:
    if cell in ("none", "required"):
        return None if cell == "none" else MISSING
    return tomllib.loads(f"x = {cell.strip('`')}")["x"]


def defaults_of(kind: Any) -> dict[str, Any]:
    if issubclass(kind, ServerConfig | FallbackConfig | TelemetryTable):
        return {name: field.default for name, field in kind.model_fields.items()}
    return {field.name: field.default for field in fields(kind) if field.name not in NOT_IN_FILES}


TABLES: Mapping[str, type] = {
    "[server]": ServerConfig,
    "[fallback]": FallbackConfig,
    "[timeouts]": TimeoutConfig,
    "[retry]": RetryConfig,
    "[circuit]": CircuitBreakerConfig,
    "[cache]": CacheConfig,
    "[journal]": JournalConfig,
    "[hedge]": HedgeConfig,
    "[fleet]": FleetConfig,
    "[telemetry]": TelemetryTable,
}


def _is_built_in(kind: plugins.ProviderKind) -> bool:
    return kind.entry_point.value.startswith("steadyvoice.")


def test_every_table_of_the_file_has_a_section() -> None:
    assert {name.strip("[]") for name in TABLES} | {"providers"} == set(ConfigFile.model_fields)


@pytest.mark.parametrize("title", TABLES)
def test_section_lists_every_key_with_its_default(title: str) -> None:
    shown = {row[0].strip("`"): default_in(row[2]) for row in section(title) if row[0] != "`preset`"}
    assert shown == defaults_of(TABLES[title])


@pytest.mark.parametrize("kind", sorted(kind for kind, each in plugins.installed_kinds().items() if _is_built_in(each)))
def test_section_of_providers_lists_every_key_of_each_kind(kind: str) -> None:
    rows = [row for row in section("[[providers]]") if len(row) == 5 and kind in row[1].split(", ")]
    shown = {row[0].strip("`"): row[3] for row in rows}
    parameters = inspect.signature(plugins.load_kind(kind)).parameters
    assert shown.keys() == parameters.keys() - NOT_OF_FILES
    for name, default in shown.items():
        if default.startswith("`"):
            assert default_in(default) == parameters[name].default
