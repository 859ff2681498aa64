"""ElevenLabs' dialect: `POST /v1/text-to-speech/{voice_id}` and its three sisters, answered as the vendor does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steadyvoice.gateway.guard import Denial
from steadyvoice.gateway.order import Asked, Order, Orders, Wrapping, own_wishes, spoken_text
from steadyvoice.gateway.reply import Reply, json_reply, query_of
from steadyvoice.gateway.trouble import Trouble, retry_after_header
from steadyvoice.service.spoken import Account
from steadyvoice.service.style import Style
from steadyvoice.service.wishes import wishes_of
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
        self.order = Orders("text", self._order).order

    def _order(self, asked: Asked, document: dict[str, Any]) -> Order:
        if has_request_ids(document):
            document = clean_request_id_fields(document, most=MAX_LIST_ITEMS)
        call = elevenlabs_speech.parse_request_document(query_of(asked.query), document, self._form)
        text = spoken_text(call.text, "text")
        request = elevenlabs_speech.decode_request(call, asked.voice)
        wishes = wishes_of(request) | own_wishes(asked.headers)
        if self._form.timed:
            wishes["timestamps"] = True
        wrapping = Wrapping.TIMED if self._form.timed else Wrapping.BARE
        return Order(text, Style.of(wishes), wrapping, whole=not self._form.streams)

    def audio_headers(self, order: Order, account: Account, request_id: str) -> dict[str, str]:
        """Return the vendor's own receipt, and in any case a request id.

        With the id, a client asks for the same prosody in its next request. It is the vendor's where nobody else is
        heard in the answer, as far as that is known when it begins.
        """
        spoken = account.spoken
        first = spoken.now.first
        if first is None:
            return {"request-id": own_request_id(request_id)}
        id = first.request_id if first.dialect == elevenlabs_speech.DIALECT and spoken.sole_speaker else None
        headers = {"request-id": id or own_request_id(request_id)}
        if first.characters_billed is not None and spoken.now.characters == len(order.text):  # for all of it
            headers["character-cost"] = elevenlabs_speech.format_amount(first.characters_billed)
        if first.concurrent_requests is not None:
            headers["current-concurrent-requests"] = str(first.concurrent_requests)
        if first.concurrency_limit is not None:
            headers["maximum-concurrent-requests"] = str(first.concurrency_limit)
        return headers

    def trouble(self, trouble: Trouble, request_id: str) -> Reply:
        """Answer in the vendor's own words, where it has one for this."""
        code = (_CODES.get(trouble.kind) if trouble.kind else None) or trouble.code
        param = {"voice": "voice_id", "model": "model_id"}.get(trouble.param or "", trouble.param)
        return _complaint(trouble.status, code, trouble.message, request_id, param, trouble.retry_after)

    def unreadable(self, issues: Sequence[ValidationIssue], request_id: str) -> Reply:
        """Answer as FastAPI does."""
        return json_reply(validation_body(issues), status=422, headers={"request-id": own_request_id(request_id)})

    def denied(self, denial: Denial, request_id: str) -> Reply:
        """Answer who may not come in."""
        return _complaint(denial.status, denial.code, denial.message, request_id)


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


def _complaint(
    status: int,
    code: str,
    message: str,
    request_id: str,
    param: str | None = None,
    retry_after: float | None = None,
) -> Reply:
    id = own_request_id(request_id)
    body = error_body(code, message, request_id=id, param=param, status=status)
    headers = {"request-id": id, **retry_after_header(retry_after)}
    return json_reply(body, status=status, headers=headers)
