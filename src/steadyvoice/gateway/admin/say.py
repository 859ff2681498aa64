"""`POST /admin/say`: test synthesis through the live service; a call like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from steadyvoice.gateway.dialects.base import GatewayDialect
from steadyvoice.gateway.http import HTTPError, Response, error_response
from steadyvoice.gateway.speech_request import RawRequest, SpeechOrder, header_options
from steadyvoice.service.config_file import ConfigTable
from steadyvoice.service.options import ResolvedOptions, SynthesisOptions
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.text import clean_text
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue, parse_document


class SayBody(ConfigTable):
    """Body of a test synthesis."""

    text: str
    voice: str = "default"
    format: str = "mp3_44100_128"


class SayDialect(GatewayDialect):
    """Dialect of the test synthesis: a JSON body, and errors in the gateway's own format."""

    name = "say"

    def parse(self, request: RawRequest) -> SpeechOrder:
        """Parse a request. Raises RequestValidationError and TTSError."""
        body = _parsed_body(request.headers, request.body)
        text = clean_text(body.text)
        if not text.strip():
            raise RequestValidationError([ValidationIssue("too_short", ("text",), "must not be empty")])
        options = SynthesisOptions(voice=body.voice, format=body.format) | header_options(request.headers)
        return SpeechOrder(text, ResolvedOptions.resolve(options))

    def audio_headers(self, order: SpeechOrder, account: ReportedUtterance, request_id: str) -> dict[str, str]:
        """Return a header that keeps the audio out of caches."""
        return {"cache-control": "no-store"}

    def validation_error(self, issues: Sequence[ValidationIssue], request_id: str) -> Response:
        """Return a 422 that names the first invalid field."""
        first = issues[0]
        field = ".".join(map(str, first.loc)).removeprefix("body.")[:100]
        return error_response(HTTPError(422, "invalid_field", f"{field}: {first.msg}", param=field))


def _parsed_body(headers: Mapping[bytes, bytes], body: bytes) -> SayBody:
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
