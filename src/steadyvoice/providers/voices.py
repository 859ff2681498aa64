"""Voices of a provider: validation of its voice map, and selection of the voice, speed and gain for a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from steadyvoice.audio.crossfade import MAX_GAIN
from steadyvoice.speech.errors import TTSBadRequestError, TTSConfigurationError
from steadyvoice.speech.request import DEFAULT_VOICE, MAX_SPEED, MIN_SPEED, SpeechRequest
from steadyvoice.speech.voice import Voice, is_language_tag, is_valid_voice_id, most_similar_voice

VoiceMap = Mapping[str, str | Voice | Mapping[str, Any]]
"""The callers' names for voices, each with the provider's id, or with a table of declared properties."""


@dataclass(frozen=True, slots=True)
class VoiceChoice:
    """Voice that speaks a request.

    `known` tells whether it is the requested voice; if not, `speed` and `gain`, a factor, match it to that one. `speed`
    is None where there is nothing to match.
    """

    voice: Voice
    known: bool
    speed: float | None = None
    gain: float = 1.0


def validate_voices(voices: VoiceMap | None, default: str, *, provider: str) -> dict[str, Voice]:
    """Return the voices by the callers' names, with "default" as the first. Raises TTSConfigurationError."""
    if voices is not None and not isinstance(voices, Mapping):
        raise TTSConfigurationError(f"{provider}.voices: must be a table of names and voices, got {voices!r}")
    named = {DEFAULT_VOICE: default, **(voices or {})}
    return {name: _parse_voice(voice, f"{provider}.voices.{name}") for name, voice in named.items()}


def choose_voice(
    request: SpeechRequest,
    voices: Mapping[str, Voice],
    dialect: str,
    *,
    provider: str,
    speeds: tuple[float, float] | None = None,
) -> VoiceChoice:
    """Return the voice for a request.

    `dialect` is that of the provider's API. `speeds` are the slowest and the fastest that can be requested; None if the
    provider takes no speed. A voice id that passes through in a request of the provider's own dialect is not `known`: a
    provider that has a name for it is preferred. Raises TTSBadRequestError for a name that cannot be a voice id.
    """
    voice, known = _select_voice(request, voices, dialect, provider)
    return VoiceChoice(voice, known, matched_speed(voice, request, speeds), matched_gain(voice, request))


def requested_voice(request: SpeechRequest) -> Voice:
    """Return the known properties of the requested voice. The request's language wins over the voice's own."""
    like = request.like or Voice(request.voice if is_valid_voice_id(request.voice) else DEFAULT_VOICE)
    return replace(like, language=request.language) if is_language_tag(request.language) else like


def matched_speed(voice: Voice, request: SpeechRequest, speeds: tuple[float, float] | None) -> float | None:
    """Return the speed that gives a voice the requested one's words a minute; None if unknown or equal."""
    like = request.like
    if not (speeds and like and like.rate and voice.rate) or like.rate == voice.rate:
        return None
    slowest, fastest = max(speeds[0], MIN_SPEED), min(speeds[1], MAX_SPEED)
    return min(max(request.speed * like.rate / voice.rate, slowest), fastest)


def matched_gain(voice: Voice, request: SpeechRequest) -> float:
    """Return the factor that makes a voice as loud as the requested one, 6 dB at most; 1.0 if a loudness is unknown."""
    like = request.like
    if like is None or like.loudness is None or voice.loudness is None:
        return 1.0
    return float(min(max(10 ** ((like.loudness - voice.loudness) / 20), 1 / MAX_GAIN), MAX_GAIN))


def _select_voice(
    request: SpeechRequest, voices: Mapping[str, Voice], dialect: str, provider: str
) -> tuple[Voice, bool]:
    if request.voice in voices:
        return voices[request.voice], True
    if request.unknown_voice == "passthrough" and request.dialect in (None, dialect):
        return _passthrough_voice(request.voice, voices, provider), request.dialect is None
    if request.unknown_voice == "default":
        return voices[DEFAULT_VOICE], True
    if request.dialect == dialect and (own := _voice_by_id(request.voice, voices)):
        return own, True
    return most_similar_voice(requested_voice(request), voices.values()), False


def _passthrough_voice(voice: str, voices: Mapping[str, Voice], provider: str) -> Voice:
    if not is_valid_voice_id(voice):
        raise TTSBadRequestError(f"voice: not a voice id: {voice[:100]!r}", provider=provider)
    return _voice_by_id(voice, voices) or Voice(voice)


def _voice_by_id(id: str, voices: Mapping[str, Voice]) -> Voice | None:
    return next((known for known in voices.values() if known.id == id), None)


def _parse_voice(voice: object, path: str) -> Voice:
    if isinstance(voice, Voice):
        return voice
    if not isinstance(voice, Mapping):
        if not is_valid_voice_id(voice):
            raise TTSConfigurationError(f"{path}: not a voice id: {voice!r}")
        return Voice(str(voice))
    known = [field.name for field in fields(Voice)]
    for key in voice:
        if key not in known:
            raise TTSConfigurationError(f"{path}.{key}: unknown key; known keys are {', '.join(known)}")
    if "id" not in voice:
        raise TTSConfigurationError(f"{path}.id: missing: the provider's own id of the voice")
    try:
        return Voice(**voice)
    except TTSConfigurationError as error:
        raise TTSConfigurationError(f"{path}.{error.message}") from None
