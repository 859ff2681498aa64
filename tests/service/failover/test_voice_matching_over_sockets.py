"""Substitute voices over sockets: the right voice and speed on the wire, and a real voice of that rate and loudness."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from math import log10
from typing import Any

import pytest

from steadyvoice import (
    AsyncTTSService,
    ElevenLabs,
    Espeak,
    Neural,
    OpenAICompatible,
    Provider,
    RetryConfig,
    TimeoutConfig,
    Voice,
)
from steadyvoice.audio.crossfade import speech_level
from steadyvoice.audio.word_tones import synthesize_tones
from steadyvoice.providers import neural
from steadyvoice.providers.espeak import is_installed
from tests.providers.scripted_vendor import ScriptedVendor, audio_response, error_response, scripted_vendor
from tests.required_tools import require_tool

TEXT = "The rainbow is a division of white light into many beautiful colors. Sunlight strikes raindrops in the air."
SPEECH = synthesize_tones(TEXT, sample_rate=24_000)[0]
DOWN = error_response(503, {"detail": "down"})
RACHEL = Voice("21m00Tcm4TlvDq8ikWAM", "en-US", "female", rate=150, loudness=-18.0)
NOVA, ONYX = Voice("nova", "en", "female", rate=180, loudness=-21.0), Voice("onyx", "en", "male", rate=150)
QUICK = RetryConfig(max_attempts=1)
PATIENT = TimeoutConfig(first_audio_timeout=30.0, total_timeout=50.0)


@pytest.fixture
async def vendors() -> AsyncIterator[list[ScriptedVendor]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(scripted_vendor()) for _ in range(2)]


def elevenlabs(vendor: ScriptedVendor, **voices: Voice) -> ElevenLabs:
    return ElevenLabs("sk_test", base_url=vendor.url, voices=voices)


def openai(vendor: ScriptedVendor, **voices: Voice) -> OpenAICompatible:
    return OpenAICompatible("sk_test", base_url=vendor.url, model="tts-1", voices=voices)


async def test_openai_voice_for_an_elevenlabs_voice(vendors: list[ScriptedVendor]) -> None:
    first, spare = vendors
    first.enqueue(DOWN)
    spare.enqueue(audio_response(SPEECH, content_type="audio/pcm"))
    providers: list[Provider] = [elevenlabs(first, narrator=RACHEL), openai(spare, default=ONYX, reader=NOVA)]
    async with AsyncTTSService(providers, retry=QUICK) as tts:
        speech = await tts.synthesize(TEXT, voice="narrator", format="pcm_24000", speed=1.5)
    assert (speech.outcome, speech.voice) == ("substituted", "nova")
    assert spare.requests[0].json["voice"] == "nova"
    assert spare.requests[0].json["speed"] == pytest.approx(1.5 * 150 / 180)
    assert loudness(speech.audio) == pytest.approx(loudness(SPEECH) * 10 ** (3 / 20), rel=0.05)


async def test_elevenlabs_voice_for_an_openai_voice(vendors: list[ScriptedVendor]) -> None:
    first, spare = vendors
    first.enqueue(DOWN)
    spare.enqueue(audio_response(SPEECH, content_type="audio/pcm"))
    providers: list[Provider] = [
        openai(first, narrator=NOVA),
        elevenlabs(spare, default=Voice("x", "de"), reader=RACHEL),
    ]
    async with AsyncTTSService(providers, retry=QUICK) as tts:
        speech = await tts.synthesize(TEXT, voice="narrator", format="pcm_24000", on_midstream="error")
    assert (speech.outcome, speech.voice) == ("substituted", RACHEL.id)
    assert spare.requests[0].target.startswith(f"/v1/text-to-speech/{RACHEL.id}/stream")
    assert spare.requests[0].json["voice_settings"] == {"speed": 1.2}
    assert loudness(speech.audio) == pytest.approx(loudness(SPEECH) * 10 ** (-3 / 20), rel=0.05)


async def test_espeak_voice_for_an_elevenlabs_voice(vendors: list[ScriptedVendor]) -> None:
    require_tool(is_installed(), "espeakng-loader")
    heard: dict[str, Any] = {}
    for name, like in (("as it is", Voice("x", "en-US", "female")), ("matched", RACHEL)):
        vendors[0].enqueue(DOWN)
        async with AsyncTTSService([elevenlabs(vendors[0], narrator=like), Espeak()], retry=QUICK) as tts:
            heard[name] = await tts.synthesize(TEXT, voice="narrator", format="pcm_22050")
    plain, matched = heard["as it is"], heard["matched"]
    assert (plain.voice, matched.voice) == ("en-us+f3", "en-us+f3")
    assert len(TEXT.split()) * 60 / matched.duration == pytest.approx(150, rel=0.1)
    assert loudness(matched.audio, 22_050) == pytest.approx(loudness(plain.audio, 22_050) * 10 ** (2.5 / 20), rel=0.05)


@pytest.mark.slow
async def test_local_voices_are_as_fast_and_as_loud_as_the_voice_that_they_replace(
    vendors: list[ScriptedVendor],
) -> None:
    require_tool(is_installed() and neural.is_installed(), "espeakng-loader and hibari-tts")
    like = replace(RACHEL, loudness=-24.0)
    levels, paces = dict[str, float](), dict[str, float]()
    for local in (Neural(), Espeak()):
        vendors[0].enqueue(DOWN)
        async with AsyncTTSService(
            [elevenlabs(vendors[0], narrator=like), local], retry=QUICK, timeouts=PATIENT
        ) as tts:
            speech = await tts.synthesize(TEXT, voice="narrator", format="pcm_24000")
        assert (speech.outcome, speech.provider) == ("substituted", local.name)
        levels[local.name] = 20 * log10(loudness(speech.audio))
        paces[local.name] = len(TEXT.split()) * 60 / speech.duration
    # Measured: 0.4 dB between the two, and 161 and 141 words a minute, of 150.
    assert levels["neural"] == pytest.approx(levels["espeak"], abs=3.0)
    assert list(paces.values()) == pytest.approx([150, 150], rel=0.12)


def loudness(pcm: bytes, rate: int = 24_000) -> float:
    return speech_level(array("h", pcm), rate) or 0.0
