"""ElevenLabs errors, over HTTP and websockets: failure kinds of received ones, and bodies of those sent by a server.

Codes come from https://elevenlabs.io/docs/eleven-api/resources/errors, the vendor's SDKs and public reports. An unknown
code is classified by its HTTP status. Errors of websockets were reported in livekit/agents#218, livekit/agents-js#1218
and #1985, and pipecat-ai/pipecat#563, #1027 and #1467; standard close codes are those of RFC 6455, 7.4.1, and of IANA.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire.elevenlabs.websocket import POLICY_VIOLATION, ErrorMessage
from steadyvoice.wire.error_response import (
    ErrorDetails,
    ErrorResponse,
    build_error,
    concerns_text,
    error_class_by_status,
    intermediary_error_class,
    is_text_too_long,
    parse_error_details,
    redact,
    single_line,
)
from steadyvoice.wire.request_validation import ValidationIssue


class ErrorBodyVersion(Enum):
    """Form of an error body. Servers of both forms exist."""

    LEGACY = "legacy"  # {"detail": {"status", "message"}}
    CURRENT = "current"  # {"detail": {"type", "code", "message", "status", "request_id", "param"}}


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """Error code of ElevenLabs: its HTTP status, and the class of error that it means."""

    status: int
    error: type[TTSError]


CODES: Mapping[str, ErrorCode] = {
    "invalid_parameters": ErrorCode(400, speech.TTSBadRequestError),
    "invalid_voice_settings": ErrorCode(400, speech.TTSBadRequestError),
    "max_character_limit_exceeded": ErrorCode(400, speech.TTSTextTooLongError),
    "text_too_long": ErrorCode(400, speech.TTSTextTooLongError),
    "invalid_output_format": ErrorCode(400, speech.TTSUnsupportedFormatError),
    "voice_not_found": ErrorCode(404, speech.TTSVoiceUnknownError),
    "voice_limit_reached": ErrorCode(
        400, speech.TTSPlanRequiredError
    ),  # of custom voices: the plan has no room for one more
    "voice_not_fine_tuned": ErrorCode(400, speech.TTSVoiceUnknownError),
    "model_not_found": ErrorCode(400, speech.TTSModelUnknownError),
    "model_can_not_do_text_to_speech": ErrorCode(400, speech.TTSModelUnknownError),
    "invalid_api_key": ErrorCode(401, speech.TTSInvalidKeyError),
    "needs_authorization": ErrorCode(401, speech.TTSInvalidKeyError),
    "missing_permissions": ErrorCode(401, speech.TTSInvalidKeyError),
    # The same status as a bad key's, but the key is valid: it is held until there is credit, not until it is replaced.
    "quota_exceeded": ErrorCode(401, speech.TTSQuotaExceededError),
    "insufficient_credits": ErrorCode(402, speech.TTSQuotaExceededError),
    "detected_unusual_activity": ErrorCode(401, speech.TTSAccountFlaggedError),
    "payment_required": ErrorCode(402, speech.TTSPlanRequiredError),
    "subscription_required": ErrorCode(403, speech.TTSPlanRequiredError),
    "output_format_not_allowed": ErrorCode(403, speech.TTSPlanRequiredError),
    "only_for_creator+": ErrorCode(403, speech.TTSPlanRequiredError),
    "too_many_concurrent_requests": ErrorCode(429, speech.TTSConcurrencyError),
    "concurrent_limit_exceeded": ErrorCode(429, speech.TTSConcurrencyError),
    "concurrency_limited": ErrorCode(429, speech.TTSConcurrencyError),
    "system_busy": ErrorCode(429, speech.TTSBusyError),
    "rate_limit_exceeded": ErrorCode(429, speech.TTSBusyError),
    "internal_server_error": ErrorCode(500, speech.TTSServerError),
}

_TYPES = {
    400: "validation_error",
    401: "authentication_error",
    402: "payment_required",
    403: "authorization_error",
    404: "not_found",
    408: "request_timeout",
    409: "conflict",
    422: "validation_error",
    425: "too_early",
    429: "rate_limit_error",
}


def parse_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    api_key: str | None = None,
    provider: str | None = None,
) -> TTSError:
    """Return the error that a response other than audio means, by its code if that is known, else by its HTTP status.

    `now` is wall time with a zone, for a Retry-After that is a date. Never raises. `api_key` is redacted.
    """
    details = parse_error_details(body)
    response = ErrorResponse(status, headers, body, now=now, secret=api_key)
    kind = intermediary_error_class(response, details) or error_class(status, details)
    return build_error(kind, details, response, provider)


def error_class(status: int, details: ErrorDetails) -> type[TTSError]:
    """Return the class of error: by a known code, else by the status."""
    code = details.code or ""
    if code in CODES:
        known = CODES[code].error
        if known is speech.TTSTextTooLongError and not concerns_text(details):
            known = speech.TTSBadRequestError
        # Under a status that does not mean a mistake, the code comes from an intermediary.
        foreign = known is speech.TTSBadRequestError and status not in (400, 404, 422)
        return error_class_by_status(status) if foreign else known
    if code.startswith("only_for_"):
        return speech.TTSPlanRequiredError
    if is_text_too_long(status, details):
        return speech.TTSTextTooLongError
    if status == 404 and details.recognized:  # the voice is all that the path of a synthesis names
        about_voice = details.param in (None, "voice_id")
        return speech.TTSVoiceUnknownError if about_voice else speech.TTSBadRequestError
    return error_class_by_status(status)


def error_body(
    code: str,
    message: str,
    *,
    generation: ErrorBodyVersion = ErrorBodyVersion.CURRENT,
    request_id: str | None = None,
    param: str | None = None,
    status: int | None = None,
) -> dict[str, Any]:
    """Return the body of an error response. `status` is only needed for codes that are not in CODES."""
    if generation is ErrorBodyVersion.LEGACY:
        return {"detail": {"status": code, "message": message}}
    sent = status or (CODES[code].status if code in CODES else 500)
    detail: dict[str, Any] = {
        "type": _TYPES.get(sent, "internal_error" if sent >= 500 else "validation_error"),
        "code": code,
        "message": message,
    }
    detail |= {"status": code}
    if request_id is not None:
        detail["request_id"] = request_id
    if param is not None:
        detail["param"] = param
    return {"detail": detail}


def validation_body(issues: Sequence[ValidationIssue]) -> dict[str, Any]:
    """Return the body of a 422, a list in FastAPI's form."""
    return {
        "detail": [
            {"type": issue.type, "loc": list(issue.loc), "msg": issue.msg, "input": issue.input}
            | ({} if issue.ctx is None else {"ctx": dict(issue.ctx)})
            for issue in issues
        ]
    }


