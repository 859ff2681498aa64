"""Examples, commands and links of the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .layers import ROOT

README = ROOT / "README.md"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"^\|.*\n\|[-| :]+\|\n(?:\|.*\n?)+", re.MULTILINE)
_MARK = re.compile(r"<!-- (?P<verb>[a-z][a-z ]*)(?:: (?P<argument>[^\n]+?))? -->\n\Z")
_OF_ALL = re.compile(
    r"^<!-- all (?P<what>fences|tables): (?P<verb>[a-z][a-z ]*?)(?:: (?P<argument>.+?))? -->$", re.MULTILINE
)
_INDENTED = re.compile(r"(?<=\n\n)(?:    .+\n)+")
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mark:
    """Comment in the line above a fence or table: `<!-- VERB -->` or `<!-- VERB: ARGUMENT -->`, how it is checked.

    `<!-- all fences: ... -->` and `<!-- all tables: ... -->` are the marks of those of a page that have none.
    """

    verb: str = ""
    argument: str = ""

    @classmethod
    def above(cls, text: str, start: int, what: str) -> Mark:
        """Return the mark of what begins at a position of a page."""
        found = _MARK.search(text, max(0, start - 200), start)
        if not found:
            found = _marks_of_all(text).get(what)
        return cls(found["verb"], found["argument"] or "") if found else cls()


@dataclass(frozen=True, slots=True)
class Block:
    """Fenced block of code."""

    page: str
    line: int
    language: str
    code: str
    mark: Mark

    @property
    def runs(self) -> bool:
        """True if it is executed as it stands, or loaded as a configuration."""
        return self.mark.verb == "runs"

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Table:
    """Table with the cells of its head and rows."""

    page: str
    line: int
    head: list[str]
    rows: list[list[str]]
    mark: Mark

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def _marks_of_all(text: str) -> dict[str, re.Match[str]]:
    return {found["what"]: found for found in reversed([*_OF_ALL.finditer(text)])}


def blocks(page: str, text: str) -> Iterator[Block]:
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(page, line, found["language"], found["code"], Mark.above(text, found.start(), "fences"))


def tables(page: str, text: str) -> Iterator[Table]:
    outside = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found in _TABLE.finditer(outside):
        line = outside.count("\n", 0, found.start()) + 1
        head, _, *rows = [_cells(each) for each in found[0].splitlines()]
        yield Table(page, line, head, rows, Mark.above(outside, found.start(), "tables"))


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().removeprefix("|").removesuffix("|"))]


def indented_blocks(text: str) -> list[str]:
    """Return the blocks of code that are set off by indentation."""
    return _INDENTED.findall(_FENCE.sub("", text))


@cache
def all_blocks() -> Sequence[Block]:
    return [block for page in PAGES for block in blocks(_name(page), page.read_text("utf-8"))]


@cache
def all_tables() -> Sequence[Table]:
    return [table for page in PAGES for table in tables(_name(page), page.read_text("utf-8"))]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command in a page's shell blocks, fenced or indented; pipes and `&&` separate them."""
    shell = [block.code for block in blocks("", text) if block.language in ("sh", "bash", "console")]
    for line in "\n".join([*shell, *indented_blocks(text)]).replace("\\\n", " ").splitlines():
        words = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
        command: list[str] = []
        for word in words:
            if set(word) <= set("|&;"):
                yield command
                command = []
            else:
                command.append(word)
        if command:
            yield command


def make_targets_named(text: str) -> list[str]:
    calls = [command for command in commands(text) if command[0] == "make"]
    return [word for call in calls for word in call[1:] if "=" not in word]


def steadyvoice_calls(text: str) -> list[tuple[str, list[str]]]:
    """Return each `steadyvoice SUBCOMMAND ...` with the options it names."""
    calls = [command for command in commands(text) if Path(command[0]).name == "steadyvoice" and len(command) > 1]
    return [(call[1], [word.partition("=")[0] for word in call[2:] if re.match(r"--?[a-z]", word)]) for call in calls]


def dead_links(page: Path) -> list[str]:
    """Return the links to files that do not exist, and to headings that their page does not have."""
    targets = [found["target"] for found in _LINK.finditer(page.read_text("utf-8"))]
    return [
        target
        for target in targets
        if "://" not in target and not target.startswith("mailto:") and _is_dead(page, target)
    ]


def _is_dead(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    linked = page.parent / path if path else page
    if not linked.exists():
        return True
    return bool(anchor) and linked.suffix == ".md" and anchor not in anchors(linked.read_text("utf-8"))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    found: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, 0) + 1
    return {f"{anchor}-{n}" if n else anchor for anchor, count in found.items() for n in range(count)}


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))
