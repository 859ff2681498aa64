"""OpenAI error responses: failure kinds of received ones, and bodies of those that a server in its place sends.

https://platform.openai.com/docs/guides/error-codes. Compatible servers also send FastAPI's and LiteLLM's forms.
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
)
from steadyvoice.wire.request_validation import ValidationIssue

CODES: Mapping[str, type[TTSError]] = {
    "invalid_api_key": speech.TTSInvalidKeyError,
    "account_deactivated": speech.TTSInvalidKeyError,
    "insufficient_quota": speech.TTSQuotaExceededError,  # a 429, for which waiting does not help
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
    """Return the error that a response other than audio means: by its code, the field it is about, or its HTTP status.

    `now` is wall time with a zone, for a Retry-After that is a date. Never raises. `api_key` is redacted.
    """
    details = parse_error_details(body)
    response = ErrorResponse(status, headers, body, now=now, secret=api_key)
    kind = intermediary_error_class(response, details) or error_class(status, details)
    return build_error(kind, details, response, provider)


def error_class(status: int, details: ErrorDetails) -> type[TTSError]:
    """Return the class of error: by a known code, else by the field it is about, else by the status."""
    known = CODES.get(details.code or "")
    if known is speech.TTSTextTooLongError and not concerns_text(details):
        return speech.TTSBadRequestError  # "instructions" have a limit of their own
    if known:
        return known
    quoted = _QUOTED_FIELD.search(details.message)
    about = details.param or (quoted.group(1) if quoted else "")
    if status in (400, 404, 422) and about in _FIELDS:
        return _FIELDS[about]
    if about in ("", "input", "text") and is_text_too_long(status, replace(details, param=None)):
        return speech.TTSTextTooLongError
    wrong_address = details.message.startswith("Invalid URL")  # OpenAI's message for an unknown path
    if status == 404 and details.recognized and not wrong_address:  # the path is right, so the model is unknown
        return speech.TTSModelUnknownError
    return error_class_by_status(status)


def error_body(message: str, *, type: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """Return the body of an error response; `type` is such as "invalid_request_error" or "server_error"."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def validation_body(issues: Sequence[ValidationIssue]) -> dict[str, Any]:
    """Return the body of a 400, which names the first wrong field, as OpenAI's do."""
    first = issues[0]
    param = next((step for step in first.loc[1:] if isinstance(step, str)), None)
    reason = f": {first.ctx['error']}" if first.ctx and "error" in first.ctx else ""
    message = f"{param or 'body'}: {first.msg}{reason}"
    return error_body(message, type="invalid_request_error", code=first.type, param=param)
