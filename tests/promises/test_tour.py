"""Tour of the code: every module and name that it mentions exists."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .layers import PACKAGE, ROOT, all_imports, sub_packages

TOUR = ROOT / "docs" / "tour.md"
_PATH = re.compile(r"`([\w/.-]+/[\w.-]+\.\w+|(?:_{1,2}\w+|livekit|pipecat)\.py)`")
_NAME = re.compile(r"`([A-Za-z_]\w*(?:\.\w+)*)`")
# In the steps of a request: a name, and in brackets behind it the module that defines it.
_LOCATED = re.compile(r"`([A-Za-z_]\w*)`\s+\(`([\w/]+\.py)`")


def text() -> str:
    return TOUR.read_text("utf-8")


def rows() -> Iterator[tuple[str, list[str], list[str]]]:
    """Return subject, modules and names of each row under "Where do I change"."""
    for line in text().partition("\n## Where do I change")[2].splitlines():
        if line.startswith("| ") and not line.startswith(("| what ", "|---")):
            what, modules, names = (cell.strip() for cell in line.strip("|").split("|"))
            yield what, _PATH.findall(modules), _NAME.findall(names)


@cache
def defined_in(module: str) -> frozenset[str]:
    """Return the top-level names of a module, and those of its classes' members as `Class.member`."""
    return frozenset(_names(ast.parse((PACKAGE / module).read_text("utf-8")).body))


def _names(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        match node:
            case ast.ClassDef(name=name, body=members):
                yield prefix + name
                yield from _names(members, f"{prefix}{name}.")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield prefix + name
            case ast.Assign(targets=targets):
                yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name


ROWS = list(rows())


def test_tour_locates_at_least_forty_subjects() -> None:
    assert len(ROWS) >= 40
    assert len({what for what, _, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("what", "modules", "names"), ROWS, ids=[what for what, _, _ in ROWS])
def test_every_location_in_the_tour_exists(what: str, modules: list[str], names: list[str]) -> None:
    assert modules, f"{what}: no module is named"
    for module in modules:
        assert (PACKAGE / module).is_file()
    defined = frozenset[str]().union(*(defined_in(module) for module in modules if module.endswith(".py")))
    assert names or not defined, f"{what}: no class or function is named"
    assert set(names) <= defined


def test_every_path_in_the_tour_exists() -> None:
    missing = [
        path for path in _PATH.findall(text()) if not any((folder / path).exists() for folder in (PACKAGE, ROOT))
    ]
    assert missing == []


def test_names_in_the_steps_are_defined_where_the_tour_says() -> None:
    located = _LOCATED.findall(text())
    assert len(located) > 10
    assert [(name, module) for name, module in located if name not in defined_in(module)] == []


def test_every_package_is_in_the_table_of_layers() -> None:
    packages = {path.parent.name for path in Path(PACKAGE).glob("*/__init__.py")}
    table = text().partition("\n## ")[0]
    assert packages <= set(_NAME.findall(table))


def test_sub_packages_import_each_other_as_the_tour_says() -> None:
    pairs = {pair for each in all_imports() if (pair := sub_packages(each))}
    imports, imported_by = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for importer, imported in pairs:
        imports[importer].add(imported.replace(".", "/"))
        imported_by[imported].add(importer.replace(".", "/"))
    table = text().partition("\n| sub-package | imports | and is imported by |\n")[2].partition("\n\n")[0]
    rows = [[re.findall(r"`(.+?)`", cell) for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]
    assert {name for (name,), _, _ in rows} == {name.replace(".", "/") for name in imports}
    for (name,), lower, upper in rows:
        assert set(lower) == imports[name.replace("/", ".")]
        assert set(upper) == imported_by[name.replace("/", ".")]
