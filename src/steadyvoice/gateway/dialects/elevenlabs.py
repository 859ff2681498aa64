"""ElevenLabs dialect of `POST /v1/text-to-speech/{voice_id}` and its three variants: orders, errors, request-id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steadyvoice.gateway.http import HTTPError, Response, json_response, query_dict, retry_after_header
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
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.errors import error_body, validation_body
from steadyvoice.wire.elevenlabs.request_stitching import clean_request_id_fields, has_request_ids, own_request_id
from steadyvoice.wire.elevenlabs.speech import MAX_LIST_ITEMS, SpeechEndpoint
from steadyvoice.wire.request_validation import ValidationIssue


class ElevenLabsDialect:
    """ElevenLabs' request bodies, response headers and errors. `endpoint` is one of the four speech endpoints."""

    name = elevenlabs_speech.DIALECT

    def __init__(self, form: SpeechEndpoint = SpeechEndpoint.WHOLE) -> None:
        self._form = form
        self.streams_audio = form.streams and not form.timed
        self.parse = SpeechOrderParser("text", self._order).parse

    def _order(self, request: RawRequest, document: dict[str, Any]) -> GatewaySpeechRequest:
        # Before the cache's key is built, so that ids of the gateway do not change it.
        if has_request_ids(document):
            document = clean_request_id_fields(document, max_ids=MAX_LIST_ITEMS)
        call = elevenlabs_speech.parse_request_document(query_dict(request.query), document, self._form)
        text = validated_text(call.text, "text")
        synthesis = elevenlabs_speech.decode_request(call, request.voice)
        options = options_from_request(synthesis) | header_options(request.headers)
        if self._form.timed:
            options["timestamps"] = True
        body_format = BodyFormat.TIMESTAMPS if self._form.timed else BodyFormat.AUDIO
        return GatewaySpeechRequest(
            text, ResolvedOptions.resolve(options), body_format, buffered=not self._form.streams
        )

    def audio_headers(
        self, order: GatewaySpeechRequest, utterance: ReportedUtterance, request_id: str
    ) -> dict[str, str]:
        """Return the vendor's billing headers, and in any case a request id.

        With the id, a client asks for continuous prosody in its next request. It is the vendor's own where the vendor
        alone is heard in the response, as far as that is known when it begins.
        """
        speaker = utterance.report.current_speaker
        first = speaker.first
        if first is None:
            return {"request-id": own_request_id(request_id)}
        is_whole = speaker.characters == len(order.text)
        return self.vendor_headers(first, request_id, is_sole=utterance.report.sole_speaker, is_whole=is_whole)

    def vendor_headers(
        self, accepted: Accepted, request_id: str, *, is_sole: bool = True, is_whole: bool = True
    ) -> dict[str, str]:
        """Return the vendor's billing headers and a request id."""
        id = accepted.request_id if is_sole and accepted.dialect == elevenlabs_speech.DIALECT else None
        headers = {"request-id": id or own_request_id(request_id)}
        # The vendor billed the first request; the header is right only if that one spoke the whole text.
        if is_whole and accepted.characters_billed is not None:
            headers["character-cost"] = elevenlabs_speech.format_amount(accepted.characters_billed)
        if accepted.concurrent_requests is not None:
            headers["current-concurrent-requests"] = str(accepted.concurrent_requests)
        if accepted.concurrency_limit is not None:
            headers["maximum-concurrent-requests"] = str(accepted.concurrency_limit)
        return headers

    def error_response(self, error: HTTPError, request_id: str) -> Response:
        """Return the error with ElevenLabs' code where it has one, and the request id in header and body."""
        code = error_code(error)
        param = {"voice": "voice_id", "model": "model_id"}.get(error.param or "", error.param)
        id = own_request_id(request_id)
        body = error_body(code, error.message, request_id=id, param=param, status=error.status)
        headers = {"request-id": id, **retry_after_header(error.retry_after)}
        return json_response(body, status=error.status, headers=headers)

    def validation_error(self, issues: Sequence[ValidationIssue], request_id: str) -> Response:
        """Return a 422 in FastAPI's format, as ElevenLabs does."""
        return json_response(validation_body(issues), status=422, headers={"request-id": own_request_id(request_id)})


def error_code(error: HTTPError) -> str:
    """Return ElevenLabs' code of an error where it has one, else the gateway's."""
    return (_CODES.get(error.kind) if error.kind else None) or error.code


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
