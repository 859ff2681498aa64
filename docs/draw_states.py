"""State diagram of the circuit breaker for docs/breaker.md, generated from the table in its code.

python docs/draw_states.py           # regenerate the table in the page, and the picture beside it
python docs/draw_states.py --check   # exit with an error if one of them is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import wrap

from steadyvoice.breaker.states import TRANSITIONS, CircuitState

PAGE = Path(__file__).with_name("breaker.md")
BEGIN, END = "<!-- drawn by draw_states.py -->\n", "<!-- end of the drawing -->\n"
PICTURE = PAGE.with_name("states.svg")

WIDTH, HEIGHT = 760, 300
BOXES = {CircuitState.CLOSED: (110, 60), CircuitState.OPEN: (650, 60), CircuitState.HALF_OPEN: (380, 250)}
"""Centre of each automatic state."""

ARROWS: dict[tuple[CircuitState, CircuitState], tuple[tuple[int, int, int, int], tuple[int, int, str]]] = {
    (CircuitState.CLOSED, CircuitState.OPEN): ((180, 48, 576, 48), (380, 38, "middle")),
    (CircuitState.OPEN, CircuitState.CLOSED): ((580, 72, 184, 72), (380, 90, "middle")),
    (CircuitState.OPEN, CircuitState.HALF_OPEN): ((670, 86, 456, 248), (580, 190, "start")),
    (CircuitState.HALF_OPEN, CircuitState.OPEN): ((430, 224, 600, 90), (490, 150, "end")),
    (CircuitState.HALF_OPEN, CircuitState.CLOSED): ((310, 248, 94, 90), (190, 190, "end")),
}
"""Line of each transition, and the place and alignment of its label."""

STYLE = """
  rect.page { fill: #fff } rect.state { fill: #eef4ff; stroke: #2a5db0; stroke-width: 1.5 }
  text { font: 13px system-ui, sans-serif; fill: #222 } text.state { font-weight: 600; font-size: 15px }
  line { stroke: #444; stroke-width: 1.5; marker-end: url(#end) } #end path { fill: #444 }
"""


def main() -> str | None:
    """Regenerate or check the page and the picture; return an error message or None."""
    page = PAGE.read_text("utf-8")
    if "--check" in sys.argv[1:]:
        current = redrawn(page) == page and PICTURE.read_text("utf-8") == diagram()
        return None if current else f"{PAGE.name} or {PICTURE.name} is out of date: python docs/draw_states.py"
    PAGE.write_text(redrawn(page), "utf-8")
    PICTURE.write_text(diagram(), "utf-8")
    return None


def redrawn(page: str) -> str:
    """Return the page with a new table between its two markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n![State diagram of the circuit]({PICTURE.name})\n\n{table()}\n{END}{after}"


def diagram() -> str:
    """Return a picture (SVG) of the three automatic states and the transitions between them."""
    arrows = [
        _arrow(start, end, why)
        for start, ends in TRANSITIONS.items()
        for end, why in ends.items()
        if start in BOXES and end in BOXES
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    marker = '<marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    page = f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
    title = "<title>States of the circuit</title>"
    defs = f'<defs>{marker}<path d="M0 0 8 4 0 8z"/></marker></defs>'
    boxes = [_box(state, *centre) for state, centre in BOXES.items()]
    return "\n".join([head, title, f"<style>{STYLE}</style>", defs, page, *boxes, *arrows, "</svg>", ""])


def _box(state: CircuitState, x: int, y: int) -> str:
    return (
        f'<rect class="state" x="{x - 70}" y="{y - 26}" width="140" height="52" rx="10"/>'
        f'<text class="state" x="{x}" y="{y + 5}" text-anchor="middle">{_name(state)}</text>'
    )


def _arrow(start: CircuitState, end: CircuitState, why: str) -> str:
    (x1, y1, x2, y2), (x, y, anchor) = ARROWS[start, end]
    lines = "".join(
        f'<tspan x="{x}" dy="{16 if number else 0}">{line}</tspan>' for number, line in enumerate(_wrapped(why))
    )
    arrow = f'<line class="{start.value}-{end.value}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'
    return f'{arrow}<text x="{x}" y="{y}" text-anchor="{anchor}">{lines}</text>'


def _wrapped(why: str) -> list[str]:
    """Return a label in lines: its sentence, then the names of the methods."""
    parts = why.split(", ")
    sentences = [part for part in parts if not part.endswith("()")]
    methods = ", ".join(part for part in parts if part.endswith("()"))
    return [line for sentence in sentences for line in wrap(sentence, 32)] + ([methods] if methods else [])


def table() -> str:
    """Return a table of every state and every transition from it."""
    rows = ["<!-- tested: tests/breaker/configuration/test_state_diagram.py -->"]
    rows += [f"| from \\ to | {' | '.join(map(_name, CircuitState))} |", "|---" * (len(CircuitState) + 1) + "|"]
    rows += [f"| **{_name(start)}** | {' | '.join(_cells(start))} |" for start in CircuitState]
    return "\n".join([*rows, ""])


def _cells(start: CircuitState) -> list[str]:
    return [TRANSITIONS[start].get(end, "") for end in CircuitState]


def _name(state: CircuitState) -> str:
    return state.value.replace("_", " ")


if __name__ == "__main__":
    sys.exit(main())
