"""`POST /admin/say`: test synthesis through the live service; a call like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from steadyvoice.gateway.access_control import Denial
from steadyvoice.gateway.dialects.base import HTTPError, retry_after_header
from steadyvoice.gateway.http import Response, error_response
from steadyvoice.gateway.speech_request import RawRequest, SpeechOrder, header_options
from steadyvoice.service.config_file import ConfigTable
from steadyvoice.service.options import ResolvedOptions, SynthesisOptions
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.text import clean_text
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue, parse_document


class SayBody(ConfigTable):
    """What to say, in which voice and format."""

    text: str
    voice: str = "default"
    format: str = "mp3_44100_128"


class SayDialect:
    """Reads such an order, and refuses in the gateway's own words."""

    name = "say"

    def order(self, asked: RawRequest) -> SpeechOrder:
        """Read what is asked for. Raises RequestValidationError and TTSError."""
        said = _read(asked.headers, asked.body)
        text = clean_text(said.text)
        if not text.strip():
            raise RequestValidationError([ValidationIssue("too_short", ("text",), "there is nothing to say")])
        return SpeechOrder(
            text,
            ResolvedOptions.of(SynthesisOptions(voice=said.voice, format=said.format) | header_options(asked.headers)),
        )

    def audio_headers(self, order: SpeechOrder, account: ReportedUtterance, request_id: str) -> dict[str, str]:
        """Nothing that is not on every answer already."""
        return {"cache-control": "no-store"}

    def trouble(self, trouble: HTTPError, request_id: str) -> Response:
        """Answer that it could not be spoken."""
        headers = retry_after_header(trouble.retry_after)
        return error_response(trouble.status, trouble.code, trouble.message, field=trouble.param, headers=headers)

    def unreadable(self, issues: Sequence[ValidationIssue], request_id: str) -> Response:
        """Answer with the first thing that is wrong."""
        first = issues[0]
        field = ".".join(map(str, first.loc)).removeprefix("body.")[:100]
        return error_response(422, "invalid_field", f"{field}: {first.msg}", field=field)

    def denied(self, denial: Denial, request_id: str) -> Response:
        """Answer who may not come in."""
        return error_response(denial.status, denial.code, denial.message)


def _read(headers: Mapping[bytes, bytes], body: bytes) -> SayBody:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise RequestValidationError(
            [ValidationIssue("not_json", ("body",), "must be JSON: Content-Type: application/json")]
        )
    try:
        return SayBody.model_validate(parse_document(body))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise RequestValidationError([ValidationIssue(first["type"], first["loc"], first["msg"])]) from None
