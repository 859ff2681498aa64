"""Amazon Polly's dialect in the simulator."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from xml.etree import ElementTree

from aiohttp import web

from steadyvoice.simulator.http.response import Rejection, RequestRejectedError, SimulatedResponse
from steadyvoice.simulator.synthesis import ResponseShape, SynthesisOrder
from steadyvoice.simulator.vendor_dialect import DocumentRoute, SpeechRoute, VendorCode, VendorDialect
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire import polly as wire
from steadyvoice.wire.error_response import get_header

ENDPOINT = "speech"
VOICES = {
    "Joanna": "en-US",
    "Matthew": "en-US",
    "Amy": "en-GB",
    "Vicki": "de-DE",
    "Takumi": "ja-JP",
    "Tatyana": "ru-RU",
}
"""Languages of the voices that the simulated region has, besides those of the settings."""

_KEY_ID = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/\d{8}/[\w-]+/polly/aws4_request, *SignedHeaders=")
_FORMATS = {asked: format_ for format_, asked in wire.FORMATS.items()}


class SimulatedPolly(VendorDialect):
    """Polly's dialect. The id of the access key is its API key; signatures are not verified, for the secret is unknown.

    A code comes in a header, and its message in the body, as all AWS services with this protocol send them.
    """

    codes: ClassVar[Mapping[type[TTSError], VendorCode]] = {
        speech.TTSInvalidKeyError: VendorCode(403, "UnrecognizedClientException"),
        speech.TTSPlanRequiredError: VendorCode(403, "OptInRequired"),
        speech.TTSBusyError: VendorCode(400, "ThrottlingException"),
        speech.TTSConcurrencyError: VendorCode(402, "ServiceQuotaExceededException"),
        speech.TTSTextTooLongError: VendorCode(400, "TextLengthExceededException"),
        speech.TTSUnsupportedFormatError: VendorCode(400, "InvalidSampleRateException"),
        speech.TTSVoiceUnknownError: VendorCode(400, "ValidationException"),
        speech.TTSModelUnknownError: VendorCode(400, "EngineNotSupportedException"),
        speech.TTSBadRequestError: VendorCode(400, "ValidationException"),
        speech.TTSServerError: VendorCode(500, "ServiceFailureException"),
    }

    def speech_routes(self) -> Sequence[SpeechRoute]:
        """Return the speech endpoint."""
        return [SpeechRoute(wire.SPEECH_PATH, ENDPOINT, self._parse)]

    def document_routes(self) -> Sequence[DocumentRoute]:
        """Return the list of voices."""
        return [DocumentRoute(wire.VOICES_PATH, "voices", self._voices)]

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the id of the access key that a request is signed with."""
        found = _KEY_ID.match(get_header(headers, "authorization") or "")
        return found[1] if found else None

    def headers(self, request_id: str, order: SynthesisOrder | None = None) -> dict[str, str]:
        """Return the headers of a response."""
        spoken = {"x-amzn-RequestCharacters": str(len(order.text))} if order else {}
        return {"x-amzn-RequestId": request_id, **spoken}

    def error_document(self, refusal: VendorCode, message: str, request_id: str) -> Any:
        """Return the body of a refusal."""
        return {"message": message}

    def error_response(self, rejection: Rejection, request_id: str) -> SimulatedResponse:
        """Return a rejection, whose code is in a header."""
        response = super().error_response(rejection, request_id)
        code = self.refusal(rejection).code
        if code is None:
            return response
        headers = {**response.headers, "x-amzn-ErrorType": f"{code}:http://internal.amazon.com/coral/com.amazon.polly/"}
        return SimulatedResponse(response.body, response.status, headers, response.length)

    def _voices(self, request: web.Request) -> dict[str, Any]:
        languages = {**VOICES, **dict.fromkeys(self.settings.voices, "en-US")}
        return {
            "Voices": [
                {"Id": name, "Name": name, "LanguageCode": language, "SupportedEngines": ["standard", "neural"]}
                for name, language in languages.items()
            ]
        }

    def _parse(self, request: web.Request, body: bytes) -> SynthesisOrder:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _rejected("invalid_parameters", "The request body is not JSON.") from error
        fields = document if isinstance(document, dict) else {}
        text, voice, engine = (fields.get(name) for name in ("Text", "VoiceId", "Engine"))
        if not isinstance(text, str) or not text:
            raise _rejected("invalid_parameters", "1 validation error detected: Value at 'text' failed to satisfy")
        if voice not in (*VOICES, *self.settings.voices):
            raise _rejected(
                "voice_not_found",
                f"1 validation error detected: Value '{voice}' at 'voiceId' failed to satisfy constraint",
            )
        if (engine or "standard") not in wire.ENGINES:
            raise _rejected("model_not_found", "This engine is not supported.")
        format_ = _FORMATS.get((fields.get("OutputFormat", ""), fields.get("SampleRate", "")))
        if format_ is None:
            raise _rejected("invalid_output_format", "The specified sample rate is not valid.")
        speed = 1.0
        if fields.get("TextType") == "ssml":
            text, speed = _spoken(text)
        if len(text) > wire.MAX_CHARACTERS:
            raise _rejected("text_too_long", "Maximum text length has been exceeded")
        return SynthesisOrder(
            ENDPOINT, text, str(voice), str(engine or "standard"), format_, ResponseShape.STREAM, speed=speed
        )


def _spoken(ssml: str) -> tuple[str, float]:
    """Return the text of an SSML document, and its speed."""
    try:
        # The parser of the standard library: the simulator listens on loopback, and expat limits entities.
        root = ElementTree.fromstring(ssml)  # noqa: S314
        rate = next((each.get("rate", "100%") for each in root.iter("prosody")), "100%")
        return "".join(root.itertext()), float(rate.removesuffix("%")) / 100
    except (ElementTree.ParseError, ValueError) as error:
        raise _rejected("invalid_parameters", "Invalid SSML request") from error


def _rejected(code: str, message: str) -> RequestRejectedError:
    return RequestRejectedError(Rejection(code, message))
