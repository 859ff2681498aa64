"""The numbers of the comparison are those of the run, or of the page, that they were measured in."""

from __future__ import annotations

import re

import pytest

from .layers import ROOT

DOCS = ROOT / "docs"
PAGE = (DOCS / "comparison.md").read_text("utf-8")
RUN = (DOCS / "measured" / "breaker.txt").read_text("utf-8")


def table(first_cell: str, text: str = PAGE) -> list[list[str]]:
    """Return the rows of the table whose head begins with this cell, without the head."""
    _, found, rest = text.partition(f"\n| {first_cell} |")
    assert found, first_cell
    lines = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def measured_multiples() -> dict[str, list[str]]:
    """Return the multiples of steadyvoice's overhead for each breaker, in the run's table of plain functions."""
    lines = RUN.partition("plain functions")[2].partition("\n\n")[0].splitlines()[2:]
    return {line[:24].strip(): re.findall(r"([\d.]+)x", line) for line in lines}


def test_cost_of_a_call_is_that_of_the_run() -> None:
    measured = measured_multiples()
    shown = {name: cells for name, *cells in table("plain functions")}

    assert len(shown) == 9
    assert all(measured[name] == cells for name, cells in shown.items())
    nanoseconds = re.search(r"^steadyvoice +(\d+) .+? (\d+) ± .+? (\d+) ±", RUN, re.MULTILINE)
    assert nanoseconds
    success, failure, refusal = nanoseconds.groups()
    one = f"One is {success} ns for a success, {failure} ns for a failure and {refusal} ns for a refusal."
    assert one in " ".join(PAGE.split())


def test_size_and_import_are_those_of_the_run() -> None:
    section = PAGE.partition("| | bytes of a breaker |")[2].split("\n\n")[0]
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines()[2:]]

    assert len(shown) == 6
    for name, size, seconds in shown:
        assert re.search(rf"^{name} +{size} +{seconds}$", RUN, re.MULTILINE), name


@pytest.mark.parametrize(
    ("first_cell", "source"),
    [
        ("policy, at its defaults", "decisions/0007-adaptive-circuit-policy.md"),
        ("saturation, 32 clients", "gateway.md"),
    ],
)
def test_copied_rows_are_those_of_their_page(first_cell: str, source: str) -> None:
    rows = table(first_cell)
    originals = table(first_cell, (DOCS / source).read_text("utf-8"))

    assert len(rows) >= 6
    assert all(row in originals for row in rows)


def test_rows_about_redis_are_those_of_the_fleet_page() -> None:
    rows = re.findall(r"^\| [\w. -]+ \| [02] \| .+$", PAGE, re.MULTILINE)

    assert len(rows) == 4
    assert all(row in (DOCS / "fleet.md").read_text("utf-8") for row in rows)


@pytest.mark.parametrize("heading", re.findall(r"^## (.+)$", PAGE, re.MULTILINE)[:-1])
def test_each_part_says_when_to_take_the_other(heading: str) -> None:
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]

    assert re.search(r"\bTake |When to take another", part)
