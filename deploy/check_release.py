"""Check that everything agrees on the version: `python deploy/check_release.py [TAG] [--notes FILE]`.

Without a tag, the newest section of the changelog may be unreleased. With one, such as v0.2.0, it must have a date, and
`--notes` writes it to a file. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
SECTION = re.compile(r"^## (?P<version>\S+) \((?P<date>[^)]+)\)\n(?P<notes>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)((?:a|b|rc)\d+)?")


class Section(NamedTuple):
    """Section of the changelog; the date is a day or `unreleased`."""

    version: str
    date: str
    notes: str


def sections(changelog: str) -> list[Section]:
    """Return the sections of a changelog, the newest first."""
    return [Section(found["version"], found["date"], found["notes"].strip()) for found in SECTION.finditer(changelog)]


def problems(root: Path, tag: str | None) -> Iterator[str]:
    """Yield a sentence for each disagreement."""
    found = re.search(r'__version__ = "([^"]+)"', (root / "src/steadyvoice/_version.py").read_text("utf-8"))
    version = found[1] if found else ""
    if not VERSION.fullmatch(version):
        yield f"src/steadyvoice/_version.py: {version!r} is not a version such as 1.2.3 or 1.2.3rc1"
    if tag is not None and tag != f"v{version}":
        yield f"the tag {tag} is not v{version}, the version of src/steadyvoice/_version.py"
    chart = (root / "deploy/helm/steadyvoice/Chart.yaml").read_text("utf-8")
    for key in ("version", "appVersion"):
        stated = re.search(rf"^{key}: *\"?([^\"\n]+)", chart, re.MULTILINE)
        if not stated or stated[1] != version:
            yield f"deploy/helm/steadyvoice/Chart.yaml: {key} is not {version}"
    yield from _changelog_problems(sections((root / "CHANGELOG.md").read_text("utf-8")), version, released=bool(tag))


def _changelog_problems(found: list[Section], version: str, *, released: bool) -> Iterator[str]:
    if not found or found[0].version != version:
        yield f"CHANGELOG.md: the first section is not ## {version} (...)"
        return
    if not found[0].notes:
        yield f"CHANGELOG.md: the section of {version} is empty"
    if released and not _is_day(found[0].date):
        yield f"CHANGELOG.md: {version} has no date such as (2026-11-29) but ({found[0].date})"
    for newer, older in pairwise(found):
        if not _is_day(older.date):
            yield f"CHANGELOG.md: {older.version} has no date such as (2026-11-29) but ({older.date})"
        if _key(older.version) >= _key(newer.version):
            yield f"CHANGELOG.md: {older.version} stands behind {newer.version}, which is not newer"


def _is_day(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def _key(version: str) -> tuple[object, ...]:
    found = VERSION.fullmatch(version)
    return (*map(int, found.groups()[:3]), found[4] is None, found[4] or "") if found else ()


def main() -> int:
    """Print what is wrong, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tag", nargs="?")
    parser.add_argument("--notes", type=Path, help="file for the notes of the version")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the repository")
    options = parser.parse_args()
    wrong = list(problems(options.root, options.tag))
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    if options.notes and not wrong:
        options.notes.write_text(sections((options.root / "CHANGELOG.md").read_text("utf-8"))[0].notes + "\n", "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
