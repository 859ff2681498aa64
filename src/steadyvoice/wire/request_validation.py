"""Validation of JSON requests, and the fields that belong to one vendor only.

Fields that are on neither vendor's list are passed on: vendors add new ones faster than these lists are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from math import isfinite
from typing import Any

import msgspec

from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.text import is_encodable

FLAGS = ("true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n")


@dataclass(frozen=True, slots=True)
class ValidationIssue:
    """Field that cannot be accepted, as FastAPI and pydantic describe it."""

    type: str  # such as "missing" or "string_type"
    loc: tuple[str | int, ...]  # such as ("body", "text"); a number is an index, or an offset in the body
    msg: str
    input: Any = None
    ctx: Mapping[str, Any] | None = None  # further details


class RequestValidationError(ValueError):
    """Invalid request. Each dialect builds the body of its error response by `validation_body(issues)`."""

    def __init__(self, issues: Sequence[ValidationIssue]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, issue.loc))}: {issue.msg}" for issue in issues))
        self.issues = tuple(issues)


def parse_document(body: bytes) -> dict[str, Any]:
    """Parse a request's body, which must be a JSON object. Raises RequestValidationError."""
    if not body:
        raise RequestValidationError([ValidationIssue("missing", ("body",), "Field required")])
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        document = None  # or JSON that only Python takes, such as NaN, half of a surrogate pair, or UTF-16
    if type(document) is dict and body.count(b"[") + body.count(b"{") <= MAX_JSON_DEPTH:
        return document
    plain = body[:1] == b"{" and body[1:2] != b"\0"  # UTF-8, as nearly all are: no need to detect the encoding
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
"""Largest depth of nested lists and objects in a request.

Fields that are passed on are encoded as JSON again, where a deeper nesting could reach Python's recursion limit.
"""


# Half of a surrogate pair in a model's name was accepted once, and then cut off every reader of /admin/events, because
# the event with that name could not be encoded. So it is refused where it enters.
def validate_content(body: bytes, document: Any) -> ValidationIssue | None:
    """Return an issue for too deep a nesting, or for half of a surrogate pair: valid JSON that cannot be encoded again.

    `body` is the source of the document, which is searched only if the body may contain either.
    """
    if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH and _is_too_deep(document):
        expected = f"Input should have at most {MAX_JSON_DEPTH} levels of lists and objects"
        return ValidationIssue("too_deep", ("body",), expected)
    # A surrogate is written as one of its escapes, as bytes of UTF-8, or in UTF-16 or UTF-32, which have zero bytes.
    if b"\\ud" in body or b"\\uD" in body or b"\xed" in body or b"\0" in body:
        half = next((where for where, text in _strings(document, ("body",)) if not is_encodable(text)), None)
        if half:
            expected = "Input should be a valid string, unable to parse raw data as a unicode string"
            return ValidationIssue("string_unicode", half, f"{expected}: it has half of a surrogate pair")
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
    """Yield every string with its place. A key has the place of its object, for the key itself may not be printable."""
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


def _reject_number(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def _parse_finite(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _reject_number(text[:40])


# Python's own decoder accepts NaN, and reads 1e999 as infinity.
_JSON = json.JSONDecoder(parse_constant=_reject_number, parse_float=_parse_finite)


def validate_text(name: str, document: Mapping[str, Any]) -> list[ValidationIssue]:
    """Return issues of the text to be spoken, a field of the document: missing, not a string, or blank."""
    if name not in document:
        return [ValidationIssue("missing", ("body", name), "Field required", dict(document))]
    text = document[name]
    if not isinstance(text, str):
        return [string_expected_issue(name, text)]
    if not text.strip():
        return [ValidationIssue("string_too_short", ("body", name), "String should have at least 1 character", text)]
    return []


def validate_flag(loc: tuple[str | int, ...], value: Any) -> ValidationIssue | None:
    """Return an issue if a value is no flag. The accepted values and the messages are those of pydantic."""
    if isinstance(value, str | int):
        if str(value).lower() in FLAGS:
            return None
        return ValidationIssue("bool_parsing", loc, "Input should be a valid boolean, unable to interpret input", value)
    return None if value in (0.0, 1.0) else ValidationIssue("bool_type", loc, "Input should be a valid boolean", value)


def _invalid_json_issue(error: Exception) -> ValidationIssue:
    """Return the issue of a body that is no valid JSON, as FastAPI describes it."""
    place = error.pos if isinstance(error, json.JSONDecodeError) else 0
    why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    if isinstance(error, RecursionError):
        why = f"nested too deeply: at most {MAX_JSON_DEPTH} levels of lists and objects are read"
    return ValidationIssue("json_invalid", ("body", place), "JSON decode error", {}, {"error": why})


def string_expected_issue(name: str, value: Any) -> ValidationIssue:
    """Return the issue of a field of the body that should be a string."""
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
    """Return the request's options without fields that are `foreign`, or that the request itself determines.

    If the request names the vendor that its options are for (`dialect`), another vendor gets none.
    """
    if request.dialect not in (None, dialect):
        return {}
    return {
        name: value for name, value in request.options.items() if name not in foreign and name not in _SET_BY_REQUEST
    }
