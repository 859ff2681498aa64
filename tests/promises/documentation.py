"""Examples, commands and links of the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .layers import ROOT

README = ROOT / "README.md"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

_FENCE = re.compile(r"^(?P<runs><!-- runs -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)(?:    .+\n)+")
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """Fenced block of code. `runs`: the line above its fence says that it can be run as it is."""

    page: str
    line: int
    language: str
    code: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str) -> Iterator[Block]:
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(page, line, found["language"], found["code"], bool(found["runs"]))


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(_name(page), page.read_text("utf-8"))]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command in a page's shell blocks, fenced or indented; pipes and `&&` separate them."""
    shell = [block.code for block in blocks("", text) if block.language in ("sh", "bash", "console")]
    for line in "\n".join([*shell, *_INDENTED.findall(_FENCE.sub("", text))]).replace("\\\n", " ").splitlines():
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
