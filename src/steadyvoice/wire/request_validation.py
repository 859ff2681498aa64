"""Validation of JSON requests, and the fields that belong to one vendor only.

Fields that are on neither vendor's list are passed on: vendors add new ones faster than these lists are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from math import isfinite
from typing import Any

from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.text import is_encodable

FLAGS = ("true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n")


@dataclass(frozen=True, slots=True)
class ValidationIssue:
    """One field that could not be accepted."""

    type: str  # such as "missing" or "string_type"
    loc: tuple[str | int, ...]  # such as ("body", "text"); a number is a place in the bytes
    msg: str
    input: Any = None
    ctx: Mapping[str, Any] | None = None  # more about it, where there is more


class RequestValidationError(ValueError):
    """A request whose shape is wrong; each dialect has its `validation_body(issues)` to answer with."""

    def __init__(self, issues: Sequence[ValidationIssue]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, issue.loc))}: {issue.msg}" for issue in issues))
        self.issues = tuple(issues)


def parse_document(body: bytes) -> dict[str, Any]:
    """Read the JSON object that a request's body is. Raises RequestValidationError."""
    if not body:
        raise RequestValidationError([ValidationIssue("missing", ("body",), "Field required")])
    plain = body[:1] == b"{" and body[1:2] != b"\0"  # which is how nearly all begin
    try:
        document = _JSON.decode(body.decode("utf-8" if plain else json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise RequestValidationError([_invalid_json_issue(error)]) from None
    if issue := validate_content(body, document):
        raise RequestValidationError([issue])
    if not isinstance(document, dict):
        expected = "Input should be a valid dictionary or object to extract fields from"
        raise RequestValidationError([ValidationIssue("model_attributes_type", ("body",), expected, document)])
    return document


MAX_JSON_DEPTH = 64
"""How deeply lists and objects may be nested in a request. What is passed on is written as JSON once more, and Python's
limit of recursion depends on where it is called from.
"""


def validate_content(body: bytes, document: Any) -> ValidationIssue | None:
    """Find what JSON allows and nothing behind it can encode: half of a surrogate pair; and too deep a nesting.

    `body` is what the document was read from. Only one that looks suspicious is gone through.
    """
    if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH and _is_too_deep(document):
        told = f"Input should have at most {MAX_JSON_DEPTH} levels of lists and objects"
        return ValidationIssue("too_deep", ("body",), told)
    if (
        b"\\ud" in body or b"\\uD" in body or b"\xed" in body or b"\0" in body
    ):  # its escapes, in UTF-8, in UTF-16 and -32
        half = next((where for where, text in _strings(document, ("body",)) if not is_encodable(text)), None)
        if half:
            told = "Input should be a valid string, unable to parse raw data as a unicode string"
            return ValidationIssue("string_unicode", half, f"{told}: it has half of a surrogate pair")
    return None


def _is_too_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_JSON_DEPTH):
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


def _reject_number(said: str) -> float:
    raise ValueError(f"{said} is no number in JSON")


def _parse_finite(said: str) -> float:
    number = float(said)
    return number if isfinite(number) else _reject_number(said[:40])


_JSON = json.JSONDecoder(
    parse_constant=_reject_number, parse_float=_parse_finite
)  # Python's own reads NaN, and 1e999 as infinity


def validate_text(name: str, document: Mapping[str, Any]) -> list[ValidationIssue]:
    """Check the text to be spoken, a field of the document: there, a string, and not blank."""
    if name not in document:
        return [ValidationIssue("missing", ("body", name), "Field required", dict(document))]
    text = document[name]
    if not isinstance(text, str):
        return [string_expected_issue(name, text)]
    if not text.strip():
        return [ValidationIssue("string_too_short", ("body", name), "String should have at least 1 character", text)]
    return []


def validate_flag(loc: tuple[str | int, ...], value: Any) -> ValidationIssue | None:
    """Say what is wrong with a flag, if anything: these are the ones that pydantic takes, and its words."""
    if isinstance(value, str | int):
        if str(value).lower() in FLAGS:
            return None
        return ValidationIssue("bool_parsing", loc, "Input should be a valid boolean, unable to interpret input", value)
    return None if value in (0.0, 1.0) else ValidationIssue("bool_type", loc, "Input should be a valid boolean", value)


def _invalid_json_issue(error: Exception) -> ValidationIssue:
    """Say it as FastAPI does: where, and why."""
    place = error.pos if isinstance(error, json.JSONDecodeError) else 0
    why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    if isinstance(error, RecursionError):
        why = f"nested too deeply: at most {MAX_JSON_DEPTH} levels of lists and objects are read"
    return ValidationIssue("json_invalid", ("body", place), "JSON decode error", {}, {"error": why})


def string_expected_issue(name: str, value: Any) -> ValidationIssue:
    """Say that a field of the body should be a string."""
    return ValidationIssue("string_type", ("body", name), "Input should be a valid string", value)


# https://elevenlabs.io/docs/api-reference/text-to-speech/stream
ELEVENLABS_QUERY = frozenset({"enable_logging", "optimize_streaming_latency"})
ELEVENLABS_BODY = frozenset(
    {
        "voice_settings",
        "language_code",
        "pronunciation_dictionary_locators",
        "seed",
        "previous_text",
        "next_text",
        "previous_request_ids",
        "next_request_ids",
        "use_pvc_as_ivc",
        "apply_text_normalization",
        "apply_language_text_normalization",
        "audio_effects",
    }
)
# https://platform.openai.com/docs/api-reference/audio/createSpeech
OPENAI_BODY = frozenset({"instructions", "stream_format"})

_SET_BY_REQUEST = frozenset(
    {"text", "input", "voice", "voice_id", "model", "model_id", "output_format", "response_format"}
)


def vendor_options(request: SpeechRequest, dialect: str, foreign: Set[str]) -> dict[str, Any]:
    """Keep the options that are not another vendor's, and never one that the request itself decides.

    Where the request says whose they all are, another vendor gets none.
    """
    if request.dialect not in (None, dialect):
        return {}
    return {
        name: value for name, value in request.options.items() if name not in foreign and name not in _SET_BY_REQUEST
    }
