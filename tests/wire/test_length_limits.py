"""Refusals of a text for its length, in the words of vendors and compatible servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from steadyvoice.speech.errors import TTSError, TTSTextTooLongError
from steadyvoice.wire.elevenlabs import errors as elevenlabs_errors
from steadyvoice.wire.openai import errors as openai_errors

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
OPENAI = (
    "[{'type': 'string_too_long', 'loc': ('body', 'input'), 'msg': 'String should have at most 4096 characters', "
    "'input': 'at most 3 of them', 'ctx': {'max_length': 4096}}]"
)

parsers = pytest.mark.parametrize("parse", [elevenlabs_errors.parse_error, openai_errors.parse_error])

TOO_LONG: list[tuple[int, Any, int | None]] = [
    (400, {"detail": {"status": "max_character_limit_exceeded", "message": "20104 characters; at most 5000"}}, 5000),
    (400, {"detail": {"code": "text_too_long", "message": "The text exceeds the limit of 10,000 characters."}}, 10_000),
    (400, {"detail": {"code": "input_text_too_long", "message": ""}}, None),
    (400, {"error": {"message": "too much", "code": "string_above_max_length", "param": "input"}}, None),
    (400, {"error": {"message": OPENAI, "type": "invalid_request_error", "param": None, "code": None}}, 4096),
    (400, {"error": {"message": "Input exceeds the maximum of 2000 tokens.", "param": "input", "code": None}}, 2000),
    (400, {"error": {"message": "Input text is too long", "type": "invalid_request_error"}}, None),
    (400, {"error": "Text too long: 5001 characters, max 5000"}, 5000),
    (413, {"error": {"message": "payload too large"}}, None),
    (422, {"detail": [{"loc": ["body", "text"], "msg": "String should have at most 500 characters"}]}, 500),
    (422, {"detail": [{"loc": ["body", "input"], "msg": "ensure this value has at most 1,000 characters"}]}, 1000),
]  # fmt: skip


@parsers
@pytest.mark.parametrize(("status", "document", "limit"), TOO_LONG)
def test_too_long_text_is_recognized_with_its_limit(
    parse: Callable[..., TTSError], status: int, document: Any, limit: int | None
) -> None:
    if parse is elevenlabs_errors.parse_error and "string_above_max_length" in str(document):
        document["error"]["code"] = "text_too_long"
    error = parse(status, {}, json.dumps(document).encode(), now=NOW)
    assert isinstance(error, TTSTextTooLongError)
    assert error.limit == limit


OTHERS: list[tuple[int, Any]] = [
    (400, {"error": {"message": "speed: Input should be less than or equal to 4", "param": "speed"}}),
    (422, {"detail": [{"loc": ["body", "voice_settings", "stability"], "msg": "maximum length 1", "type": "x"}]}),
    (400, {"error": {"message": "You have exceeded your quota of 10000 characters"}}),
    (400, {"error": {"message": "Rate limit exceeded: at most 5 requests per minute"}}),
    (429, {"error": {"message": "Too many characters per minute", "code": "rate_limit_exceeded"}}),
    (400, {"detail": {"status": "invalid_voice_settings", "message": "maximum 1"}}),
    (500, {"error": {"message": "text too long for our database"}}),
]


@parsers
@pytest.mark.parametrize(("status", "document"), OTHERS)
def test_other_limits_are_not_taken_for_the_length(parse: Callable[..., TTSError], status: int, document: Any) -> None:
    assert not isinstance(parse(status, {}, json.dumps(document).encode(), now=NOW), TTSTextTooLongError)
