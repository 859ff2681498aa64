"""The simulator's voices: eSpeak NG's, so that one hears words, or tones, so that a program does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from zlib import crc32

from steadyvoice.providers.espeak import Espeak, installed
from steadyvoice.providers.provider import Accepted, Audio, Offer, Provider
from steadyvoice.providers.tone import Tone
from steadyvoice.simulator.settings import VoiceEngine
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire.elevenlabs import catalog as elevenlabs_catalog
from steadyvoice.wire.openai import speech as openai_speech

_TIMBRES = ("", "+f1", "+f2", "+f3", "+f4", "+m1", "+m2", "+m3", "+m4", "+m7")  # espeak's own variants


def engine_for(voice: VoiceEngine) -> Provider:
    """Find the voice that a setting asks for. Raises TTSConfigurationError for "speech" without eSpeak NG."""
    if voice == "tones" or (voice == "auto" and not installed()):
        return Tone()
    ids = (*elevenlabs_catalog.VOICES.values(), *elevenlabs_catalog.FURTHER_VOICES.values(), *openai_speech.VOICES)
    return _FreshEspeak({id: f"en-us{_TIMBRES[number_of(id) % len(_TIMBRES)]}" for id in ids})


def number_of(text: str) -> int:
    """A number that is always the same for a text, from 0 to 2**32 - 1."""
    return crc32(text.encode("utf-8", "surrogatepass"))


class _FreshEspeak:
    """Espeak in a new child for each text: one that has spoken before says the same a little differently."""

    name = "simulator"
    local = True

    def __init__(self, voices: Mapping[str, str]) -> None:
        self._voices = voices
        self._model = self._new()

    def offer(self, request: SpeechRequest) -> Offer:
        return self._model.offer(request)

    async def speak(
        self, request: SpeechRequest, offer: Offer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | Audio, None]:
        espeak = self._new()
        try:
            async with aclosing(espeak.speak(request, offer, connection_timeout=connection_timeout)) as events:
                async for event in events:
                    yield event
        finally:
            await espeak.aclose()

    async def aclose(self) -> None:
        await self._model.aclose()

    def _new(self) -> Espeak:
        return Espeak(name=self.name, voices=self._voices)
