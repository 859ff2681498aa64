"""Provider with declared voices, which speaks in tones as fast and as softly as each is declared."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from steadyvoice import Accepted, AudioChunk, SpeechRequest, SynthesisOffer
from steadyvoice.providers.voices import VoiceMap, choose_voice, validate_voices

from ..word_tone_provider import WordToneProvider

USUAL = -18.0
"""LUFS of a voice without a declared loudness."""


@dataclass
class VoicedProvider(WordToneProvider):
    """Vendor of declared voices."""

    voices: VoiceMap = field(default_factory=dict)
    speeds: tuple[float, float] | None = (0.5, 2.0)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        voices = validate_voices(self.voices, f"{self.name}-default", provider=self.name)
        choice = choose_voice(request, voices, "tonal", provider=self.name, speeds=self.speeds)
        return replace(
            super().offer(request),
            voice=choice.voice.id,
            knows_voice=choice.known,
            declared=choice.voice,
            speed=choice.speed,
            gain=choice.gain,
        )

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        loudness = offer.declared.loudness if offer.declared else None
        self.level = 10 ** (((USUAL if loudness is None else loudness) - USUAL) / 20)
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            yield event


class OtherVendor(VoicedProvider):
    """Another vendor, whose voices differ even under the same names."""
