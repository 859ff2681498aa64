"""API reference: Markdown pages of every public name, from signatures and docstrings.

python docs/builder/api_reference.py           # regenerate the pages in docs/reference/
python docs/builder/api_reference.py --check   # exit with an error if one of them is out of date
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from enum import Enum
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, is_typeddict

from descriptions import alias_description, without_items
from reference_pages import COMMON, FORKING, INTERNAL, NOT_CONSTRUCTED, PAGES, ReferencePage
from signatures import (
    Parameter,
    code,
    constructor_parameters,
    enum_members,
    function_parameters,
    options_of,
    plain_function,
    shown_call,
    shown_type,
    table,
)
from sphinx.ext.autodoc.mock import mock  # type: ignore[attr-defined]

FOLDER = Path(__file__).parents[1] / "reference"

FRAMEWORKS = ["livekit", "pipecat", "loguru"]
"""Packages that are not in the development environment: stand-ins of them are imported."""

PLACES: dict[str, str] = {}
"""Address in the folder of each public name; the first one of a name that two frameworks' plugins share."""

for _page in PAGES:
    for _name in (name for names in _page.names.values() for name in names):
        PLACES.setdefault(_name, f"{_page.file}#{_name.lower()}")


class PublicName:
    """Public name and its section: signature, docstring, parameters and members.

    - `module`: the module that it is imported from.
    - `name`: its name there.
    - `page`: file of the page that shows it.
    """

    def __init__(self, module: str, name: str, page: str) -> None:
        self.module = module
        self.name = name
        self.page = page
        self.value: Any = getattr(import_module(module), name)

    @property
    def docstring(self) -> str:
        """Docstring, or the text below an alias or a constant."""
        if self._is_class:
            return inspect.cleandoc(vars(self.value).get("__doc__") or "")
        if inspect.isfunction(self.value):
            return inspect.getdoc(self.value) or ""
        return alias_description(_home(self.module, self.name), self.name)

    @property
    def parameters(self) -> list[Parameter]:
        """Parameters of a function or of a class's constructor, fields of a value, or members of an enum."""
        if inspect.isfunction(self.value):
            return function_parameters(self.value, self.docstring)
        if not self._is_class or getattr(self.value, "_is_protocol", False) or inspect.isabstract(self.value):
            return []
        if self._is_options:
            return options_of(self.value)
        if self.name in NOT_CONSTRUCTED:
            return []
        if self._is_enum:
            return enum_members(self.value, self.docstring)
        if self._has_fields or _is_own(self.value, "__init__"):
            return constructor_parameters(self.value, self.docstring)
        return []

    @cached_property
    def properties(self) -> dict[str, Callable[..., Any]]:
        """Functions of the public properties."""
        members = self._members()
        found = {name: getattr(each, "fget", None) or getattr(each, "func", None) for name, each in members}
        return {name: each for name, each in found.items() if each}

    @cached_property
    def methods(self) -> list[Method]:
        """Public methods, those of bases without a section included."""
        return [
            Method(self.value, name, function) for name, each in self._members() if (function := plain_function(each))
        ]

    def _members(self) -> Iterator[tuple[str, Any]]:
        if not self._is_class or self._is_enum or self._is_options:
            return
        documented = [kind for kind in self.value.__mro__[1:] if kind.__name__ in PLACES]
        seen = {
            name for kind in [*documented, *COMMON.get(self.page, ())] if kind is not self.value for name in vars(kind)
        }
        for kind in self.value.__mro__:
            if kind in documented or not kind.__module__.startswith("steadyvoice"):
                continue
            internal = {*seen, *FORKING, *INTERNAL.get(kind.__name__, ()), *INTERNAL.get(self.name, ())}
            yield from ((name, each) for name, each in vars(kind).items() if name not in internal and name[0] != "_")
            seen.update(vars(kind))

    @property
    def _is_class(self) -> bool:
        return inspect.isclass(self.value)

    @property
    def _is_options(self) -> bool:
        return is_typeddict(self.value)

    @property
    def _is_enum(self) -> bool:
        return self._is_class and issubclass(self.value, Enum)

    @property
    def _has_fields(self) -> bool:
        return is_dataclass(self.value) or bool({"_fields", "__struct_fields__"} & set(dir(self.value)))

    def lines(self) -> Iterator[str]:
        """Yield the lines of the section."""
        yield from (f"## `{self.name}`", "", *self._signature(), without_items(self.docstring), "")
        if self._is_options:
            rows = [[each.cells[0], each.cells[1], each.cells[3]] for each in self.parameters]
            yield from table(["keyword", "type", "description"], rows)
            return
        what = "member" if self._is_enum else "field" if self._has_fields else "parameter"
        head = [what, "value", "description"] if self._is_enum else [what, "type", "default", "description"]
        rows = [each.cells for each in self.parameters]
        yield from table(head, [[row[0], *row[2:]] for row in rows] if self._is_enum else rows)
        described = [[code(name), code(returned(each)), summary(each)] for name, each in self.properties.items()]
        yield from table(["property", "type", "description"], described)
        for method in self.methods:
            yield from method.lines(self.name)

    def _signature(self) -> Iterator[str]:
        if self._is_options:
            return
        if self._is_class or inspect.isfunction(self.value):
            if not self.name.endswith("Error") or self.parameters:
                yield from ("```python", f"from {self.module} import {self.name}", "```", "")
            bases = [each.__name__ for each in getattr(self.value, "__bases__", ()) if _is_shown_base(each)]
            if bases:
                yield from (f"Base: {', '.join(map(code, bases))}.", "")
        else:
            yield from (code(shown_type(self.value)), "")


