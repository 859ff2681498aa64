"""State diagram and transition table in the documentation."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

from steadyvoice.breaker import CircuitState
from steadyvoice.breaker.states import TRANSITIONS

DOCS = Path(__file__).parents[3] / "docs"


def drawing() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "draw_states.py"))


def test_documentation_shows_the_transitions_of_the_code() -> None:
    page = (DOCS / "breaker.md").read_text("utf-8")
    assert drawing()["redrawn"](page) == page, "python docs/draw_states.py"
    assert drawing()["diagram"]() == (DOCS / "states.svg").read_text("utf-8"), "python docs/draw_states.py"


def test_table_has_every_transition_and_no_other() -> None:
    rows = [re.split(r" ?\| ?", line)[1:-1] for line in drawing()["table"]().splitlines()[1:]]
    names = [state.value.replace("_", " ") for state in CircuitState]
    assert rows[0] == ["from \\ to", *names]
    seen = {
        (start, end): why
        for start, row in zip(CircuitState, rows[2:], strict=True)
        for end, why in zip(CircuitState, row[1:], strict=True)
        if why
    }
    assert seen == {(start, end): why for start, ends in TRANSITIONS.items() for end, why in ends.items()}


def test_diagram_has_an_arrow_for_every_automatic_transition() -> None:
    arrows = set(re.findall(r'<line class="(\w+)-(\w+)"', drawing()["diagram"]()))
    by_itself = {"closed", "open", "half_open"}
    ways = {(start.value, end.value) for start, ends in TRANSITIONS.items() for end in ends}
    assert arrows == {way for way in ways if set(way) <= by_itself}
