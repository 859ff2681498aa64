"""Docstrings, comments, module names and class names of the source, read without running it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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


@dataclass(frozen=True, slots=True)
class Contents:
    """Docstrings, bound names and public top-level classes of a module.

    The docstrings are its own, those of classes and functions, and those of attributes. A name is there once.
    """

    docstrings: Sequence[Docstring]
    names: Sequence[Name]
    classes: Sequence[str]


@cache  # parsing all modules takes seconds
def contents(source: Source) -> Contents:
    """Return what a module holds."""
    tree = ast.parse(source.text)
    found, lines = list[Docstring](), dict[str, int]()
    for node in ast.walk(tree):
        found += _docstrings(source.file, node)
        if name := _bound_name(node):
            lines.setdefault(name, getattr(node, "lineno", 0))
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    return Contents(found, [Name(source.file, line, name) for name, line in lines.items()], classes)


def _docstrings(file: str, node: ast.AST) -> Iterator[Docstring]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
        text := ast.get_docstring(node)
    ):
        yield Docstring(file, node.body[0].lineno, text)
    if isinstance(node, ast.Module | ast.ClassDef) or (isinstance(node, ast.FunctionDef) and node.name == "__init__"):
        yield from _of_attributes(file, node.body)


def _of_attributes(file: str, body: list[ast.stmt]) -> Iterator[Docstring]:
    for assignment, behind in pairwise(body):
        match assignment, behind:
            case (ast.Assign() | ast.AnnAssign(), ast.Expr(ast.Constant(str(text)))):
                yield Docstring(file, behind.lineno, text)


REPLACEMENTS = {
    "told": "what it is: message, events, response, result, options",
    "said": "what it is: message, text, request, header",
    "wish": "option",
    "wishes": "options",
    "house": "context or service",
    "who": "the role: provider, client, caller, visitor",
    "whom": "the role: recipient, listener",
    "nobody": "no_provider, no_client or discard",
    "somebody": "client, caller or provider",
    "poured": "written or sent_to_sink",
    "befallen": "faulty or failed",
    "mishap": "failure or error",
    "anew": "again",
    "tale": "text",
    "luck": "random or seed",
}
"""Words that no name is made of, each with the standard one."""

_JS_COMMENT = re.compile(r"//.*|/\*.*?\*/", re.DOTALL)
_JS_STRING = re.compile(r"`(?:\\.|[^`\\])*`|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_JS_BINDING = re.compile(
    r"\b(?:const|let|var|function\*?|class)\s+(\w+)|\bthis\.(\w+)\s*=|(\w+)\s*=>|[(,\[{:]\s*(\w+)(?=\s*[,)\]}=])"
)


@dataclass(frozen=True, slots=True)
class Name:
    """Name that a file gives to a variable, parameter, function, class or attribute."""

    file: str
    line: int
    name: str

    @property
    def refused_words(self) -> list[str]:
        """Words in it that have a standard replacement."""
        return [word for word in words_of_name(self.name) if word in REPLACEMENTS]

    def __str__(self) -> str:
        advice = "; ".join(f"instead of {word!r} write {REPLACEMENTS[word]}" for word in self.refused_words)
        return f"{self.file}:{self.line}: {self.name}: {advice}"


def _bound_name(node: ast.AST) -> str | None:
    match node:
        case ast.Name(name, ast.Store()) | ast.arg(name) | ast.Attribute(_, name, ast.Store()):
            return name
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
            return name
        case ast.ExceptHandler(_, str(name)) | ast.MatchAs(_, str(name)) | ast.MatchStar(str(name)):
            return name
    return None


def javascript_names(file: Path) -> Iterator[Name]:
    """Yield the names that a script binds, and the words of its comments, of which the same are refused."""
    text = file.read_text("utf-8")
    name = str(file.relative_to(ROOT))
    for found in _JS_COMMENT.finditer(_JS_STRING.sub(_blank, text)):
        for word in re.finditer(r"\w+", found[0]):
            yield Name(name, text.count("\n", 0, found.start() + word.start()) + 1, word[0])
    code = _JS_COMMENT.sub(_blank, _JS_STRING.sub(_blank, text))
    for found in _JS_BINDING.finditer(code):
        bound = next(filter(None, found.groups()))
        yield Name(name, text.count("\n", 0, found.start()) + 1, bound)


def _blank(found: re.Match[str]) -> str:
    """Return as many lines as the match has, without their text."""
    return re.sub(r"[^\n]", " ", found[0])


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
        for name in contents(source).classes:
            classes[name].append(source.module)
    return classes


def words_of_name(name: str) -> list[str]:
    """Split a module's or class's name into words, in lower case.

    >>> words_of_name("wire.error_response"), words_of_name("TTSServiceError")
    (['wire', 'error', 'response'], ['tts', 'service', 'error'])
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]
