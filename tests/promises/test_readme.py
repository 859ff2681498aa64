"""README: its table of failures agrees with the table that the code goes by."""

from __future__ import annotations

import re

import pytest

from steadyvoice.speech.failure_kinds import FAILURE_TABLE, FailureKind

from .documentation import README


def failure_rows() -> list[tuple[list[str], str]]:
    """Return the kinds and the weight of each row of README's table of failures."""
    section = README.read_text("utf-8").partition("\n## What happens at each failure\n")[2].partition("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [(re.findall(r"`(\w+)`", kinds), weight) for _, kinds, _, weight in rows[2:]]


ROWS = [(kind, weight) for kinds, weight in failure_rows() for kind in kinds]


def test_failures_of_readme_are_found() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize(("kind", "weight"), ROWS)
def test_failure_in_readme_has_the_weight_that_the_circuit_counts(kind: str, weight: str) -> None:
    counts = FAILURE_TABLE[FailureKind(kind)].counts
    if re.fullmatch(r"[\d.]+", weight):
        assert float(weight) == counts
    else:  # such as "1 if the vendor's own timestamps show it, 0 if only the length does"
        assert f"{counts:g}" in re.findall(r"[\d.]+", weight)
