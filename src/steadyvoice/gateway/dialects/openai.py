"""OpenAI dialect of `POST /v1/audio/speech`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steadyvoice.gateway.access_control import Denial
from steadyvoice.gateway.dialects.base import HTTPError, retry_after_header
from steadyvoice.gateway.http import Response, json_response
from steadyvoice.gateway.speech_request import (
    BodyFormat,
    RawRequest,
    SpeechOrder,
    SpeechOrderParser,
    header_options,
    validated_text,
)
from steadyvoice.service.options import ResolvedOptions, options_from_request
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.wire.openai import speech as openai_speech
from steadyvoice.wire.openai.errors import error_body, validation_body
from steadyvoice.wire.request_validation import ValidationIssue


class OpenAIDialect:
    """Reads orders and writes refusals as OpenAI does."""

    name = openai_speech.DIALECT

    def __init__(self) -> None:
        self.order = SpeechOrderParser("input", _order).order

    def audio_headers(self, order: SpeechOrder, account: ReportedUtterance, request_id: str) -> dict[str, str]:
        """Nothing that is not on every answer already."""
        return {}

    def trouble(self, trouble: HTTPError, request_id: str) -> Response:
        """Answer in the vendor's own words, where it has one for this."""
        code = (_CODES.get(trouble.kind) if trouble.kind else None) or trouble.code
        status = 400 if trouble.kind is FailureKind.VOICE_UNKNOWN else trouble.status
        param = "input" if trouble.param == "text" else trouble.param
        body = error_body(trouble.message, type=_type(status), code=code, param=param)
        return json_response(body, status=status, headers=retry_after_header(trouble.retry_after))

    def unreadable(self, issues: Sequence[ValidationIssue], request_id: str) -> Response:
        """Answer with the first thing that is wrong."""
        return json_response(validation_body(issues), status=400)

    def denied(self, denial: Denial, request_id: str) -> Response:
        """Answer who may not come in."""
        body = error_body(denial.message, type=_type(denial.status), code=denial.code)
        return json_response(body, status=denial.status)


def _order(asked: RawRequest, document: dict[str, Any]) -> SpeechOrder:
    call = openai_speech.parse_request_document(document)
    wishes = options_from_request(openai_speech.decode_request(call)) | header_options(asked.headers)
    text = validated_text(call.text, "input")
    return SpeechOrder(text, ResolvedOptions.of(wishes), BodyFormat.EVENTS if call.sse else BodyFormat.AUDIO)


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
