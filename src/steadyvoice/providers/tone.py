"""Tone: the last audible rung. Not words, but a sign that somebody is speaking, and it cannot fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import ClassVar

from steadyvoice.audio.word_tones import synthesize_words
from steadyvoice.providers.base import Accepted, AudioChunk, SynthesisOffer
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import DEFAULT_VOICE, SpeechRequest

TONE_VOICE = "tone"


class Tone:
    """Soft tones instead of words, one burst a word, exactly timed.

    Always there: nothing to install, no process, no network. It has one voice, "tone", and stands in for
    every other. It keeps its own pace, whatever the request's speed. `steadyvoice.audio.word_tones.words_in` reads
    the words back.
    """

    local: ClassVar[bool] = True

    def __init__(self, *, name: str = "tone") -> None:
        self.name = name

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Take any voice, in bare samples at the asked rate."""
        knows = request.voice in (TONE_VOICE, DEFAULT_VOICE) or request.unknown_voice == "default"
        form = AudioFormat(Codec.PCM, request.format.sample_rate)
        return SynthesisOffer(form, TONE_VOICE, knows_voice=knows, timed=True, scripts=frozenset(), for_any_text=True)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Speak word by word, and give way to others between two."""
        yield Accepted()
        for samples, alignment in synthesize_words(
            request.text, sample_rate=offer.format.sample_rate, seed=request.seed or 0
        ):
            yield AudioChunk(samples, alignment)
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """There is nothing to let go of."""
