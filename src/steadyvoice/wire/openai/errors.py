"""OpenAI's errors, both ways: what an answer means to us, and what a server in its place would say.

https://platform.openai.com/docs/guides/error-codes. Compatible servers bring FastAPI's shapes and LiteLLM's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire.error_response import (
    ErrorDetails,
    ErrorResponse,
    build_error,
    concerns_text,
    error_class_by_status,
    intermediary_error_class,
    is_text_too_long,
    parse_error_details,
    parse_length_limit,
)
from steadyvoice.wire.request_validation import ValidationIssue

CODES: Mapping[str, type[TTSError]] = {
    "invalid_api_key": speech.TTSInvalidKeyError,
    "account_deactivated": speech.TTSInvalidKeyError,
    "insufficient_quota": speech.TTSQuotaExceededError,  # a 429 that no waiting ends
    "billing_not_active": speech.TTSQuotaExceededError,
    "billing_hard_limit_reached": speech.TTSQuotaExceededError,
    "rate_limit_exceeded": speech.TTSBusyError,
    "model_not_found": speech.TTSModelUnknownError,
    "voice_not_found": speech.TTSVoiceUnknownError,
    "string_above_max_length": speech.TTSTextTooLongError,
    "string_too_long": speech.TTSTextTooLongError,
    "server_error": speech.TTSServerError,
}

_FIELDS: Mapping[str, type[TTSError]] = {
    "voice": speech.TTSVoiceUnknownError,
    "model": speech.TTSModelUnknownError,
    "response_format": speech.TTSUnsupportedFormatError,
}

# OpenAI's own 400 about a voice has no code and no param, but quotes its validator:
# [{'type': 'enum', 'loc': ('body', 'voice'), 'msg': ...
_QUOTED_FIELD = re.compile(r"'loc': \('body', '(\w+)'")


def parse_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    api_key: str | None = None,
    provider: str | None = None,
) -> TTSError:
    """Name what an answer other than audio means: by its code, the field it is about, or its HTTP status.

    `now` is wall time with a zone, for a Retry-After that is a date. Never raises, and strikes out `api_key`.
    """
    complaint = parse_error_details(body)
    answer = ErrorResponse(status, headers, body, now=now, secret=api_key)
    kind = intermediary_error_class(answer, complaint) or error_class(status, complaint)
    error = build_error(kind, complaint, answer, provider)
    if isinstance(error, speech.TTSTextTooLongError):
        error.limit = parse_length_limit(complaint.message)
    return error


def error_class(status: int, complaint: ErrorDetails) -> type[TTSError]:
    """Choose the class: a known code says more than a field, and a field more than the status."""
    known = CODES.get(complaint.code or "")
    if known is speech.TTSTextTooLongError and not concerns_text(complaint):
        return speech.TTSBadRequestError  # "instructions" have a limit of their own
    if known:
        return known
    quoted = _QUOTED_FIELD.search(complaint.message)
    about = complaint.param or (quoted.group(1) if quoted else "")
    if status in (400, 404, 422) and about in _FIELDS:
        return _FIELDS[about]
    if about in ("", "input", "text") and is_text_too_long(status, replace(complaint, param=None)):
        return speech.TTSTextTooLongError
    wrong_address = complaint.message.startswith("Invalid URL")  # OpenAI's words for a path that it does not have
    if status == 404 and complaint.spoken and not wrong_address:  # the path names nothing, so it is the model
        return speech.TTSModelUnknownError
    return error_class_by_status(status)


def error_body(message: str, *, type: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """Build the body a server answers with; `type` is such as "invalid_request_error" or "server_error"."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def validation_body(issues: Sequence[ValidationIssue]) -> dict[str, Any]:
    """Build the body of a 400: OpenAI names the first field that is wrong."""
    first = issues[0]
    param = next((step for step in first.loc[1:] if isinstance(step, str)), None)
    why = f": {first.ctx['error']}" if first.ctx and "error" in first.ctx else ""
    message = f"{param or 'body'}: {first.msg}{why}"
    return error_body(message, type="invalid_request_error", code=first.type, param=param)
