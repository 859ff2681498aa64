"""Descriptions of parameters, fields and members of an enum, as the source code has them.

In order of preference: an item "- `name`: description" in a docstring; a docstring below the field; a comment behind
it; the sentence of the docstring that names it.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from io import StringIO
from itertools import pairwise
from typing import Any, is_typeddict

_ITEM = re.compile(
    r"^[-*] (?P<names>`\*{0,2}\w+`(?:,? (?:and )?`\w+`)*): (?P<text>.*(?:\n+(?: {2,}.*|$))*)", re.MULTILINE
)


def described_items(docstring: str) -> dict[str, str]:
    """Return the descriptions of a docstring's items, by name."""
    found = {}
    for item in _ITEM.finditer(docstring):
        for name in re.findall(r"`\**(\w+)`", item["names"]):
            found[name] = " ".join(item["text"].split()).removesuffix(".")
    return found


def without_items(docstring: str) -> str:
    """Return a docstring without the items that describe a name."""
    return re.sub(r"\n{3,}", "\n\n", _ITEM.sub("", docstring)).strip()


def sentence_about(name: str, docstring: str) -> str | None:
    """Return the sentence of a docstring, or the part of one, that names a parameter."""
    paragraphs = [" ".join(each.split()) for each in without_items(docstring).split("\n\n")]
    for sentence in (each for paragraph in paragraphs for each in re.split(r"(?<=[.;]) ", paragraph)):
        if re.search(rf"`\**{name}\b", sentence):
            return sentence.rstrip(";.")
    return None


def fields_of(kind: type) -> dict[str, str]:
    """Return the descriptions of the fields of a class and its bases, and of an enum's members."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if each.__module__.startswith("steadyvoice"):
            found.update(described_items(inspect.cleandoc(vars(each).get("__doc__") or "")) | _source_fields(each))
    return found


@cache
def _source_fields(kind: type) -> dict[str, str]:
    source = _source(kind)
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            if is_typeddict(kind):  # a TypedDict does not know its bases
                bases = [
                    vars(sys.modules[kind.__module__]).get(each.id) for each in node.bases if isinstance(each, ast.Name)
                ]
                for base in filter(is_typeddict, bases):
                    found |= _source_fields(base)
            found |= {**_comments(source, _names(node.body)), **_docstrings(node.body)}
    return found


def parameters_of(function: Callable[..., Any]) -> dict[str, str]:
    """Return the descriptions of parameters by the comments behind them."""
    source = _source(function)
    arguments = [each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.arg) and each.lineno > 1]
    return _comments(source, {each.arg: each.end_lineno or 0 for each in arguments})


def alias_description(module: Any, name: str) -> str:
    """Return the docstring below a constant or a type alias of a module."""
    return _docstrings(ast.parse(inspect.getsource(module)).body).get(name, "")


def _source(thing: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        return ""


def _target(node: ast.stmt) -> str | None:
    match node:
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
            return name
    return None


def _names(body: list[ast.stmt]) -> dict[str, int]:
    """Return the last line of each field's definition."""
    return {name: node.end_lineno or 0 for node in body if (name := _target(node))}


def _docstrings(body: list[ast.stmt]) -> dict[str, str]:
    found = {}
    for node, below in pairwise(body):
        match below:
            case ast.Expr(value=ast.Constant(value=str(text))) if name := _target(node):
                found[name] = re.sub(
                    r"^[A-Z](?=[a-z ])", lambda first: first[0].lower(), " ".join(text.split()).removesuffix(".")
                )
    return found


def _comments(source: str, lines: dict[str, int]) -> dict[str, str]:
    behind = dict(_comment_lines(source))
    return {name: behind[line] for name, line in lines.items() if line in behind}


def _comment_lines(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(StringIO(source).readline):
        text = token.string.lstrip("# ")
        if (
            token.type == tokenize.COMMENT
            and token.line.strip() != token.string
            and not text.startswith(("noqa", "type:"))
        ):
            yield token.start[0], text
