"""Configuration page: it lists every key of the file, each with its true default."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import pytest
from configuration_reference import IN_CODE_ONLY, PAGE, TABLES, render, rows
from pydantic import BaseModel

from steadyvoice.providers import plugins
from steadyvoice.service.config_file import ConfigFile, build_arguments

from .layers import ROOT

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


def test_tables_are_those_of_the_code() -> None:
    assert render(PAGE.read_text("utf-8")) == PAGE.read_text("utf-8"), "make reference"


@pytest.mark.parametrize("name", TABLES)
def test_every_key_has_an_effect_and_a_range(name: str) -> None:
    for key, value, _, change, effect in rows(name):
        assert value, key
        assert effect.partition(":")[0], key
        assert change in ("reload", "reload, admin API", "restart")


def defaults_of(kind: Any) -> dict[str, Any]:
    if issubclass(kind, BaseModel):
        return {name: field.default for name, field in kind.model_fields.items()}
    return {field.name: field.default for field in fields(kind) if field.name not in IN_CODE_ONLY}


def _is_built_in(kind: plugins.ProviderKind) -> bool:
    return kind.entry_point.value.startswith("steadyvoice.")


def test_every_table_of_the_file_has_a_section() -> None:
    assert set(TABLES) | {"providers"} == set(ConfigFile.model_fields)


@pytest.mark.parametrize("title", TABLES)
def test_section_lists_every_key_with_its_default(title: str) -> None:
    shown = {row[0].strip("`"): default_in(row[2]) for row in section(f"[{title}]") if row[0] != "`preset`"}
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


COMPLETE: dict[str, dict[str, str]] = {
    "azure": {"region": "westeurope"},
    "polly": {"region": "eu-central-1", "secret_key": "secret-0123456789"},
}
"""Keys without which a provider of a kind is refused."""

REFUSALS: dict[str, Callable[[re.Match[str]], str]] = {
    r"whole number.*": lambda found: found[0].split(", got")[0],
    r"valid boolean": lambda _: "true or false",
    r"valid dictionary": lambda _: "table",
    r"tags such as": lambda _: "list of text",
    r"like https?://": lambda _: "URL",
    r"one of (.*), (.*), got": lambda found: f"{found[1]} or {found[2]}",
}
"""What a message refuses, and how the page describes what is taken in its place."""


def taken_value(kind: str, key: str) -> str:
    """Describe the values of a provider's key, by the messages with which wrong ones are refused."""
    given = {"api_key": "key-0123456789"} | COMPLETE.get(kind, {})
    allowed = inspect.signature(plugins.load_kind(kind)).parameters
    table = {name: value for name, value in given.items() if name in allowed}
    wrong_values: tuple[Any, ...] = (-1, "no such value", [])
    for wrong in wrong_values:
        try:
            build_arguments(ConfigFile(providers=[{"kind": kind, **table, key: wrong}]))
        except ValueError as error:
            for pattern, describe in REFUSALS.items():
                if found := re.search(pattern, str(error)):
                    return describe(found)
    return "text"


@pytest.mark.parametrize(
    "row", [row for row in section("[[providers]]") if len(row) == 5], ids=lambda row: row[0] + row[1][:9]
)
def test_values_of_providers_are_those_that_are_taken(row: list[str]) -> None:
    for kind in row[1].split(", "):
        assert taken_value(kind, row[0].strip("`")) == row[2], kind
