"""ElevenLabs' dialect in the simulator: valid requests, rejections, and the form of errors and headers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from steadyvoice._option_rules import Number
from steadyvoice.simulator.http.response import (
    Rejection,
    RequestRejectedError,
    SimulatedResponse,
    json_response,
    retry_after_value,
)
from steadyvoice.simulator.script import SimulatorSettings
from steadyvoice.simulator.synthesis import ResponseShape, SynthesisOrder
from steadyvoice.speech.format import AudioFormat
from steadyvoice.wire.elevenlabs import catalog as elevenlabs_catalog
from steadyvoice.wire.elevenlabs import dialogue as elevenlabs_dialogue
from steadyvoice.wire.elevenlabs import errors as elevenlabs_errors
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs import websocket as elevenlabs_websocket
from steadyvoice.wire.elevenlabs.errors import CODES, ErrorBodyVersion
from steadyvoice.wire.elevenlabs.speech import ElevenLabsSpeechRequest, SpeechEndpoint
from steadyvoice.wire.elevenlabs.websocket import ErrorMessage, SocketParameters
from steadyvoice.wire.error_response import get_header
from steadyvoice.wire.openai import errors as openai_errors
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue

RESPONSE_SHAPES: Mapping[SpeechEndpoint, ResponseShape] = {
    SpeechEndpoint.WHOLE: ResponseShape.WHOLE,
    SpeechEndpoint.STREAM: ResponseShape.STREAM,
    SpeechEndpoint.TIMED: ResponseShape.TIMED,
    SpeechEndpoint.TIMED_STREAM: ResponseShape.TIMED_STREAM,
}


class SimulatedElevenLabs:
    """ElevenLabs' dialect: parses requests, and formats errors and headers, as the vendor does."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        stock = (elevenlabs_catalog.VOICES, elevenlabs_catalog.FURTHER_VOICES)
        self._voices = {*(voice for voices in stock for voice in voices.values()), *settings.voices}
        self._models = {*elevenlabs_catalog.MODELS, *settings.models}

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Check the API key. Any key is valid unless the settings name the valid ones. Raises RequestRejectedError."""
        key = get_header(headers, elevenlabs_speech.KEY_HEADER) or _bearer_token(headers)
        if not key:
            message = "Neither authorization header nor xi-api-key received, please provide one."
            raise RequestRejectedError(Rejection("needs_authorization", message))
        if self._settings.keys and key not in self._settings.keys:
            raise RequestRejectedError(Rejection("invalid_api_key", "Invalid API key"))

    def check_socket_key(self, key: str | None) -> None:
        """Check a key from a websocket's query, message or bearer token. Raises RequestRejectedError."""
        self.check_key({elevenlabs_speech.KEY_HEADER: (key or "").removeprefix("Bearer ").strip()})

    def parse_speech(self, form: SpeechEndpoint, voice: str, query: Mapping[str, str], body: bytes) -> SynthesisOrder:
        """Parse a request for speech. Raises RequestRejectedError for what the vendor would refuse."""
        try:
            call = elevenlabs_speech.parse_request(query, body, form)
        except RequestValidationError as error:
            raise RequestRejectedError(Rejection(status=422, issues=error.issues)) from error
        self.check_voice(voice)
        self._check_model(call)
        _validate_audio_effects(call)
        speed = validate_voice_settings(call.settings.get("voice_settings") or {})
        format = AudioFormat.parse(call.output_format)
        seed = call.settings.get("seed") or 0
        return SynthesisOrder(
            endpoint(form), call.text, voice, call.model_id, format, RESPONSE_SHAPES[form], seed, speed
        )

    def parse_dialogue(self, form: SpeechEndpoint, query: Mapping[str, str], body: bytes) -> SynthesisOrder:
        """Parse a request for a dialogue. Raises RequestRejectedError for what the vendor would refuse."""
        try:
            call = elevenlabs_dialogue.parse_dialogue(query, body, form)
        except RequestValidationError as error:
            raise RequestRejectedError(Rejection(status=422, issues=error.issues)) from error
        text, voices = "".join(line.text for line in call.lines), {line.voice_id: None for line in call.lines}
        if len(voices) > elevenlabs_dialogue.MAX_VOICES:
            message = f"A dialogue has at most {elevenlabs_dialogue.MAX_VOICES} voices, got {len(voices)}."
            raise RequestRejectedError(Rejection("invalid_parameters", message, status=400, param="inputs"))
        for voice in voices:
            self.check_voice(voice)
        hints = {name: value for name, value in call.settings.items() if name != "language_code"}
        self._check_model(ElevenLabsSpeechRequest(text, call.model_id, call.output_format, hints))
        if elevenlabs_catalog.get_model_info(call.model_id).takes_context:  # as all have that are not expressive
            message = f"The model {call.model_id} does not support dialogues."
            raise RequestRejectedError(Rejection("unsupported_model", message, status=400, param="model_id"))
        validate_voice_settings(call.settings.get("settings") or {})
        return SynthesisOrder(
            dialogue_endpoint(form),
            text,
            call.lines[0].voice_id,
            call.model_id,
            AudioFormat.parse(call.output_format),
            RESPONSE_SHAPES[form],
            call.settings.get("seed") or 0,
            lines=tuple(call.lines),
        )

    def parse_socket_query(self, voice: str, query: Mapping[str, str]) -> SocketParameters:
        """Parse the query of a websocket. Raises RequestRejectedError for what the vendor would refuse."""
        try:
            call = elevenlabs_websocket.parse_query(query)
        except RequestValidationError as error:
            raise RequestRejectedError(Rejection("invalid_parameters", str(error))) from error
        self.check_voice(voice)
        self._check_known(call.model_id)
        # Documented with the websocket: https://elevenlabs.io/docs/api-reference/text-to-speech.
        if call.model_id == "eleven_v3":
            raise RequestRejectedError(
                Rejection("unsupported_model", f"The model {call.model_id} is not available here.", status=400)
            )
        return call

    def parse_dialogue_socket_query(self, query: Mapping[str, str]) -> SocketParameters:
        """Parse the query of a dialogue's websocket. Raises RequestRejectedError for what the vendor would refuse."""
        try:
            call = elevenlabs_websocket.parse_query(
                {"model_id": elevenlabs_dialogue.DEFAULT_MODEL, **query}, elevenlabs_dialogue.FORMATS
            )
        except RequestValidationError as error:
            raise RequestRejectedError(Rejection("invalid_parameters", str(error))) from error
        self._check_known(call.model_id)
        if elevenlabs_catalog.get_model_info(call.model_id).takes_context:
            message = f"The model {call.model_id} does not support dialogues."
            raise RequestRejectedError(Rejection("unsupported_model", message, status=400, param="model_id"))
        return call

    def headers(self, request_id: str, cost: int, current: int, maximum: int) -> dict[str, str]:
        """Return the headers of a successful response."""
        receipt = elevenlabs_speech.SpeechResponseHeaders(request_id, cost, current, maximum)
        return {**receipt.headers(), "history-item-id": request_id[::-1], **common_headers(request_id)}

    def error_response(self, rejection: Rejection, request_id: str) -> SimulatedResponse:
        """Return a rejection as an ElevenLabs error, in the form that it or the settings ask for."""
        status, document = self._error_document(rejection, request_id)
        headers = common_headers(request_id)
        if rejection.retry_after is not None:
            headers["retry-after"] = retry_after_value(rejection.retry_after)
        return json_response(document, status=status, headers=headers)

    def not_found(self, method: str, path: str, allowed: Collection[str], request_id: str) -> SimulatedResponse:
        """Return FastAPI's error for an unknown path, or for a method that is not allowed there."""
        if allowed:
            headers = {**common_headers(request_id), "allow": ", ".join(sorted(allowed))}
            return json_response({"detail": "Method Not Allowed"}, status=405, headers=headers)
        return json_response({"detail": "Not Found"}, status=404, headers=common_headers(request_id))

    def socket_error(self, rejection: Rejection) -> ErrorMessage:
        """Return a rejection as the message of a websocket."""
        code = _elevenlabs_code(rejection)
        return ErrorMessage(code, rejection.message or f"The simulator rejects this request: {code}.")

    def error_line(self, code: str) -> bytes:
        """Return an error in place of a line of JSON."""
        _, document = self._error_document(Rejection(code, status=None if code in CODES else 500), "")
        return json.dumps(document).encode() + b"\n"

    def check_voice(self, voice: str) -> None:
        """Check a voice id. Raises RequestRejectedError."""
        if voice not in self._voices:
            raise RequestRejectedError(unknown_voice(voice))

    def _check_known(self, model: str) -> None:
        if model not in self._models:
            raise RequestRejectedError(
                Rejection("model_not_found", f"A model with model ID {model} does not exist", param="model_id")
            )

    def _check_model(self, call: ElevenLabsSpeechRequest) -> None:
        model = call.model_id
        self._check_known(model)
        facts = elevenlabs_catalog.get_model_info(model)
        if len(call.text) > facts.max_characters:
            message = f"The model {model} takes at most {facts.max_characters} characters, got {len(call.text)}."
            raise RequestRejectedError(Rejection("max_character_limit_exceeded", message, param="text"))
        hints = [] if facts.takes_context else _CONTEXT_FIELDS
        for hint in (*hints, *([] if facts.takes_language else ["language_code"])):
            if model not in self._settings.models and call.settings.get(hint) not in (None, []):
                message = f"The model {model} does not support {hint}."
                raise RequestRejectedError(Rejection("invalid_parameters", message, param=hint))

    def _error_document(self, rejection: Rejection, request_id: str) -> tuple[int, Any]:
        if rejection.issues:
            return rejection.status or 422, elevenlabs_errors.validation_body(rejection.issues)
        code = _elevenlabs_code(rejection)
        status = rejection.status or CODES[code].status
        message = rejection.message or f"The simulator rejects this request: {code}."
        match rejection.form or self._settings.errors:
            case "list":
                return status, elevenlabs_errors.validation_body([ValidationIssue("value_error", ("body",), message)])
            case "text":
                return status, {"detail": message}
            case "legacy":
                return status, elevenlabs_errors.error_body(
                    _LEGACY_CODES.get(code, code), message, generation=ErrorBodyVersion.LEGACY
                )
            case _:
                body = elevenlabs_errors.error_body(
                    code, message, request_id=request_id, param=rejection.param, status=status
                )
                return status, body


