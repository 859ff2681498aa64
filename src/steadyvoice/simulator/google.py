"""Google's dialect in the simulator."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from aiohttp import web

from steadyvoice.simulator.http.response import Rejection, RequestRejectedError, SimulatedResponse
from steadyvoice.simulator.synthesis import (
    EncodedAudio,
    ResponseShape,
    SynthesisOrder,
    complete_audio,
    complete_response,
)
from steadyvoice.simulator.vendor_dialect import DocumentRoute, SpeechRoute, VendorCode, VendorDialect
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire import google as wire
from steadyvoice.wire.error_response import get_header

ENDPOINT = "text:synthesize"
VOICES = ("en-US-Neural2-C", "en-US-Chirp3-HD-Kore", "en-GB-Neural2-A", "de-DE-Neural2-F", "ja-JP-Neural2-B")
"""Voices that exist, besides those of the settings."""

_FORMATS = {asked: format_ for format_, asked in wire.FORMATS.items()}


class SimulatedGoogle(VendorDialect):
    """Google's dialect: all audio at once, in Base64, and errors with the names of google.rpc.Code."""

    codes: ClassVar[Mapping[type[TTSError], VendorCode]] = {
        speech.TTSInvalidKeyError: VendorCode(401, "UNAUTHENTICATED"),
        speech.TTSPlanRequiredError: VendorCode(400, "FAILED_PRECONDITION"),
        speech.TTSBusyError: VendorCode(429, "RESOURCE_EXHAUSTED"),
        speech.TTSBadRequestError: VendorCode(400, "INVALID_ARGUMENT"),
        speech.TTSTextTooLongError: VendorCode(400, "INVALID_ARGUMENT"),
        speech.TTSUnsupportedFormatError: VendorCode(400, "INVALID_ARGUMENT"),
        speech.TTSVoiceUnknownError: VendorCode(400, "INVALID_ARGUMENT"),
        speech.TTSServerError: VendorCode(500, "INTERNAL"),
    }

    def speech_routes(self) -> Sequence[SpeechRoute]:
        """Return the speech endpoint."""
        return [SpeechRoute(wire.SYNTHESIZE_PATH, ENDPOINT, self._parse)]

    def document_routes(self) -> Sequence[DocumentRoute]:
        """Return the list of voices."""
        return [DocumentRoute(wire.VOICES_PATH, "voices", self._voices)]

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the API key, or the access token where there is no key."""
        if key := get_header(headers, wire.KEY_HEADER.lower()):
            return key
        scheme, _, token = (get_header(headers, "authorization") or "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    def headers(self, request_id: str, order: SynthesisOrder | None = None) -> dict[str, str]:
        """Return the headers of a response, which has no id."""
        return {"server": "ESF", "x-xss-protection": "0"}

    def error_document(self, refusal: VendorCode, message: str, request_id: str) -> Any:
        """Return the body of a refusal."""
        return {"error": {"code": refusal.status, "message": message, "status": refusal.code or "UNKNOWN"}}

    def _voices(self, request: web.Request) -> dict[str, Any]:
        names = (*VOICES, *self.settings.voices)
        return {
            "voices": [
                {"languageCodes": [wire.locale_of_voice(name)], "name": name, "naturalSampleRateHertz": 24_000}
                for name in names
            ]
        }

    def _parse(self, request: web.Request, body: bytes) -> SynthesisOrder:
        try:
            document = json.loads(body)
            text = document["input"]["text"]
            voice, config = document["voice"], document["audioConfig"]
            language, name = voice["languageCode"], voice.get("name") or wire.DEFAULT_VOICE
            asked = (config["audioEncoding"], config.get("sampleRateHertz", 24_000))
            speed = float(config.get("speakingRate") or 1.0)
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise _rejected("Invalid JSON payload received.") from error
        if not isinstance(text, str) or not text or not isinstance(language, str):
            raise _rejected("Either `input.text` or `input.ssml` must be set, and `voice.language_code`.")
        if len(text.encode("utf-8", "surrogatepass")) > wire.MAX_BYTES:
            raise _rejected(f"Either `input.text` or `input.ssml` is longer than the limit of {wire.MAX_BYTES} bytes.")
        if name not in (*VOICES, *self.settings.voices):
            raise _rejected(f"Voice '{name}' does not exist. Is it misspelled?")
        if asked not in _FORMATS:
            raise _rejected("Requested audio encoding or sample rate is not supported.")
        if not wire.MIN_SPEED <= speed <= wire.MAX_SPEED:
            raise _rejected(f"speaking_rate must be from {wire.MIN_SPEED} to {wire.MAX_SPEED}")
        return SynthesisOrder(
            ENDPOINT, text, name, name, _FORMATS[asked], ResponseShape.WHOLE, speed=speed, build=_in_base64
        )


async def _in_base64(pieces: AsyncIterator[EncodedAudio], order: SynthesisOrder) -> SimulatedResponse:
    data, audio_end = await complete_audio(pieces, order)
    body = b'{\n  "audioContent": "%b"\n}\n' % base64.b64encode(data)
    return complete_response(body, audio_end, "application/json; charset=UTF-8")


def _rejected(message: str) -> RequestRejectedError:
    return RequestRejectedError(Rejection("invalid_parameters", message))