MESSAGE_TOO_BIG = 1009
"""Close code for a message beyond the receiver's limit."""


@dataclass(frozen=True, slots=True)
class SocketClose:
    """End of a websocket, as one of its streams saw it.

    - `code` and `reason` are those of the close frame; None and "" for a connection that broke without one.
    - `delivered`: whether audio had come for the stream.
    - `received`: whether anything had come on the connection.
    """

    code: int | None
    reason: str = ""
    delivered: bool = False
    received: bool = False


# Codes of error messages that only websockets send, besides those of HTTP.
_SOCKET_CODES: Mapping[str, type[TTSError]] = {
    "input_timeout_exceeded": speech.TTSSocketIdleError,
    "max_contexts_exceeded": speech.TTSConcurrencyError,
    "maximum_simultaneous_contexts": speech.TTSConcurrencyError,
    "unsupported_model": speech.TTSModelUnknownError,
    "authentication_required": speech.TTSInvalidKeyError,
    "unauthorized": speech.TTSInvalidKeyError,
    "invalid_input_message": speech.TTSBadRequestError,
}

# A close frame has no code but a sentence of at most 123 bytes.
_REASONS: tuple[tuple[re.Pattern[str], type[TTSError]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"simultaneous contexts|max\w* contexts|too many contexts", speech.TTSConcurrencyError),
        (r"concurren", speech.TTSConcurrencyError),
        (r"quota|credits?\b", speech.TTSQuotaExceededError),
        (r"unusual.activity", speech.TTSAccountFlaggedError),
        (r"new text input within|input.timeout|inactiv", speech.TTSSocketIdleError),
        (r"api.?key|authoriz|authenticat", speech.TTSInvalidKeyError),
        (r"voice settings", speech.TTSBadRequestError),
        (r"\bvoice\b.*(not|does ?n.t|unknown)", speech.TTSVoiceUnknownError),
        (r"\bmodel\b.*(not|does ?n.t|unknown|unavailable)", speech.TTSModelUnknownError),
        (r"subscription|upgrade|\bplan\b|creator", speech.TTSPlanRequiredError),
        (r"busy|rate.limit|overload", speech.TTSBusyError),
    )
)

