"""Docstrings, comments, module names and class names of the source, read without running it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from .layers import PACKAGE, ROOT

_OPENING = re.compile(
    r"(it|its|they|their|them|he|she|we|us|our|you|your|i|me|my|who|whom|whose|whoever|what|whatever|which|whichever"
    r"|somebody|someone|nobody|anybody|anyone|everybody|everyone|one|ones|this|that|these|those|there|here|where|wherever"
    r"|when|whenever|why|how|however|as|if|something|nothing|anything|everything|none|such|so|neither|either|both"
    r"|(for|of|with|to|by) (who\w*|whom)|from where|in which|at which)\b",
    re.IGNORECASE,
)
_PERSON = re.compile(r"\b(who|whom|whoever|somebody|someone|nobody|anybody|anyone|everybody|everyone)\b", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#\s*(type:|noqa|pragma|fmt:|!)")


@dataclass(frozen=True, slots=True)
class Docstring:
    """Docstring, with its file below the package."""

    file: str
    line: int
    text: str

    @property
    def opens_badly(self) -> bool:
        """Whether it opens with a pronoun, a relative clause or a question."""
        return _OPENING.match(self.text.strip()) is not None

    @property
    def speaks_of_persons(self) -> bool:
        """Whether an indefinite person is in it anywhere."""
        return _PERSON.search(self.text) is not None

    def __str__(self) -> str:
        first = self.text.strip().partition("\n")[0]
        return f"{self.file}:{self.line}: {first[:100]}"


@dataclass(frozen=True, slots=True)
class Source:
    """Module: its dotted name below the package, its file and its text."""

    module: str
    file: str
    text: str

    @property
    def lines(self) -> int:
        """Number of lines."""
        return self.text.count("\n")


def sources(root: Path = PACKAGE) -> list[Source]:
    """Return every module below a folder, without those of virtual environments."""
    return [
        Source(
            ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"),
            str(path.relative_to(ROOT)),
            path.read_text("utf-8"),
        )
        for path in sorted(root.rglob("*.py"))
        if ".venv" not in path.parts
        if "node_modules" not in path.parts
    ]


def docstrings(source: Source) -> Iterator[Docstring]:
    """Yield the docstrings of a module: its own, those of classes and functions, and those of attributes."""
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            text := ast.get_docstring(node)
        ):
            yield Docstring(source.file, node.body[0].lineno, text)
        if isinstance(node, ast.Module | ast.ClassDef) or (
            isinstance(node, ast.FunctionDef) and node.name == "__init__"
        ):
            yield from _of_attributes(source.file, node.body)


def _of_attributes(file: str, body: list[ast.stmt]) -> Iterator[Docstring]:
    for assignment, behind in pairwise(body):
        match assignment, behind:
            case (ast.Assign() | ast.AnnAssign(), ast.Expr(ast.Constant(str(text)))):
                yield Docstring(file, behind.lineno, text)


def comment_lines(source: Source) -> int:
    """Count the lines that are a comment and nothing else; directives to tools are none."""
    return sum(
        token.type == tokenize.COMMENT and token.line.strip().startswith("#") and _DIRECTIVE.match(token.string) is None
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline)
    )


def public_classes(found: list[Source]) -> Mapping[str, list[str]]:
    """Return the public top-level classes by name, each with the modules that define one."""
    classes = defaultdict[str, list[str]](list)
    for source in found:
        for node in ast.parse(source.text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(source.module)
    return classes


def words_of_name(name: str) -> list[str]:
    """Split a module's or class's name into words, in lower case.

    >>> words_of_name("wire.error_response"), words_of_name("TTSServiceError")
    (['wire', 'error', 'response'], ['tts', 'service', 'error'])
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]
