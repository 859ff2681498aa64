"""Cache of encoded audio: hits, misses and its size."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from steadyvoice.audio.conversion import Converter
from steadyvoice.providers.base import Accepted, AudioChunk, SynthesisOffer
from steadyvoice.providers.tone import Tone
from steadyvoice.simulator.fault_injection.actions import FaultAction, Silent, Stall, TooShort
from steadyvoice.simulator.synthesis import AudioEntries, EncodedAudio, EncodedAudioCache, ResponseShape, SynthesisOrder
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest

ORDER = SynthesisOrder("any", "Good evening.", "George", "any", AudioFormat.parse("pcm_8000"), ResponseShape.STREAM)


class Counted(Tone):
    """Engine that counts its syntheses."""

    spoke = 0

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.spoke += 1
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            yield event


async def audio_of(
    memory: EncodedAudioCache, order: SynthesisOrder = ORDER, action: FaultAction | None = None
) -> list[EncodedAudio]:
    return [piece async for piece in memory.speak(order, action)]


async def test_repeated_order_is_served_from_the_cache() -> None:
    engine = Counted()
    memory = EncodedAudioCache(engine, AudioEntries())
    first = await audio_of(memory)
    assert await audio_of(memory, replace(ORDER, shape=ResponseShape.WHOLE), Stall()) == first != []
    assert engine.spoke == 1


async def test_encoders_run_at_their_fastest_setting() -> None:
    plain, mp3 = AudioFormat.parse("pcm_44100"), AudioFormat.parse("mp3_44100_128")
    memory = EncodedAudioCache(Tone(), AudioEntries())
    samples, audio = [
        b"".join(piece.data for piece in await audio_of(memory, replace(ORDER, format=format)))
        for format in (plain, mp3)
    ]
    hasty = Converter(plain, mp3, quick=True)
    assert audio == hasty.feed(samples) + hasty.finish()


@pytest.mark.parametrize(
    "other",
    [
        replace(ORDER, text="Good morning."),
        replace(ORDER, voice="Rachel"),
        replace(ORDER, seed=1),
        replace(ORDER, speed=1.1),
        replace(ORDER, format=AudioFormat.parse("pcm_16000")),
    ],
)
async def test_different_order_is_synthesized(other: SynthesisOrder) -> None:
    engine = Counted()
    memory = EncodedAudioCache(engine, AudioEntries())
    await audio_of(memory)
    await audio_of(memory, other)
    assert engine.spoke == 2


async def test_audio_faults_are_cached_separately() -> None:
    memory = EncodedAudioCache(Tone(), AudioEntries())
    assert (
        len(
            {
                b"".join(piece.data for piece in await audio_of(memory, action=action))
                for action in (None, Silent(), TooShort())
            }
        )
        == 3
    )


async def test_abandoned_audio_is_not_cached() -> None:
    engine = Counted()
    memory = EncodedAudioCache(engine, AudioEntries())
    long = replace(ORDER, text="Good evening, this is the news.")
    pieces = memory.speak(long)
    await anext(pieces)
    await pieces.aclose()
    assert len(await audio_of(memory, long)) > 1
    assert engine.spoke == 2


async def test_least_recently_used_audio_is_evicted_first() -> None:
    one, two, three = (replace(ORDER, seed=seed) for seed in range(3))
    engine = Counted()
    size = sum(len(piece.data) for piece in await audio_of(EncodedAudioCache(engine, AudioEntries())))
    memory = EncodedAudioCache(engine, AudioEntries(2 * size))
    for order in (one, two, one, three, one):
        await audio_of(memory, order)
    assert engine.spoke == 1 + 3
    await audio_of(memory, two)
    assert engine.spoke == 1 + 4


async def test_audio_larger_than_the_cache_is_not_cached_and_evicts_nothing() -> None:
    engine = Counted()
    size = sum(len(piece.data) for piece in await audio_of(EncodedAudioCache(engine, AudioEntries())))
    memory = EncodedAudioCache(engine, AudioEntries(size))
    for text in (ORDER.text, 2 * ORDER.text, 2 * ORDER.text, ORDER.text):
        await audio_of(memory, replace(ORDER, text=text))
    assert engine.spoke == 1 + 3


async def test_simulators_of_a_process_share_the_audio_of_a_voice() -> None:
    engines = [Counted(), Counted()]
    entries = AudioEntries()
    first, second = [await audio_of(EncodedAudioCache(engine, entries)) for engine in engines]
    assert first == second
    assert [engine.spoke for engine in engines] == [1, 0]
