"""Command line page: it lists every command and option, each with its true default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperGroup, TyperOption

from steadyvoice.cli.app import app

from .layers import ROOT

COMMON = {"--debug", "--help", "-h"}


def commands() -> dict[str, Any]:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return dict(group.commands)


def options(command: Any) -> Iterator[tuple[frozenset[str], Any]]:
    """Yield the names of each option with its default."""
    for parameter in command.params:
        if isinstance(parameter, TyperOption) and not (parameter.hidden or COMMON & set(parameter.opts)):
            yield frozenset(parameter.opts), parameter.default


def documented(command: str) -> dict[frozenset[str], str]:
    """Return the defaults on the page by the names of an option."""
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    section = text.partition(f"\n## `steadyvoice {command}`\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    return {frozenset(re.findall(r"`(-.+?)`", names)): default for names, _, default, _ in rows}


@pytest.mark.parametrize("name", sorted(commands()))
def test_command_line_page_lists_every_option_with_its_default(name: str) -> None:
    found = documented(name)
    expected = dict(options(commands()[name]))
    assert set(found) == set(expected)
    for names, default in expected.items():
        if default is not None:
            assert found[names] == ("off" if default is False else f"`{default}`")


def test_command_line_page_lists_every_command() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    assert sorted(re.findall(r"^## `steadyvoice (\w+)`$", text, re.MULTILINE)) == sorted(commands())
