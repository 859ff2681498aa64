"""OpenAI dialect of `POST /v1/audio/speech`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steadyvoice.gateway.http import HTTPError, Response, json_response, retry_after_header
from steadyvoice.gateway.speech_request import (
    BodyFormat,
    GatewaySpeechRequest,
    RawRequest,
    SpeechOrderParser,
    header_options,
    validated_text,
)
from steadyvoice.providers.base import Accepted
from steadyvoice.service.options import ResolvedOptions, options_from_request
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.wire.openai import speech as openai_speech
from steadyvoice.wire.openai.errors import error_body, validation_body
from steadyvoice.wire.request_validation import ValidationIssue


class OpenAIDialect:
    """OpenAI's request bodies and errors."""

    name = openai_speech.DIALECT
    streams_audio = True

    def __init__(self) -> None:
        self.parse = SpeechOrderParser("input", _order).parse

    def audio_headers(
        self, order: GatewaySpeechRequest, utterance: ReportedUtterance, request_id: str
    ) -> dict[str, str]:
        """Return no headers: OpenAI's responses have none of their own."""
        return {}

    def vendor_headers(
        self, accepted: Accepted, request_id: str, *, is_sole: bool = True, is_whole: bool = True
    ) -> dict[str, str]:
        """Return no headers."""
        return {}

    def error_response(self, error: HTTPError, request_id: str) -> Response:
        """Return the error with OpenAI's type, and its code where it has one."""
        code = (_CODES.get(error.kind) if error.kind else None) or error.code
        status = 400 if error.kind is FailureKind.VOICE_UNKNOWN else error.status
        param = "input" if error.param == "text" else error.param
        body = error_body(error.message, type=_type(status), code=code, param=param)
        return json_response(body, status=status, headers=retry_after_header(error.retry_after))

    def validation_error(self, issues: Sequence[ValidationIssue], request_id: str) -> Response:
        """Return a 400 that names the first issue, as OpenAI does."""
        return json_response(validation_body(issues), status=400)


def _order(request: RawRequest, document: dict[str, Any]) -> GatewaySpeechRequest:
    call = openai_speech.parse_request_document(document)
    options = options_from_request(openai_speech.decode_request(call)) | header_options(request.headers)
    text = validated_text(call.text, "input")
    return GatewaySpeechRequest(
        text, ResolvedOptions.resolve(options), BodyFormat.EVENTS if call.sse else BodyFormat.AUDIO
    )


_CODES: Mapping[FailureKind, str] = {
    FailureKind.TEXT_TOO_LONG: "string_above_max_length",
    FailureKind.VOICE_UNKNOWN: "voice_not_found",
    FailureKind.MODEL_UNKNOWN: "model_not_found",
    FailureKind.BUSY: "rate_limit_exceeded",
    FailureKind.CONCURRENCY: "rate_limit_exceeded",
}


def _type(status: int) -> str:
    if status == 429:
        return "requests"
    return "invalid_request_error" if status < 500 else "server_error"
