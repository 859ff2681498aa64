"""Tone provider."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from steadyvoice.audio.word_tones import words_in
from steadyvoice.providers.tone import Tone
from steadyvoice.speech.format import AudioFormat
from tests.providers.synthesis import pcm_request, synthesize


async def test_tones_carry_every_word() -> None:
    heard = await synthesize(Tone(), "Still here, friend.")

    assert words_in(heard.samples.tobytes(), "pcm_24000") == ["Still", "here,", "friend."]
    assert heard.alignment.text == "Still here, friend."
    assert heard.alignment.ends[-1] == pytest.approx(heard.seconds)


@pytest.mark.parametrize(
    ("options", "knows"),
    [
        ({}, True),
        ({"voice": "tone"}, True),
        ({"voice": "rachel"}, False),
        ({"voice": "rachel", "unknown_voice": "passthrough"}, False),
        ({"voice": "rachel", "unknown_voice": "default"}, True),
    ],
)
def test_tone_has_one_voice_and_substitutes_all_others(options: dict[str, Any], knows: bool) -> None:
    offer = Tone().offer(pcm_request("Hello", **options))

    assert (offer.voice, offer.knows_voice) == ("tone", knows)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("mp3_44100_128", "pcm_44100"),
        ("ulaw_8000", "pcm_8000"),
        ("pcm_16000", "pcm_16000"),
        ("opus_48000_64", "pcm_48000"),
    ],
)
async def test_tone_has_the_requested_sample_rate(asked: str, sent: str) -> None:
    request = pcm_request("Hi", format=AudioFormat.parse(asked))
    assert Tone().offer(request).format.name == sent

    heard = await synthesize(Tone(), "Hi", format=AudioFormat.parse(asked))
    assert heard.seconds == pytest.approx(heard.alignment.ends[-1], abs=0.001)


async def test_seed_changes_the_bytes() -> None:
    first, second, again = [(await synthesize(Tone(), "Hi", seed=seed)).samples for seed in (1, 2, 1)]

    assert first == again
    assert first != second


async def test_tone_yields_to_the_event_loop_between_words() -> None:
    request = pcm_request("one two three four")
    spoken = 0

    async def speak() -> None:
        nonlocal spoken
        async with aclosing(Tone().speak(request, Tone().offer(request), connection_timeout=1)) as speech:
            async for _ in speech:
                spoken += 1

    speaking = asyncio.create_task(speak())
    seen = []
    while not speaking.done():
        await asyncio.sleep(0)
        seen.append(spoken)

    assert len(set(seen)) > 4
