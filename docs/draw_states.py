"""Draws the states of a circuit breaker into docs/breaker.md, from the table in its code.

python docs/draw_states.py           # write the page anew
python docs/draw_states.py --check   # only say whether it is up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from steadyvoice.breaker.states import TRANSITIONS, CircuitState

PAGE = Path(__file__).with_name("breaker.md")
BEGIN, END = "<!-- drawn by draw_states.py -->\n", "<!-- end of the drawing -->\n"
BY_ITSELF = (CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN)


def main() -> str | None:
    """None when all is well, else what is not."""
    page = PAGE.read_text("utf-8")
    if "--check" in sys.argv[1:]:
        return None if redrawn(page) == page else f"{PAGE.name} is out of date: python docs/draw_states.py"
    PAGE.write_text(redrawn(page), "utf-8")
    return None


def redrawn(page: str) -> str:
    """The page with a fresh drawing between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{diagram()}\n{table()}\n{END}{after}"


def diagram() -> str:
    """The three states that move by themselves, for a renderer of Mermaid."""
    arrows = [
        f"    {start.value} --> {end.value}: {why}"
        for start, ends in TRANSITIONS.items()
        for end, why in ends.items()
        if start in BY_ITSELF and end in BY_ITSELF
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> closed", *arrows, "```", ""])


def table() -> str:
    """Every state and every way out of it."""
    rows = [f"| from \\ to | {' | '.join(map(_name, CircuitState))} |", "|---" * (len(CircuitState) + 1) + "|"]
    rows += [f"| **{_name(start)}** | {' | '.join(_cells(start))} |" for start in CircuitState]
    return "\n".join([*rows, ""])


def _cells(start: CircuitState) -> list[str]:
    return [TRANSITIONS[start].get(end, "") for end in CircuitState]


def _name(state: CircuitState) -> str:
    return state.value.replace("_", " ")


if __name__ == "__main__":
    sys.exit(main())
