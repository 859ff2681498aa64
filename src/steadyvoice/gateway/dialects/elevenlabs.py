"""ElevenLabs dialect of `POST /v1/text-to-speech/{voice_id}` and its three variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steadyvoice.gateway.access_control import Denial
from steadyvoice.gateway.dialects.base import HTTPError, retry_after_header
from steadyvoice.gateway.http import Response, json_response, query_dict
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
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.errors import error_body, validation_body
from steadyvoice.wire.elevenlabs.request_stitching import clean_request_id_fields, has_request_ids, own_request_id
from steadyvoice.wire.elevenlabs.speech import MAX_LIST_ITEMS, SpeechEndpoint
from steadyvoice.wire.request_validation import ValidationIssue


class ElevenLabsDialect:
    """Reads orders and writes refusals as ElevenLabs does."""

    name = elevenlabs_speech.DIALECT

    def __init__(self, form: SpeechEndpoint = SpeechEndpoint.WHOLE) -> None:
        self._form = form
        self.order = SpeechOrderParser("text", self._order).order

    def _order(self, asked: RawRequest, document: dict[str, Any]) -> SpeechOrder:
        if has_request_ids(document):
            document = clean_request_id_fields(document, most=MAX_LIST_ITEMS)
        call = elevenlabs_speech.parse_request_document(query_dict(asked.query), document, self._form)
        text = validated_text(call.text, "text")
        request = elevenlabs_speech.decode_request(call, asked.voice)
        wishes = options_from_request(request) | header_options(asked.headers)
        if self._form.timed:
            wishes["timestamps"] = True
        wrapping = BodyFormat.TIMESTAMPS if self._form.timed else BodyFormat.AUDIO
        return SpeechOrder(text, ResolvedOptions.of(wishes), wrapping, whole=not self._form.streams)

    def audio_headers(self, order: SpeechOrder, account: ReportedUtterance, request_id: str) -> dict[str, str]:
        """Return the vendor's own receipt, and in any case a request id.

        With the id, a client asks for the same prosody in its next request. It is the vendor's where nobody else is
        heard in the answer, as far as that is known when it begins.
        """
        speaker = account.report.current_speaker
        first = speaker.first
        if first is None:
            return {"request-id": own_request_id(request_id)}
        id = first.request_id if first.dialect == elevenlabs_speech.DIALECT and account.report.sole_speaker else None
        headers = {"request-id": id or own_request_id(request_id)}
        if first.characters_billed is not None and speaker.characters == len(order.text):  # for all of it
            headers["character-cost"] = elevenlabs_speech.format_amount(first.characters_billed)
        if first.concurrent_requests is not None:
            headers["current-concurrent-requests"] = str(first.concurrent_requests)
        if first.concurrency_limit is not None:
            headers["maximum-concurrent-requests"] = str(first.concurrency_limit)
        return headers

    def trouble(self, trouble: HTTPError, request_id: str) -> Response:
        """Answer in the vendor's own words, where it has one for this."""
        code = (_CODES.get(trouble.kind) if trouble.kind else None) or trouble.code
        param = {"voice": "voice_id", "model": "model_id"}.get(trouble.param or "", trouble.param)
        return _error_response(trouble.status, code, trouble.message, request_id, param, trouble.retry_after)

    def unreadable(self, issues: Sequence[ValidationIssue], request_id: str) -> Response:
        """Answer as FastAPI does."""
        return json_response(validation_body(issues), status=422, headers={"request-id": own_request_id(request_id)})

    def denied(self, denial: Denial, request_id: str) -> Response:
        """Answer who may not come in."""
        return _error_response(denial.status, denial.code, denial.message, request_id)


_CODES: Mapping[FailureKind, str] = {
    FailureKind.BAD_REQUEST: "invalid_parameters",
    FailureKind.TEXT_TOO_LONG: "max_character_limit_exceeded",
    FailureKind.UNSUPPORTED_FORMAT: "invalid_output_format",
    FailureKind.VOICE_UNKNOWN: "voice_not_found",
    FailureKind.MODEL_UNKNOWN: "model_not_found",
    FailureKind.CONCURRENCY: "too_many_concurrent_requests",
    FailureKind.BUSY: "system_busy",
    FailureKind.OVERLOADED: "system_busy",
}


def _error_response(
    status: int,
    code: str,
    message: str,
    request_id: str,
    param: str | None = None,
    retry_after: float | None = None,
) -> Response:
    id = own_request_id(request_id)
    body = error_body(code, message, request_id=id, param=param, status=status)
    headers = {"request-id": id, **retry_after_header(retry_after)}
    return json_response(body, status=status, headers=headers)