_CLOSE_CODES: Mapping[int, type[TTSError]] = {
    1001: speech.TTSSocketRestartedError,
    MESSAGE_TOO_BIG: speech.TTSTextTooLongError,
    1011: speech.TTSServerError,
    1012: speech.TTSSocketRestartedError,
    1013: speech.TTSBusyError,
    1014: speech.TTSServerError,
}


def message_error(message: ErrorMessage, *, api_key: str | None = None, provider: str | None = None) -> TTSError:
    """Return the TTSError that an error message means: by its code, its wording, then the close code it announces."""
    kind = _socket_error_class(message.error) or _error_class_by_reason(message.message)
    if kind is None:
        kind = _CLOSE_CODES.get(message.code, speech.TTSRefusedError)
    code = single_line(redact(message.error, api_key), 64) or None
    text = f"error message {code or message.code} on the websocket: {message.message}"
    return _socket_error(kind, text, code, api_key, provider)


def close_error(close: SocketClose, *, api_key: str | None = None, provider: str | None = None) -> TTSError:
    """Return the TTSError that the end of a websocket means for a stream whose audio is not complete."""
    if close.code is None:
        text = "websocket lost without a close frame"
    else:
        text = f"websocket closed with {close.code}{f': {close.reason}' if close.reason else ''}"
    code = None if close.code is None else str(close.code)
    return _socket_error(_error_class_by_close(close), text, code, api_key, provider)


def _error_class_by_close(close: SocketClose) -> type[TTSError]:
    code, reason = close.code, close.reason
    if code is None:
        return speech.TTSSocketDroppedError
    if code in _CLOSE_CODES:
        return _CLOSE_CODES[code]
    known = _error_class_by_reason(reason)
    if code == POLICY_VIOLATION:
        # Without a word and before anything else, it is how a bad key is refused.
        return known or (speech.TTSRefusedError if reason or close.received else speech.TTSInvalidKeyError)
    if 4000 <= code < 5000:
        # Private codes often repeat an HTTP status: 4401 is 401.
        private = error_class_by_status(code - 4000) if 4400 <= code < 4600 else speech.TTSRefusedError
        return known or private
    if code in (1002, 1003, 1007, 1010):  # the vendor did not understand what it was sent
        return speech.TTSRefusedError
    return speech.TTSCutError if close.delivered else speech.TTSNoAnswerError


def _socket_error_class(code: str) -> type[TTSError] | None:
    if code in _SOCKET_CODES:
        return _SOCKET_CODES[code]
    if code in CODES:
        return CODES[code].error
    return speech.TTSPlanRequiredError if code.startswith("only_for_") else None


def _error_class_by_reason(reason: str) -> type[TTSError] | None:
    return next((kind for pattern, kind in _REASONS if pattern.search(reason)), None)


def _socket_error(
    kind: type[TTSError], text: str, code: str | None, api_key: str | None, provider: str | None
) -> TTSError:
    return kind(single_line(redact(text, api_key)), provider=provider, code=code)