@dataclass(frozen=True)
class Method:
    """Public method of a class."""

    owner: type
    name: str
    function: Callable[..., Any]

    @property
    def docstring(self) -> str:
        """Docstring of the method, or of the one that it overrides."""
        return inspect.getdoc(getattr(self.owner, self.name)) or ""

    @property
    def parameters(self) -> list[Parameter]:
        """Parameters without `self`."""
        return function_parameters(self.function, self.docstring, self.owner)

    def lines(self, owner: str) -> Iterator[str]:
        """Yield the lines of the method's section."""
        call = shown_call(self.function, inspect.signature(self.function).parameters.values())
        awaited = "await " if inspect.iscoroutinefunction(self.function) else ""
        arrow = f" -> {returned(self.function) or 'None'}"  # with it, no formatter takes the line for a statement
        yield from (f"### `{owner}.{self.name}()`", "", "```python", f"{awaited}{call}{arrow}", "```", "")
        yield from (without_items(self.docstring), "")
        yield from table(["parameter", "type", "default", "description"], [each.cells for each in self.parameters])


def returned(function: Callable[..., Any]) -> str:
    """Return the type of what a function returns."""
    return shown_type(inspect.signature(function).return_annotation)


def summary(function: Callable[..., Any]) -> str:
    """Return a docstring in one line."""
    return " ".join((inspect.getdoc(function) or "").split())


def _home(module: str, name: str) -> ModuleType:
    """Return the module that defines an alias or a constant."""
    found = import_module(module)
    for line in ast.walk(ast.parse(inspect.getsource(found))):
        if isinstance(line, ast.ImportFrom) and name in [each.asname or each.name for each in line.names]:
            return _home(line.module or "", name)
    return found


def _is_shown_base(kind: type) -> bool:
    """Return whether a base says something to users: it has a section, or is an exception of Python."""
    return kind.__name__ in PLACES or (issubclass(kind, BaseException) and kind.__module__ == "builtins")


def _is_own(kind: type, name: str) -> bool:
    """Return whether a class has a member of its own, or of a base without a section."""
    owner = next(each for each in kind.__mro__ if name in vars(each))
    return owner is kind or (owner.__name__ not in PLACES and owner.__module__.startswith("steadyvoice"))


def public_names(page: ReferencePage) -> list[PublicName]:
    """Return the public names of a page, in its order."""
    with mock(FRAMEWORKS):
        return [PublicName(module, name, page.file) for module, names in page.names.items() for name in names]


def render(page: ReferencePage) -> str:
    """Return the Markdown of a page."""
    lines = [f"# {page.title}", "", page.introduction, ""]
    for each in public_names(page):
        lines += [*_linked(page, "\n".join(each.lines())), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _linked(page: ReferencePage, text: str) -> Iterator[str]:
    """Yield the lines of a section, in which public names lead to their sections outside of code and headings."""
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if fenced or line.startswith(("#", "    ", "```")):
            yield line
        else:
            yield re.sub(r"(?<![\[`])`(\w{3,})(?:\(\))?`(?!`)", lambda found: _link(page, found), line)


def _link(page: ReferencePage, found: re.Match[str]) -> str:
    # A field of one word may have the name of a function of another page: `run` of the simulator.
    place = PLACES.get(found[1]) if re.search(r"[A-Z_]", found[1]) or "()" in found[0] else None
    return f"[{found[0]}]({place.removeprefix(page.file)})" if place else found[0]


def main() -> str | None:
    """Regenerate or check the pages; return an error message or None."""
    pages = {FOLDER / page.file: render(page) for page in PAGES}
    if "--check" in sys.argv[1:]:
        old = [path.name for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
        return f"docs/reference is out of date ({', '.join(old)}): make reference" if old else None
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages.items():
        path.write_text(text, "utf-8")
    return None


if __name__ == "__main__":
    sys.exit(main())
