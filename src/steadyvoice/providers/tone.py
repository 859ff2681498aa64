"""Tone: the last audible fallback, which needs nothing and cannot fail. It plays tones in place of words."""

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
    """Provider of soft tones in place of words: one burst for each word, with exact timestamps.

    It needs no installation, process or network. Its only voice, "tone", stands in for every other, at its own speed
    whatever the request's is. `steadyvoice.audio.word_tones.words_in` reads the words back.

    - `name`: name of the provider and of its circuit.
    """

    local: ClassVar[bool] = True

    def __init__(self, *, name: str = "tone") -> None:
        self.name = name

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Offer any voice, in raw samples at the requested rate."""
        knows = request.voice in (TONE_VOICE, DEFAULT_VOICE) or request.unknown_voice == "default"
        form = AudioFormat(Codec.PCM, request.format.sample_rate)
        return SynthesisOffer(form, TONE_VOICE, knows_voice=knows, timed=True, scripts=frozenset(), for_any_text=True)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Yield the tones word by word, and let the event loop run in between."""
        yield Accepted()
        for samples, alignment in synthesize_words(
            request.text, sample_rate=offer.format.sample_rate, seed=request.seed or 0
        ):
            yield AudioChunk(samples, alignment)
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Do nothing: no resources are held."""