def endpoint(form: SpeechEndpoint) -> str:
    """Return the name of a speech endpoint in faults and the ledger."""
    return f"text-to-speech{form.value}"


def dialogue_endpoint(form: SpeechEndpoint) -> str:
    """Return the name of a dialogue endpoint in faults and the ledger."""
    return f"text-to-dialogue{form.value}"


def _bearer_token(headers: Mapping[str, str]) -> str:
    """Return the key from an Authorization header, which ElevenLabs accepts as well."""
    scheme, _, key = (get_header(headers, "authorization") or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


# Fields that only models with context accept; `takes_context` in the catalog says which do.
_CONTEXT_FIELDS = ("previous_text", "next_text", "previous_request_ids", "next_request_ids")


def _validate_audio_effects(call: ElevenLabsSpeechRequest) -> None:
    effects = call.settings.get("audio_effects") or {}
    if unknown := elevenlabs_speech.find_unknown_effect(effects):
        field, id = unknown
        message = f"There is no audio effect {id!r}: {field} has {', '.join(elevenlabs_speech.EFFECTS[field])} here."
        raise RequestRejectedError(
            Rejection("audio_effect_not_found", message, status=404, param=f"audio_effects.{field}")
        )
    if elevenlabs_speech.needs_stereo(effects, call.output_format):
        message = f"These audio effects are stereo, and {call.output_format} is not."
        raise RequestRejectedError(Rejection("invalid_parameters", message, param="audio_effects"))


def unknown_voice(voice: str) -> Rejection:
    """Return the rejection of a voice that the account does not have."""
    return Rejection("voice_not_found", f"A voice with voice_id {voice} was not found.", param="voice_id")


# The older generation of errors has other codes for these two.
_LEGACY_CODES = {"concurrent_limit_exceeded": "too_many_concurrent_requests", "rate_limit_exceeded": "system_busy"}

# Code that a bare status usually comes with.
_CODE_BY_STATUS = {
    400: "invalid_parameters",
    401: "invalid_api_key",
    402: "payment_required",
    403: "only_for_creator+",
    404: "voice_not_found",
    408: "request_timeout",
    409: "conflict",
    413: "text_too_long",
    422: "invalid_parameters",
    425: "too_early",
    429: "rate_limit_exceeded",
}


def _elevenlabs_code(rejection: Rejection) -> str:
    """Return ElevenLabs' code: its own, the one with the meaning of OpenAI's, or the usual one of the status."""
    if rejection.code is None:
        status = rejection.status or 500
        return _CODE_BY_STATUS.get(status, "internal_server_error" if status >= 500 else "invalid_parameters")
    if rejection.code in CODES or rejection.code not in openai_errors.CODES:
        return rejection.code
    meant = openai_errors.CODES[rejection.code]
    return next(code for code, known in CODES.items() if known.error is meant)


def validate_voice_settings(settings: Mapping[str, Any]) -> float:
    """Check the ranges of voice settings, and return the speed. Raises RequestRejectedError.

    Ranges: https://elevenlabs.io/docs/api-reference/text-to-speech/convert
    """
    ranges = dict.fromkeys(("stability", "similarity_boost", "style", "clone_strength"), (0.0, 1.0))
    ranges["speed"] = (elevenlabs_speech.MIN_SPEED, elevenlabs_speech.MAX_SPEED)
    for name, (lowest, highest) in ranges.items():
        value = settings.get(name)
        if value is not None and not Number(minimum=lowest, maximum=highest).accepts(value):
            expected = f"greater or equal to {lowest} and less or equal to {highest}"
            message = f"Invalid setting for {name}, expected to be {expected}, received {value}"
            raise RequestRejectedError(Rejection("invalid_voice_settings", message, param=name))
    speed = settings.get("speed")
    return 1.0 if speed is None else float(speed)


def common_headers(request_id: str) -> dict[str, str]:
    """Return the headers that ElevenLabs sends with all responses, errors included."""
    return {
        "server": "uvicorn",
        "request-id": request_id,
        "x-trace-id": request_id[:16],
        "x-region": "simulator",
        "via": "1.1 google",
        "access-control-allow-origin": "*",
    }
