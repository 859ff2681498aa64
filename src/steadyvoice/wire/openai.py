"""OpenAI's `POST /v1/audio/speech` and `GET /v1/models`, for whoever asks and whoever answers.

https://platform.openai.com/docs/api-reference/audio/createSpeech. Many servers speak this without being OpenAI.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import DEFAULT_VOICE, SpeechRequest
from steadyvoice.speech.voice import sound_id
from steadyvoice.wire.fields import ELEVENLABS_BODY, ELEVENLABS_QUERY, own_options
from steadyvoice.wire.issues import Issue, UnreadableRequestError, issues_of_text, read_document, string_expected

DIALECT = "openai"
BASE_URL = "https://api.openai.com"
SPEECH_PATH = "/v1/audio/speech"
ENDPOINTS = r"/v1(/audio(/speech)?|/models)?|/audio/speech"
"""Ends of an address that is given as the base of all (a regular expression): by convention it has the /v1."""
MODELS_PATH = "/v1/models"
AUDIO_VOICES_PATH = "/v1/audio/voices"
AUDIO_MODELS_PATH = "/v1/audio/models"

MAX_CHARACTERS = 4096
SLOWEST, FASTEST = 0.25, 4.0

UNHURRIED_MODELS = ("gpt-4o-mini-tts",)
"""Models, by how their names begin, that "speed" does not work with:
https://github.com/openai/openai-python/blob/main/src/openai/types/audio/speech_create_params.py
"""

MODELS = ("gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15", "tts-1", "tts-1-hd")
VOICES = (
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "onyx"),
    *("nova", "sage", "shimmer", "verse", "marin", "cedar"),
)

# What a server sends for each name. Of the compressed ones the documents only name the codec, so the rates
# are the usual ones; pcm is 24 kHz signed 16-bit little-endian mono by OpenAI's text-to-speech guide.
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
class SpeechCall:
    """One synthesis request as it goes over the wire; `settings` are further fields of the body."""

    text: str
    model: str
    voice: str
    response_format: str = DEFAULT_RESPONSE_FORMAT
    speed: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The JSON body. The usual pace is left out: some compatible servers know no `speed`."""
        pace = {} if self.speed == 1.0 else {"speed": self.speed}
        decided = {"input": self.text, "model": self.model, "voice": self.voice}
        return {**pace, **self.settings, **decided, "response_format": self.response_format}

    @property
    def sse(self) -> bool:
        """Whether the client wants the audio in server-sent events."""
        return self.settings.get("stream_format") == "sse"

    @property
    def format(self) -> AudioFormat:
        """The audio format this asks for."""
        return RESPONSE_FORMATS[self.response_format]


def call_for(request: SpeechRequest, *, model: str, voice: str, response_format: str) -> SpeechCall:
    """Put a request in OpenAI's words. It has none for language, seed or context; `request.options` are added."""
    settings = own_options(request, DIALECT, ELEVENLABS_BODY | ELEVENLABS_QUERY | {"stream_format"})
    return SpeechCall(request.text, model, voice, response_format, request.speed, settings)


def read_call(body: bytes) -> SpeechCall:
    """Read a client's request. Raises UnreadableRequestError, which a server answers with a 400."""
    return call_of(read_document(body))


def call_of(document: dict[str, Any]) -> SpeechCall:
    """Do the same with a body that is a document already, of which nobody else has a need any more."""
    issues = issues_of_text("input", document)
    text, model = document.pop("input", None), document.pop("model", None)
    voice = _voice_in(document.pop("voice", None))
    chosen = document.pop("response_format", None)
    response_format = DEFAULT_RESPONSE_FORMAT if chosen is None else chosen
    speed = document.pop("speed", None)
    issues += [*_issues_of_choices(response_format, document), *_issues_of_speed(speed)]
    issues += [
        string_expected(name, value) for name, value in (("model", model), ("voice", voice)) if not _named(value)
    ]
    if issues:
        raise UnreadableRequestError(issues)
    return SpeechCall(text, model, voice or "", response_format, 1.0 if speed is None else float(speed), document)


def request_from(call: SpeechCall) -> SpeechRequest:
    """Turn a client's request into ours. Raises TTSBadRequestError when a value is impossible.

    Servers like OpenAI's call voices what they want, paths of files among it; what no server could is only looked up in
    the names that are known here.
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
        unknown_voice="passthrough" if sound_id(voice) else "refuse",
        dialect=DIALECT,
    )


def models_body(models: Iterable[str] = MODELS, *, owner: str = "openai") -> dict[str, Any]:
    """Answer `GET /v1/models`."""
    return {"object": "list", "data": [model_body(model, owner=owner) for model in models]}


def model_body(model: str, *, owner: str = "openai") -> dict[str, Any]:
    """Answer `GET /v1/models/{model}`."""
    return {"id": model, "object": "model", "created": 0, "owned_by": owner}


def audio_voices_body(voices: Iterable[str]) -> dict[str, Any]:
    """Answer `GET /v1/audio/voices`: not OpenAI's, but what servers like it have and Open WebUI asks for."""
    return {"voices": [{"id": voice, "name": voice} for voice in voices]}


def read_audio_voices(document: Any) -> list[str]:
    """Read what a server like OpenAI's answers to the same: names, or objects with an id; others are left out."""
    listed = document.get("voices") if isinstance(document, dict) else document
    found: list[str] = []
    for each in listed if isinstance(listed, list) else []:
        named = each.get("id") or each.get("voice_id") or each.get("name") if isinstance(each, dict) else each
        if isinstance(named, str) and sound_id(named):
            found.append(named)
    return list(dict.fromkeys(found[:_MOST_VOICES]))


_MOST_VOICES = 1_000  # of one server that are listed


def audio_models_body(models: Iterable[str]) -> dict[str, Any]:
    """Answer `GET /v1/audio/models`, of the same origin."""
    return {"models": [{"id": model} for model in models]}


def _voice_in(told: Any) -> str | None:
    """A voice is a name, or an object with the id of a custom one."""
    voice = told.get("id") if isinstance(told, dict) else told
    return voice if isinstance(voice, str) else None


def _named(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _issues_of_choices(response_format: Any, document: Mapping[str, Any]) -> list[Issue]:
    chosen = {
        "response_format": (response_format, tuple(RESPONSE_FORMATS)),
        "stream_format": (document.get("stream_format") or "audio", ("audio", "sse")),
    }
    return [
        Issue("enum", ("body", name), f"Input should be one of {', '.join(choices)}", value)
        for name, (value, choices) in chosen.items()
        if value not in choices
    ]


def _issues_of_speed(speed: Any) -> list[Issue]:
    if speed is None:
        return []
    if isinstance(speed, bool) or not isinstance(speed, int | float):
        return [Issue("float_type", ("body", "speed"), "Input should be a valid number", speed)]
    if not SLOWEST <= speed <= FASTEST:
        return [Issue("out_of_range", ("body", "speed"), f"Input should be from {SLOWEST} to {FASTEST}", speed)]
    return []
