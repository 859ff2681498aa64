"""OpenAI text-to-speech over HTTP: `POST /v1/audio/speech` with server-sent events, and `GET /v1/models`.

https://platform.openai.com/docs/api-reference/audio/createSpeech. Many servers implement this API without being OpenAI.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steadyvoice._option_rules import is_number
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import DEFAULT_VOICE, SpeechRequest
from steadyvoice.speech.voice import is_valid_voice_id
from steadyvoice.wire.request_validation import (
    ELEVENLABS_BODY,
    ELEVENLABS_QUERY,
    RequestValidationError,
    ValidationIssue,
    parse_document,
    string_expected_issue,
    validate_text,
    vendor_options,
)

DIALECT = "openai"
BASE_URL = "https://api.openai.com"
SPEECH_PATH = "/v1/audio/speech"
ENDPOINTS = r"/v1(/audio(/speech)?|/models)?|/audio/speech"
"""Regular expression of paths that are removed from a base URL, which by convention ends with /v1."""
MODELS_PATH = "/v1/models"
AUDIO_VOICES_PATH = "/v1/audio/voices"
AUDIO_MODELS_PATH = "/v1/audio/models"

MAX_CHARACTERS = 4096
MIN_SPEED, MAX_SPEED = 0.25, 4.0

MODELS_WITHOUT_SPEED = ("gpt-4o-mini-tts",)
"""Prefixes of models for which `speed` has no effect.

https://github.com/openai/openai-python/blob/main/src/openai/types/audio/speech_create_params.py
"""

MODELS = ("gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15", "tts-1", "tts-1-hd")
VOICES = (
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "onyx"),
    *("nova", "sage", "shimmer", "verse", "marin", "cedar"),
)

# Format of the audio for each name. For compressed formats the documentation only names the codec, so the rates are the
# usual ones; pcm is 24 kHz signed 16-bit little-endian mono by OpenAI's text-to-speech guide.
RESPONSE_FORMATS: Mapping[str, AudioFormat] = {
    name: AudioFormat.parse(full)
    for name, full in {
        "mp3": "mp3_44100_128",
        "opus": "opus_48000_64",
        "aac": "aac_44100_128",
        "flac": "flac_24000",
        "wav": "wav_24000",
        "pcm": "pcm_24000",
    }.items()
}
DEFAULT_RESPONSE_FORMAT = "mp3"


@dataclass(frozen=True, slots=True)
class OpenAISpeechRequest:
    """Synthesis request as it is sent; `settings` are further fields of the body."""

    text: str
    model: str
    voice: str
    response_format: str = DEFAULT_RESPONSE_FORMAT
    speed: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Return the JSON body. The usual speed is left out, because some compatible servers know no `speed`."""
        speed = {} if self.speed == 1.0 else {"speed": self.speed}
        required = {"input": self.text, "model": self.model, "voice": self.voice}
        return {**speed, **self.settings, **required, "response_format": self.response_format}

    @property
    def sse(self) -> bool:
        """True if the client wants the audio in server-sent events."""
        return self.settings.get("stream_format") == "sse"

    @property
    def format(self) -> AudioFormat:
        """Audio format that is asked for."""
        return RESPONSE_FORMATS[self.response_format]


def encode_request(request: SpeechRequest, *, model: str, voice: str, response_format: str) -> OpenAISpeechRequest:
    """Convert a request into OpenAI's form, which lacks language, seed and context; `request.options` are added."""
    settings = vendor_options(request, DIALECT, ELEVENLABS_BODY | ELEVENLABS_QUERY | {"stream_format"})
    return OpenAISpeechRequest(request.text, model, voice, response_format, request.speed, settings)


def parse_request(body: bytes) -> OpenAISpeechRequest:
    """Parse a client's request. Raises RequestValidationError, which a server answers with a 400."""
    return parse_request_document(parse_document(body))


def parse_request_document(document: dict[str, Any]) -> OpenAISpeechRequest:
    """Parse a client's request whose body is a document already; the document becomes part of the result.

    Raises RequestValidationError.
    """
    issues = validate_text("input", document)
    text, model = document.pop("input", None), document.pop("model", None)
    voice = _parse_voice(document.pop("voice", None))
    chosen = document.pop("response_format", None)
    response_format = DEFAULT_RESPONSE_FORMAT if chosen is None else chosen
    speed = document.pop("speed", None)
    issues += [*_choice_issues(response_format, document), *_speed_issues(speed)]
    issues += [
        string_expected_issue(name, value)
        for name, value in (("model", model), ("voice", voice))
        if not _is_name(value)
    ]
    if issues:
        raise RequestValidationError(issues)
    return OpenAISpeechRequest(
        text, model, voice or "", response_format, 1.0 if speed is None else float(speed), document
    )


