"""Who may speak an utterance, in what order, and as what: settled from offers, before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from steadyvoice.providers.provider import Offer, Provider
from steadyvoice.service.handler import Course, TTSErrorHandler
from steadyvoice.speech.errors import (
    TTSConfigurationError,
    TTSError,
    TTSReadTimeoutError,
    TTSRequestError,
    TTSVoiceUnknownError,
)
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest, VoiceSubstitution
from steadyvoice.speech.text import first_piece

_CONTEXT = 500  # characters of what comes before and after, sent along for the prosody


@dataclass(frozen=True, slots=True)
class Speaker:
    """A provider and its guard."""

    provider: Provider
    handler: TTSErrorHandler


@dataclass(slots=True)
class Part:
    """A speaker in one utterance: what it offers, and how it has fared so far."""

    speaker: Speaker
    offer: Offer
    course: Course

    @property
    def name(self) -> str:
        return self.speaker.provider.name

    def learn(self, first_audio: float | None, error: Exception | None = None, *, probed: bool = False) -> None:
        """Remember how soon its first audio came, or that a probe was given up waiting for it."""
        promptness = self.speaker.handler.promptness
        if first_audio is not None:
            promptness.spoke(first_audio)
        elif probed and isinstance(error, TTSReadTimeoutError):
            promptness.missed()


def cast(
    request: SpeechRequest, speakers: Sequence[Speaker], substitution: VoiceSubstitution
) -> tuple[list[Part], list[TTSError]]:
    """Find those who can speak the request, who knows its voice first, and why the others cannot.

    Raises TTSConfigurationError without any provider, TTSVoiceUnknownError when nobody knows the voice, and
    the first provider's own TTSRequestError when none of them can speak it at all.
    """
    if not speakers:
        raise TTSConfigurationError("providers: at least one is needed; Tone() always works")
    parts: list[Part] = []
    refusals: list[TTSError] = []
    for speaker in speakers:
        try:
            offer = speaker.provider.offer(request)
        except TTSRequestError as error:
            refusals.append(error)
        else:
            course = Course(speaker.handler, local=speaker.provider.local)
            parts.append(Part(speaker, offer, course))
    if not parts:
        raise refusals[0]
    if not any(part.offer.knows_voice for part in parts):
        names = ", ".join(part.name for part in parts)
        raise TTSVoiceUnknownError(f"no provider knows the voice {request.voice!r} (asked: {names})")
    parts.sort(key=lambda part: not part.offer.knows_voice)
    if substitution == "never":
        parts = [part for part in parts if _same_voice(part, parts[0])]
    return parts, refusals


def next_piece(part: Part, request: SpeechRequest, begin: int) -> tuple[SpeechRequest, Offer]:
    """Cut what this speaker can say in one request from the text at `begin`, and how it would say it.

    When a container format must be put together from pieces, they are asked for as bare samples.
    """
    rest = request.text[begin:]
    text = first_piece(rest, part.offer.max_characters or len(rest))
    end = begin + len(text)
    if text == request.text:
        return request, part.offer
    wanted = request.format
    piece = replace(
        request,
        text=text,
        format=wanted if wanted.joinable else AudioFormat(Codec.PCM, wanted.sample_rate),
        previous_text=request.text[max(0, begin - _CONTEXT) : begin] or request.previous_text,
        next_text=request.text[end : end + _CONTEXT] or request.next_text,
    )
    return piece, part.speaker.provider.offer(piece)


def _same_voice(one: Part, other: Part) -> bool:
    return type(one.speaker.provider) is type(other.speaker.provider) and one.offer.voice == other.offer.voice
