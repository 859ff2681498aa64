"""Deepgram's dialect in the simulator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aiohttp import web

from steadyvoice.simulator.http.response import Rejection, RequestRejectedError
from steadyvoice.simulator.synthesis import ResponseShape, SynthesisOrder
from steadyvoice.simulator.vendor_dialect import DocumentRoute, SpeechRoute, VendorCode, VendorDialect
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.wire import deepgram as wire
from steadyvoice.wire.error_response import get_header

ENDPOINT = "speak"

# Query parameters of a format that may be left out. Without any, the vendor sends WAV at 24 kHz.
_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "linear16": {"container": "wav", "sample_rate": "24000"},
    "mulaw": {"container": "none", "sample_rate": "8000"},
    "alaw": {"container": "none", "sample_rate": "8000"},
    "mp3": {"bit_rate": "32000"},
    "flac": {"sample_rate": "24000"},
    "opus": {"container": "ogg", "bit_rate": "64000"},
}


class SimulatedDeepgram(VendorDialect):
    """Deepgram's dialect: parses requests, and formats errors and headers, as the vendor does."""

    codes: ClassVar[Mapping[type[TTSError], VendorCode]] = {
        speech.TTSInvalidKeyError: VendorCode(401, "INVALID_AUTH"),
        speech.TTSPlanRequiredError: VendorCode(403, "INSUFFICIENT_PERMISSIONS"),
        speech.TTSQuotaExceededError: VendorCode(402, "ASR_PAYMENT_REQUIRED"),
        speech.TTSConcurrencyError: VendorCode(429, "TOO_MANY_REQUESTS"),
        speech.TTSTextTooLongError: VendorCode(413, "PAYLOAD_TOO_LARGE"),
        speech.TTSUnsupportedFormatError: VendorCode(400, "UNSUPPORTED_AUDIO_FORMAT"),
        speech.TTSBadRequestError: VendorCode(400, "Bad Request"),
        speech.TTSServerError: VendorCode(500, "INTERNAL_SERVER_ERROR"),
    }

    def speech_routes(self) -> Sequence[SpeechRoute]:
        """Return the speech endpoint."""
        return [SpeechRoute(wire.SPEAK_PATH, ENDPOINT, self._parse)]

    def document_routes(self) -> Sequence[DocumentRoute]:
        """Return the lists of projects and of models, which cost nothing."""
        projects = {"projects": [{"project_id": "8a1b6a3e-0000-4000-8000-000000000000", "name": "simulator"}]}
        return [
            DocumentRoute(wire.PROJECTS_PATH, "projects", lambda _: projects),
            DocumentRoute(wire.MODELS_PATH, "models", self._models),
        ]

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the key of `Authorization: Token`."""
        scheme, _, key = (get_header(headers, "authorization") or "").partition(" ")
        return key.strip() if scheme.lower() == "token" else None

    def headers(self, request_id: str, order: SynthesisOrder | None = None) -> dict[str, str]:
        """Return the headers of a response."""
        spoken = {"dg-model-name": order.voice, "dg-char-count": str(len(order.text))} if order else {}
        return {"dg-request-id": request_id, **spoken}

    def error_document(self, refusal: VendorCode, message: str, request_id: str) -> Any:
        """Return the body of a refusal."""
        return {"err_code": refusal.code or str(refusal.status), "err_msg": message, "request_id": request_id}

    def _models(self, request: web.Request) -> dict[str, Any]:
        voices = (wire.DEFAULT_VOICE, "aura-asteria-en", *self.settings.voices)
        return {
            "stt": [],
            "tts": [{"name": voice, "canonical_name": voice, "architecture": "aura"} for voice in voices],
        }

    def _parse(self, request: web.Request, body: bytes) -> SynthesisOrder:
        text = _text_of(body)
        voice = request.query.get("model", "aura-asteria-en")
        if not (wire.language_of_voice(voice) or voice in self.settings.voices):
            raise RequestRejectedError(Rejection("invalid_parameters", f"No such model/version combination: {voice}"))
        if len(text) > wire.MAX_CHARACTERS:
            message = f"Input text exceeds maximum character limit of {wire.MAX_CHARACTERS}."
            raise RequestRejectedError(Rejection("text_too_long", message))
        format_ = _format_of(request.query)
        speed = _speed_of(request.query.get("speed", "1"))
        return SynthesisOrder(ENDPOINT, text, voice, voice, format_, ResponseShape.STREAM, speed=speed)


def _text_of(body: bytes) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        message = "Content-type was application/json, but we could not process the JSON payload."
        raise RequestRejectedError(Rejection("invalid_parameters", message)) from error
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise RequestRejectedError(Rejection("invalid_parameters", "The field `text` must not be empty."))
    return text


def _format_of(query: Mapping[str, str]) -> AudioFormat:
    """Return the format that query parameters ask for, with the vendor's defaults."""
    encoding = query.get("encoding", "linear16")
    asked = {"encoding": encoding, **_DEFAULTS.get(encoding, {})}
    asked |= {name: query[name] for name in ("container", "sample_rate", "bit_rate") if name in query}
    if encoding == "opus" and "sample_rate" in asked:
        del asked["sample_rate"]
    found = next((format_ for format_, params in wire.FORMATS.items() if params == asked), None)
    if found is None:
        message = f"Unsupported audio format: {', '.join(f'{name}={value}' for name, value in asked.items())}"
        raise RequestRejectedError(Rejection("invalid_output_format", message))
    return found


def _speed_of(value: str) -> float:
    try:
        speed = float(value)
    except ValueError:
        speed = 0.0
    if not wire.MIN_SPEED <= speed <= wire.MAX_SPEED:
        message = f"speed must be from {wire.MIN_SPEED} to {wire.MAX_SPEED}, got {value}"
        raise RequestRejectedError(Rejection("invalid_parameters", message))
    return speed