def decode_request(call: OpenAISpeechRequest) -> SpeechRequest:
    """Convert a client's request into a SpeechRequest. Raises TTSBadRequestError for an impossible value.

    Compatible servers have voices of any name, file paths included. A name that no server could have is only looked up
    among the configured ones.
    """
    options = {name: value for name, value in call.settings.items() if name != "stream_format" and value is not None}
    voice = call.voice or DEFAULT_VOICE
    return SpeechRequest(
        call.text,
        call.format,
        voice=voice,
        model=call.model,
        speed=call.speed,
        options=options,
        unknown_voice="passthrough" if is_valid_voice_id(voice) else "refuse",
        dialect=DIALECT,
    )


def models_body(models: Iterable[str] = MODELS, *, owner: str = "openai") -> dict[str, Any]:
    """Return the body of `GET /v1/models`."""
    return {"object": "list", "data": [model_body(model, owner=owner) for model in models]}


def model_body(model: str, *, owner: str = "openai") -> dict[str, Any]:
    """Return the body of `GET /v1/models/{model}`."""
    return {"id": model, "object": "model", "created": 0, "owned_by": owner}


def audio_voices_body(voices: Iterable[str]) -> dict[str, Any]:
    """Return the body of `GET /v1/audio/voices`: compatible servers have it, and Open WebUI asks for it."""
    return {"voices": [{"id": voice, "name": voice} for voice in voices]}


def parse_audio_voices(document: Any) -> list[str]:
    """Parse a compatible server's `GET /v1/audio/voices`: names, or objects with an id; anything else is left out."""
    entries = document.get("voices") if isinstance(document, dict) else document
    found: list[str] = []
    for each in entries if isinstance(entries, list) else []:
        named = each.get("id") or each.get("voice_id") or each.get("name") if isinstance(each, dict) else each
        if isinstance(named, str) and is_valid_voice_id(named):
            found.append(named)
    return list(dict.fromkeys(found[:_MAX_LISTED_VOICES]))


_MAX_LISTED_VOICES = 1_000  # of one server that are listed


def audio_models_body(models: Iterable[str]) -> dict[str, Any]:
    """Return the body of `GET /v1/audio/models`, which compatible servers have too."""
    return {"models": [{"id": model} for model in models]}


def _parse_voice(value: Any) -> str | None:
    """Return the name of a voice: a string, or an object with the id of a custom voice."""
    voice = value.get("id") if isinstance(value, dict) else value
    return voice if isinstance(voice, str) else None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _choice_issues(response_format: Any, document: Mapping[str, Any]) -> list[ValidationIssue]:
    chosen = {
        "response_format": (response_format, tuple(RESPONSE_FORMATS)),
        "stream_format": (document.get("stream_format") or "audio", ("audio", "sse")),
    }
    return [
        ValidationIssue("enum", ("body", name), f"Input should be one of {', '.join(choices)}", value)
        for name, (value, choices) in chosen.items()
        if value not in choices
    ]


def _speed_issues(speed: Any) -> list[ValidationIssue]:
    if speed is None:
        return []
    if not is_number(speed):
        return [ValidationIssue("float_type", ("body", "speed"), "Input should be a valid number", speed)]
    if not MIN_SPEED <= speed <= MAX_SPEED:
        return [
            ValidationIssue(
                "out_of_range", ("body", "speed"), f"Input should be from {MIN_SPEED} to {MAX_SPEED}", speed
            )
        ]
    return []


@dataclass(frozen=True, slots=True)
class AudioDelta:
    """Event with audio (`speech.audio.delta`)."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class AudioDone:
    """Final event with the price in tokens (`speech.audio.done`). A stream without it was cut."""

    input_tokens: int = 0
    output_tokens: int = 0


def encode_event(event: AudioDelta | AudioDone) -> bytes:
    """Encode an event as a server-sent event."""
    match event:
        case AudioDelta(audio):
            document: dict[str, Any] = {"type": "speech.audio.delta", "audio": base64.b64encode(audio).decode("ascii")}
        case AudioDone(read, written):
            usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
            document = {"type": "speech.audio.done", "usage": usage}
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"
