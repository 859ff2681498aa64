"""A provider's voices: the map as it is written down, and which of them speaks a request, how fast and how loud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from steadyvoice.audio.crossfade import MAX_GAIN
from steadyvoice.speech.errors import TTSBadRequestError, TTSConfigurationError
from steadyvoice.speech.request import DEFAULT_VOICE, MAX_SPEED, MIN_SPEED, SpeechRequest
from steadyvoice.speech.voice import Voice, is_language_tag, is_valid_voice_id, most_similar_voice

VoiceMap = Mapping[str, str | Voice | Mapping[str, Any]]
"""The callers' names for voices, with a provider's own ids, or with what is declared of them, too."""


@dataclass(frozen=True, slots=True)
class VoiceChoice:
    """Who speaks; whether it is the voice asked for; and how it is matched to that if it is not.

    `speed` is None where there is nothing to match, `gain` a factor.
    """

    voice: Voice
    known: bool
    speed: float | None = None
    gain: float = 1.0


def validate_voices(voices: VoiceMap | None, default: str, *, provider: str) -> dict[str, Voice]:
    """The voices by the caller's names, with a `default` as the first of them. Raises TTSConfigurationError."""
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
    """Choose who speaks. `speeds` are the slowest and the fastest that it can be asked for, if it can be asked.

    A voice that is passed on in the vendor's own dialect is none that anybody here has a name for: as long as another
    provider has, it is not the first choice. Raises TTSBadRequestError when it cannot be a voice at all.
    """
    voice, known = _select_voice(request, voices, dialect, provider)
    return VoiceChoice(voice, known, matched_speed(voice, request, speeds), matched_gain(voice, request))


def requested_voice(request: SpeechRequest) -> Voice:
    """What is known of the voice asked for. A language asked for counts for more than its own: it may speak several."""
    like = request.like or Voice(request.voice if is_valid_voice_id(request.voice) else DEFAULT_VOICE)
    return replace(like, language=request.language) if is_language_tag(request.language) else like


def matched_speed(voice: Voice, request: SpeechRequest, speeds: tuple[float, float] | None) -> float | None:
    """The speed that gives a voice as many words a minute as the one asked for; None if there is nothing to match."""
    like = request.like
    if not (speeds and like and like.rate and voice.rate) or like.rate == voice.rate:
        return None
    slowest, fastest = max(speeds[0], MIN_SPEED), min(speeds[1], MAX_SPEED)
    return min(max(request.speed * like.rate / voice.rate, slowest), fastest)


def matched_gain(voice: Voice, request: SpeechRequest) -> float:
    """The factor that makes a voice as loud as the one asked for, 6 dB at most; 1 if nobody knows how loud they are."""
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
            raise TTSConfigurationError(f"{path}.{key}: unknown key; there is {', '.join(known)}")
    if "id" not in voice:
        raise TTSConfigurationError(f"{path}.id: missing: the provider's own name for the voice")
    try:
        return Voice(**voice)
    except TTSConfigurationError as error:
        raise TTSConfigurationError(f"{path}.{error.message}") from None
