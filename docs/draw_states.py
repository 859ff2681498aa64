"""State diagram of the circuit breaker for docs/breaker.md, generated from the table in its code.

python docs/draw_states.py           # regenerate the page
python docs/draw_states.py --check   # exit with an error if it is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from steadyvoice.breaker.states import TRANSITIONS, CircuitState

PAGE = Path(__file__).with_name("breaker.md")
BEGIN, END = "<!-- drawn by draw_states.py -->\n", "<!-- end of the drawing -->\n"
AUTOMATIC_STATES = (CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN)


def main() -> str | None:
    """Regenerate or check the page; return an error message or None."""
    page = PAGE.read_text("utf-8")
    if "--check" in sys.argv[1:]:
        return None if redrawn(page) == page else f"{PAGE.name} is out of date: python docs/draw_states.py"
    PAGE.write_text(redrawn(page), "utf-8")
    return None


def redrawn(page: str) -> str:
    """Return the page with a new diagram between its two markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{diagram()}\n{table()}\n{END}{after}"


def diagram() -> str:
    """Return a Mermaid diagram of the three automatic states."""
    arrows = [
        f"    {start.value} --> {end.value}: {why}"
        for start, ends in TRANSITIONS.items()
        for end, why in ends.items()
        if start in AUTOMATIC_STATES and end in AUTOMATIC_STATES
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> closed", *arrows, "```", ""])


def table() -> str:
    """Return a table of every state and every transition from it."""
    rows = [f"| from \\ to | {' | '.join(map(_name, CircuitState))} |", "|---" * (len(CircuitState) + 1) + "|"]
    rows += [f"| **{_name(start)}** | {' | '.join(_cells(start))} |" for start in CircuitState]
    return "\n".join([*rows, ""])


def _cells(start: CircuitState) -> list[str]:
    return [TRANSITIONS[start].get(end, "") for end in CircuitState]


def _name(state: CircuitState) -> str:
    return state.value.replace("_", " ")


if __name__ == "__main__":
    sys.exit(main())
