"""Generator of the tables in docs/length.md.

python -m tests.length.page           # draw the answers, and write the tables
python -m tests.length.page --check   # only check whether they are up to date
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from .synthetic_answers import CUTS, KNOWN, STYLES, UNSURE, WRITTEN, Rates, error_rates

PAGE = Path(__file__).parents[2] / "docs" / "length.md"
BEGIN, END = "<!-- error rates: python -m tests.length.page -->\n", "<!-- end of error rates -->\n"
VOICES, VOICES_OF_ALL = 15, 3

Row = tuple[str, Rates, Rates]
"""Subject of a row, and its errors for a new voice and for a known one."""


def rows(times: int = 1) -> Iterator[Row]:
    """Return rows of each language in the usual style, and of each style in all languages."""
    for language in (*WRITTEN, *UNSURE):
        new, known = (error_rates([language], "usual", voices=VOICES * times, known=count) for count in (0, KNOWN))
        yield language.name, new, known
    for style in STYLES:
        new, known = (error_rates(WRITTEN, style, voices=VOICES_OF_ALL * times, known=count) for count in (0, KNOWN))
        yield f"style: {style}", new, known


def table(results: list[Row]) -> str:
    """Return the table of all rows."""
    spans = [f"{least:.0%}-{most:.0%}".replace("%-", "-") for least, most in CUTS]
    head = [
        "",
        "rejected, new",
        "rejected, known",
        *(f"missed {span}, {group}" for span in spans for group in ("new", "known")),
    ]
    lines = [head, ["---"] * len(head)]
    for name, new, known in results:
        cells = [name, *(f"{rates.false_refusals:.1%}" for rates in (new, known))]
        cells += [f"{rates.misses(cut):.0%}" for cut in range(len(CUTS)) for rates in (new, known)]
        lines.append(cells)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def updated_page(page: str, results: list[Row]) -> str:
    """Return the page with this table in it."""
    before, _, rest = page.partition(BEGIN)
    mark = "<!-- tested: tests/length/test_error_rates.py -->\n"
    return before + BEGIN + "\n" + mark + table(results) + "\n" + END + rest.partition(END)[2]


def main() -> str | None:
    """Return None if the page is up to date, else a message."""
    page = PAGE.read_text("utf-8")
    new = updated_page(page, list(rows()))
    if "--check" in sys.argv[1:]:
        return None if page == new else f"{PAGE.name} is out of date: python -m tests.length.page"
    PAGE.write_text(new, "utf-8")
    return None


if __name__ == "__main__":
    sys.exit(main())
