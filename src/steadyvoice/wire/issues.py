"""What is wrong with a request that a server cannot read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from steadyvoice.speech.text import is_encodable

FLAGS = ("true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n")


@dataclass(frozen=True, slots=True)
class Issue:
    """One field that could not be accepted."""

    type: str  # such as "missing" or "string_type"
    loc: tuple[str | int, ...]  # such as ("body", "text"); a number is a place in the bytes
    msg: str
    input: Any = None
    ctx: Mapping[str, Any] | None = None  # more about it, where there is more


class UnreadableRequestError(ValueError):
    """A request whose shape is wrong; each dialect has its `validation_body(issues)` to answer with."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, issue.loc))}: {issue.msg}" for issue in issues))
        self.issues = tuple(issues)


def read_document(body: bytes) -> dict[str, Any]:
    """Read the JSON object that a request's body is. Raises UnreadableRequestError."""
    if not body:
        raise UnreadableRequestError([Issue("missing", ("body",), "Field required")])
    plain = body[:1] == b"{" and body[1:2] != b"\0"  # which is how nearly all begin
    try:
        document = _JSON.decode(body.decode("utf-8" if plain else json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise UnreadableRequestError([_no_json(error)]) from None
    if issue := issue_of_content(body, document):
        raise UnreadableRequestError([issue])
    if not isinstance(document, dict):
        expected = "Input should be a valid dictionary or object to extract fields from"
        raise UnreadableRequestError([Issue("model_attributes_type", ("body",), expected, document)])
    return document


MOST_LEVELS = 64
"""How deeply lists and objects may be nested in a request. What is passed on is written as JSON once more, and Python's
limit of recursion depends on where it is called from.
"""


def issue_of_content(body: bytes, document: Any) -> Issue | None:
    """Find what JSON allows and nothing behind it can encode: half of a surrogate pair; and too deep a nesting.

    `body` is what the document was read from. Only one that looks suspicious is gone through.
    """
    if body.count(b"[") + body.count(b"{") > MOST_LEVELS and _is_too_deep(document):
        told = f"Input should have at most {MOST_LEVELS} levels of lists and objects"
        return Issue("too_deep", ("body",), told)
    if (
        b"\\ud" in body or b"\\uD" in body or b"\xed" in body or b"\0" in body
    ):  # its escapes, in UTF-8, in UTF-16 and -32
        half = next((where for where, text in _strings(document, ("body",)) if not is_encodable(text)), None)
        if half:
            told = "Input should be a valid string, unable to parse raw data as a unicode string"
            return Issue("string_unicode", half, f"{told}: it has half of a surrogate pair")
    return None


def _is_too_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MOST_LEVELS):
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [each for values in inner for each in values if isinstance(each, dict | list)]
        if not level:
            return False
    return True


def _strings(value: Any, where: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield every string and its place. The place of a key is that of its object: a key may be what cannot be told."""
    match value:
        case str():
            yield where, value
        case list():
            for number, each in enumerate(value):
                yield from _strings(each, (*where, number))
        case dict():
            for name, each in value.items():
                yield where, name
                yield from _strings(each, (*where, name))


def _no_number(said: str) -> float:
    raise ValueError(f"{said} is no number in JSON")


def _number(said: str) -> float:
    number = float(said)
    return number if isfinite(number) else _no_number(said[:40])


_JSON = json.JSONDecoder(
    parse_constant=_no_number, parse_float=_number
)  # Python's own reads NaN, and 1e999 as infinity


def issues_of_text(name: str, document: Mapping[str, Any]) -> list[Issue]:
    """Check the text to be spoken, a field of the document: there, a string, and not blank."""
    if name not in document:
        return [Issue("missing", ("body", name), "Field required", dict(document))]
    text = document[name]
    if not isinstance(text, str):
        return [string_expected(name, text)]
    if not text.strip():
        return [Issue("string_too_short", ("body", name), "String should have at least 1 character", text)]
    return []


def flag_expected(loc: tuple[str | int, ...], value: Any) -> Issue | None:
    """Say what is wrong with a flag, if anything: these are the ones that pydantic takes, and its words."""
    if isinstance(value, str | int):
        if str(value).lower() in FLAGS:
            return None
        return Issue("bool_parsing", loc, "Input should be a valid boolean, unable to interpret input", value)
    return None if value in (0.0, 1.0) else Issue("bool_type", loc, "Input should be a valid boolean", value)


def _no_json(error: Exception) -> Issue:
    """Say it as FastAPI does: where, and why."""
    place = error.pos if isinstance(error, json.JSONDecodeError) else 0
    why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    if isinstance(error, RecursionError):
        why = f"nested too deeply: at most {MOST_LEVELS} levels of lists and objects are read"
    return Issue("json_invalid", ("body", place), "JSON decode error", {}, {"error": why})


def string_expected(name: str, value: Any) -> Issue:
    """Say that a field of the body should be a string."""
    return Issue("string_type", ("body", name), "Input should be a valid string", value)
