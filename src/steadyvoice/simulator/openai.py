"""OpenAI's dialect in the simulator: valid requests, rejections, and the form of errors and headers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from steadyvoice.simulator.http.response import (
    Rejection,
    RequestRejectedError,
    SimulatedResponse,
    json_response,
    retry_after_value,
)
from steadyvoice.simulator.script import SimulatorSettings
from steadyvoice.simulator.synthesis import ResponseShape, SynthesisOrder
from steadyvoice.speech.errors import TTSBusyError, TTSConcurrencyError, TTSError
from steadyvoice.wire.elevenlabs import errors as elevenlabs_errors
from steadyvoice.wire.error_response import get_header
from steadyvoice.wire.openai import errors as openai_errors
from steadyvoice.wire.openai import speech as openai_speech
from steadyvoice.wire.openai.errors import CODES
from steadyvoice.wire.request_validation import RequestValidationError

ENDPOINT = "audio/speech"


class SimulatedOpenAI:
    """OpenAI's dialect: parses requests, and formats errors and headers, as the vendor does."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._voices = {*openai_speech.VOICES, *settings.voices}
        self._models = {*openai_speech.MODELS, *settings.models}

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Check the API key. Any key is valid unless the settings name the valid ones. Raises RequestRejectedError."""
        scheme, _, key = (get_header(headers, "authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise RequestRejectedError(Rejection("invalid_api_key", "You didn't provide an API key."))
        if self._settings.keys and key.strip() not in self._settings.keys:
            raise RequestRejectedError(Rejection("invalid_api_key", "Incorrect API key provided."))

    def parse_speech(self, body: bytes) -> SynthesisOrder:
        """Parse a request for speech. Raises RequestRejectedError for what the vendor would refuse."""
        try:
            call = openai_speech.parse_request(body)
        except RequestValidationError as error:
            raise RequestRejectedError(Rejection(status=400, issues=error.issues)) from error
        self.check_model(call.model)
        if call.voice not in self._voices:
            message = f"Unknown voice {call.voice!r}: use one of {', '.join(openai_speech.VOICES)}."
            raise RequestRejectedError(Rejection("invalid_value", message, status=400, param="voice"))
        if len(call.text) > openai_speech.MAX_CHARACTERS:
            message = f"String should have at most {openai_speech.MAX_CHARACTERS} characters, got {len(call.text)}."
            raise RequestRejectedError(Rejection("string_above_max_length", message, param="input"))
        # Documented: https://platform.openai.com/docs/api-reference/audio/createSpeech.
        if call.sse and call.model.startswith("tts-1"):
            raise RequestRejectedError(
                Rejection(
                    "unsupported_value", f"sse is not supported for {call.model}.", status=400, param="stream_format"
                )
            )
        shape = ResponseShape.EVENTS if call.sse else ResponseShape.STREAM
        return SynthesisOrder(ENDPOINT, call.text, call.voice, call.model, call.format, shape, speed=call.speed)

    def check_model(self, model: str) -> None:
        """Check that a model exists. Raises RequestRejectedError."""
        if model not in self._models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise RequestRejectedError(Rejection("model_not_found", message, param="model"))

    def headers(self, request_id: str) -> dict[str, str]:
        """Return the headers of every response."""
        headers = {"x-request-id": request_id, "openai-version": "2020-10-01", "openai-processing-ms": "50"}
        return {**headers, "server": "cloudflare"}

    def error_response(self, rejection: Rejection, request_id: str) -> SimulatedResponse:
        """Return a rejection as an OpenAI error."""
        status, document = _error_document(rejection)
        headers = self.headers(request_id)
        if rejection.retry_after is not None:
            headers["retry-after"] = retry_after_value(rejection.retry_after)
            headers["retry-after-ms"] = str(round(rejection.retry_after * 1000))
        return json_response(document, status=status, headers=headers)

    def not_found(self, method: str, path: str, allowed: Collection[str], request_id: str) -> SimulatedResponse:
        """Return the error for an unknown path, or for a method that is not allowed there."""
        status, code, message = 404, None, f"Invalid URL ({method} {path})"
        headers = self.headers(request_id)
        if allowed:
            status, code = 405, "method_not_supported"
            message = f"Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)"
            headers["allow"] = ", ".join(sorted(allowed))
        body = openai_errors.error_body(message, type="invalid_request_error", code=code)
        return json_response(body, status=status, headers=headers)

    def error_line(self, code: str) -> bytes:
        """Return an error in place of a server-sent event."""
        _, document = _error_document(Rejection(code, status=500))
        return b"data: " + json.dumps({"type": "error", **document}).encode() + b"\n\n"


_STATUS = {
    "invalid_api_key": 401,
    "account_deactivated": 401,
    "insufficient_quota": 429,
    "billing_not_active": 429,
    "billing_hard_limit_reached": 429,
    "rate_limit_exceeded": 429,
    "model_not_found": 404,
    "voice_not_found": 404,
    "server_error": 500,
}

_TYPES = {"insufficient_quota": "insufficient_quota", "rate_limit_exceeded": "requests", "server_error": "server_error"}

# Code that a bare status usually comes with.
_CODE_BY_STATUS = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


def _error_document(rejection: Rejection) -> tuple[int, dict[str, Any]]:
    if rejection.issues:
        return rejection.status or 400, openai_errors.validation_body(rejection.issues)
    code, usual = _openai_code(rejection)
    status = rejection.status or usual
    message = rejection.message or f"The simulator rejects this request: {code or status}."
    type = _TYPES.get(code or "", "invalid_request_error" if status < 500 else "server_error")
    return status, openai_errors.error_body(message, type=type, code=code, param=rejection.param)


def _openai_code(rejection: Rejection) -> tuple[str | None, int]:
    """Return OpenAI's code and its HTTP status.

    The code is OpenAI's own, the one with the meaning of ElevenLabs', ElevenLabs' itself where OpenAI has none, or the
    usual one of the status.
    """
    code, theirs = rejection.code, elevenlabs_errors.CODES
    if code is None:
        status = rejection.status or 500
        return _CODE_BY_STATUS.get(status, "server_error" if status >= 500 else None), status
    if code not in CODES and code in theirs:
        meant = theirs[code].error
        same = next((code for code, error in CODES.items() if error in (meant, _NEAREST_ERROR.get(meant))), None)
        return (same, _STATUS.get(same, 400)) if same else (code, theirs[code].status)
    return code, _STATUS.get(code, 400)


_NEAREST_ERROR: Mapping[type[TTSError], type[TTSError]] = {
    TTSConcurrencyError: TTSBusyError
}  # OpenAI has one code for both
