"""Parameters of public functions and classes, as rows of a table: type, default and description."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from descriptions import described_items, fields_of, parameters_of, sentence_about

import steadyvoice

EMPTY = inspect.Parameter.empty
_MODULE_PATH = re.compile(r"\b(?:steadyvoice|collections|typing|datetime|pathlib)(?:\.\w+)*\.(?=\w)")


@dataclass(frozen=True)
class Parameter:
    """Parameter of a function, field of a class or member of an enum. `default` is empty where there cannot be one."""

    name: str
    type: str
    default: str
    description: str

    @property
    def cells(self) -> list[str]:
        """Cells of its row, in Markdown."""
        default = self.default if self.default in ("", "required") else code(self.default)
        return [code(self.name), code(self.type), default, self.description]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table, or nothing if it has no rows."""
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    if lines:
        titles = list(head)
        yield from (f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}", *lines, "")


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\|", text)


def code(text: str) -> str:
    """Return a text as code, an empty one as it is."""
    return f"`{text}`" if text else ""


def enum_members(kind: type[Enum], docstring: str) -> list[Parameter]:
    """Return the members of an enum with their values."""
    texts = fields_of(kind) | described_items(docstring)
    members = kind.__members__.items()
    return [Parameter(name, "", repr(each.value), _description(name, texts, docstring)) for name, each in members]


def options_of(options: Any) -> list[Parameter]:
    """Return the keys of a TypedDict of keyword arguments."""
    texts = fields_of(options)
    given = options.__annotations__.items()
    return [Parameter(name, shown_type(kind), "", texts.get(name, "")) for name, kind in given]


def constructor_parameters(kind: type, docstring: str) -> list[Parameter]:
    """Return the parameters of a class's constructor."""
    constructor: Any = inspect.getattr_static(kind, "__init__")
    texts = fields_of(kind) | parameters_of(constructor) | described_items(constructor.__doc__ or "")
    try:
        signature = inspect.signature(kind)
    except ValueError:  # an exception without a constructor of its own
        return []
    return list(_parameters(signature, texts | described_items(docstring), docstring))


def function_parameters(function: Callable[..., Any], docstring: str, owner: type | None = None) -> list[Parameter]:
    """Return the parameters of a function, or of a method of `owner`.

    Parameters that its docstring does not describe are described by the class, or by the method that it overrides.
    """
    inherited = _inherited(owner, function.__name__) | fields_of(owner) | _referred(docstring) if owner else {}
    texts = inherited | parameters_of(function) | described_items(docstring)
    return list(_parameters(inspect.signature(function), texts, docstring))


def _inherited(owner: type, name: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for kind in reversed(owner.__mro__[1:]):
        function = plain_function(vars(kind).get(name))
        if function and kind.__module__.startswith("steadyvoice"):
            described = function_parameters(function, inspect.getdoc(function) or "")
            texts |= fields_of(kind)
            texts |= {each.name: each.description for each in described if each.description}
    return texts


def _referred(docstring: str) -> dict[str, str]:
    """Return the descriptions of another class's method, to which a docstring refers: "see AsyncTurn.push"."""
    found = re.search(r"see (\w+)\.(\w+)", docstring)
    owner = getattr(steadyvoice, found[1], None) if found else None
    function = plain_function(inspect.getattr_static(owner, found[2], None)) if found else None
    if not owner or not function:
        return {}
    described = function_parameters(function, inspect.getdoc(function) or "", owner)
    return {each.name.strip("*"): each.description for each in described}


def _parameters(signature: inspect.Signature, texts: Mapping[str, str], docstring: str) -> Iterator[Parameter]:
    for each in signature.parameters.values():
        if each.name in ("self", "cls") or each.name.startswith("_"):
            continue
        if unpacked := re.fullmatch(r"Unpack\[(\w+)\]", str(each.annotation)):
            yield Parameter(f"**{each.name}", unpacked[1], "", f"keyword arguments: `{unpacked[1]}`")
            continue
        prefix = "*" * (each.kind is each.VAR_POSITIONAL) + "**" * (each.kind is each.VAR_KEYWORD)
        default = "" if prefix else "required" if each.default is EMPTY else shown_value(each.default)
        text = _description(each.name, texts, docstring)
        yield Parameter(prefix + each.name, shown_type(each.annotation), default, text)


def _description(name: str, texts: Mapping[str, str], docstring: str) -> str:
    return texts.get(name) or sentence_about(name, docstring) or ""


def plain_function(member: Any) -> Callable[..., Any] | None:
    """Return the function of a method, None for any other member."""
    found = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    return found if inspect.isfunction(found) else None


def shown_call(function: Callable[..., Any], arguments: Iterable[inspect.Parameter]) -> str:
    """Return a call of a function, with defaults and without types."""
    given = [
        each.replace(annotation=EMPTY, default=each.default if each.default is EMPTY else _Shown(each.default))
        for each in arguments
        if each.name not in ("self", "cls")
    ]
    return f"{function.__name__}{inspect.Signature(given)}"


class _Shown:
    """Default value in a signature."""

    def __init__(self, value: object) -> None:
        self._text = shown_value(value)

    def __repr__(self) -> str:
        return self._text


def shown_value(value: Any) -> str:
    """Return a default value as in the source code; functions by name, other objects as an ellipsis."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if callable(value):
        return re.sub(r"<.*", "...", getattr(value, "__name__", "..."))
    if isinstance(value, str):
        return json.dumps(value)
    return "..." if repr(value).startswith("<") or " object at " in repr(value) else repr(value)


def shown_type(annotation: Any) -> str:
    """Return an annotation as in the source code, without the modules' names."""
    if annotation is EMPTY:
        return ""
    text = getattr(annotation, "__forward_arg__", annotation)
    return _MODULE_PATH.sub("", text if isinstance(text, str) else inspect.formatannotation(text))
