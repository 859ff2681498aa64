"""Resume between every two voices that send the times of words: none is lost, none is repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from itertools import pairwise, permutations

import pytest

from steadyvoice import (
    Accepted,
    AsyncTTSService,
    AudioChunk,
    ElevenLabs,
    Espeak,
    Neural,
    Provider,
    SpeechRequest,
    SynthesisOffer,
    TimeoutConfig,
    Tone,
)
from steadyvoice.providers import espeak, neural
from steadyvoice.simulator import Simulator
from steadyvoice.speech.errors import TTSCutError
from tests.required_tools import require_tool

require_tool(neural.is_installed() and espeak.is_installed(), "hibari-tts and espeakng-loader")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TEXT = (
    "The train to the airport leaves from platform four in twenty minutes. Please bring your passport, two photographs "
    "and something to read, because the journey takes a while."
)
PATIENT = TimeoutConfig(first_audio_timeout=30.0, total_timeout=55.0)
KINDS = ("elevenlabs", "neural", "espeak", "tone")


class BreakingOff:
    """Provider that breaks off after some seconds of another one's audio, and stays broken."""

    def __init__(self, inner: Provider, after: float) -> None:
        self._inner, self._after = inner, after
        self.name, self.local = inner.name, inner.local
        self.offer, self.aclose = inner.offer, inner.aclose
        self._is_broken = False

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        if self._is_broken:
            raise TTSCutError("still broken", provider=self.name)
        seconds = 0.0
        events = self._inner.speak(request, offer, connection_timeout=connection_timeout)
        async with aclosing(events):
            async for event in events:
                yield event
                if isinstance(event, AudioChunk):
                    seconds += len(event.data) / 2 / offer.format.sample_rate
                if seconds > self._after:
                    self._is_broken = True
                    raise TTSCutError("cut by the test", provider=self.name)


@pytest.fixture(scope="module")
def local_voices() -> Iterator[dict[str, Provider]]:
    """Local voices for all tests: the neural one takes a second or two to load."""
    voices: dict[str, Provider] = {"neural": Neural(), "espeak": Espeak(), "tone": Tone()}
    yield voices
    for voice in voices.values():
        asyncio.run(voice.aclose())


@pytest.mark.parametrize(("first", "second"), list(permutations(KINDS, 2)))
async def test_next_voice_goes_on_at_the_next_word(local_voices: dict[str, Provider], first: str, second: str) -> None:
    async with Simulator(voice="tones") as sim:
        vendor = ElevenLabs("any-key", base_url=sim.url)
        make: Callable[[str], Provider] = lambda name: local_voices.get(name, vendor)  # noqa: E731
        service = AsyncTTSService([BreakingOff(make(first), 3.0), make(second)], timeouts=PATIENT, muted=False)
        stream = service.stream(TEXT, format="pcm_24000")
        audio = b"".join([chunk async for chunk in stream])
        await vendor.aclose()
    assert stream.outcome == "resumed"
    begun, rest = stream.report.spans
    assert (begun.provider, rest.provider) == (first, second)
    assert begun.end == rest.begin, "no character is lost, none is spoken twice"
    assert (begun.begin, rest.end) == (0, len(TEXT))
    assert TEXT[rest.begin - 1].isspace(), "it goes on at a word"
    assert 10 < begun.end < len(TEXT) - 10
    assert len(audio) / 48_000 == pytest.approx(stream.duration, abs=0.05)
    words = stream.alignment.words()
    assert [word.text for word in words] == TEXT.split()
    assert all(a.start <= b.start + 0.2 for a, b in pairwise(words))
