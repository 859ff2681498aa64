"""Azure Speech's dialect in the simulator."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from xml.etree import ElementTree

from aiohttp import web

from steadyvoice.simulator.http.response import Rejection, RequestRejectedError
from steadyvoice.simulator.synthesis import ResponseShape, SynthesisOrder
from steadyvoice.simulator.vendor_dialect import DocumentRoute, SpeechRoute, VendorCode, VendorDialect
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire import azure as wire
from steadyvoice.wire.error_response import get_header

ENDPOINT = "cognitiveservices/v1"
VOICES = ("en-US-JennyNeural", "en-US-GuyNeural", "en-GB-SoniaNeural", "de-DE-KatjaNeural", "ja-JP-NanamiNeural")
"""Voices that the simulated account has, besides those of the settings."""

_SPEAK = re.compile(r"\{.*\}")  # namespace of an element
_FORMATS = {name: format_ for format_, name in wire.FORMATS.items()}


class SimulatedAzure(VendorDialect):
    """Azure's dialect. The bodies of its errors are not documented: a status and a message."""

    codes: ClassVar[Mapping[type[TTSError], VendorCode]] = {
        speech.TTSInvalidKeyError: VendorCode(401, "401"),
        speech.TTSQuotaExceededError: VendorCode(403, "403"),
        speech.TTSBusyError: VendorCode(429, "429"),
        speech.TTSBadRequestError: VendorCode(400, "BadRequest"),
        speech.TTSServerError: VendorCode(500, "InternalServerError"),
    }

    def speech_routes(self) -> Sequence[SpeechRoute]:
        """Return the speech endpoint."""
        return [SpeechRoute(wire.SPEECH_PATH, ENDPOINT, self._parse)]

    def document_routes(self) -> Sequence[DocumentRoute]:
        """Return the list of voices."""
        return [DocumentRoute(wire.VOICES_PATH, "cognitiveservices/voices/list", self._voices)]

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the key of the resource."""
        return get_header(headers, wire.KEY_HEADER.lower())

    def headers(self, request_id: str, order: SynthesisOrder | None = None) -> dict[str, str]:
        """Return the headers of a response."""
        return {"x-requestid": request_id}

    def error_document(self, refusal: VendorCode, message: str, request_id: str) -> Any:
        """Return the body of a refusal."""
        if refusal.status == 403:
            message = "Out of call volume quota. Quota will be replenished in 05:22:00."
        return {"error": {"code": refusal.code or str(refusal.status), "message": message}}

    def _voices(self, request: web.Request) -> list[dict[str, str]]:
        return [
            {"ShortName": voice, "Locale": wire.locale_of_voice(voice), "VoiceType": "Neural", "Status": "GA"}
            for voice in (*VOICES, *self.settings.voices)
        ]

    def _parse(self, request: web.Request, body: bytes) -> SynthesisOrder:
        if request.content_type != wire.CONTENT_TYPE:
            raise RequestRejectedError(Rejection(status=415, message="Content-Type must be application/ssml+xml"))
        format_ = _FORMATS.get(request.headers.get(wire.FORMAT_HEADER, ""))
        if format_ is None:
            raise _rejected(f"{wire.FORMAT_HEADER}: unsupported value")
        try:
            # The parser of the standard library: the simulator listens on loopback, and expat limits entities.
            root = ElementTree.fromstring(body)  # noqa: S314
        except ElementTree.ParseError as error:
            raise _rejected(f"SSML: {error}") from error
        voice = next((each for each in root.iter() if _name(each) == "voice"), None)
        if _name(root) != "speak" or voice is None:
            raise _rejected("SSML: must be a speak element with a voice")
        name, text = voice.get("name", ""), "".join(voice.itertext())
        if name not in (*VOICES, *self.settings.voices):
            raise _rejected(f"Unsupported voice {name}.")
        if not text.strip():
            raise _rejected("SSML: no text to speak")
        speed = next((float(each.get("rate", "1")) for each in voice.iter() if _name(each) == "prosody"), 1.0)
        return SynthesisOrder(ENDPOINT, text, name, name, format_, ResponseShape.STREAM, speed=speed)


def _name(element: ElementTree.Element) -> str:
    return _SPEAK.sub("", element.tag)


def _rejected(message: str) -> RequestRejectedError:
    return RequestRejectedError(Rejection("invalid_parameters", message))
