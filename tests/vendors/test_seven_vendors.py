"""Seven vendors behind one service: failover in their order, each with its own key, and resumption between them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import permutations

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible, RetryConfig, Tone
from steadyvoice.providers.vendor import VendorProvider
from steadyvoice.simulator import Fault, Simulator, words_in
from steadyvoice.simulator.fault_injection.actions import Cut, Refuse
from tests.providers.scripted_vendor import error_response, scripted_vendor

from .vendors import VENDORS

TEXT = "Good evening, this is the news, and it is read by whoever is left to read it tonight."
WORDS = TEXT.split()
ENDPOINTS = {
    "elevenlabs": "text-to-speech*",
    "openai": "audio/speech",
    "cartesia": "tts/*",
    "deepgram": "speak",
    "google": "text:synthesize",
    "azure": "cognitiveservices/v1",
    "polly": "speech",
}


def key_of(name: str) -> str:
    return f"key-of-{name}-0123456789"


def provider(name: str, url: str) -> VendorProvider:
    if name == "elevenlabs":
        return ElevenLabs(key_of(name), base_url=url)
    if name == "openai":
        return OpenAICompatible(key_of(name), base_url=url, model="tts-1")
    return VENDORS[name].make(key_of(name), base_url=url)


async def test_fails_over_through_all_seven_in_order() -> None:
    async with Simulator(voice="tones") as sim:
        providers = [provider(name, sim.url) for name in ENDPOINTS]
        async with AsyncTTSService([*providers, Tone()], retry=RetryConfig(max_attempts=1)) as tts:
            for failing in range(len(ENDPOINTS) + 1):
                down = list(ENDPOINTS)[:failing]
                sim.faults.set(*(Fault(Refuse(status=503), endpoint=ENDPOINTS[name]) for name in down))
                spoken = await tts.synthesize(TEXT, format="pcm_16000")
                assert [attempt.provider for attempt in spoken.attempts] == [*ENDPOINTS, "tone"][: failing + 1]
                assert spoken.outcome == ("substituted" if failing else "spoken")
                assert words_in(spoken.audio, "pcm_16000") == WORDS
                for name in ENDPOINTS:
                    tts.circuits[name].reset()


@pytest.mark.parametrize("format", ["pcm_24000", "wav_24000"])
@pytest.mark.parametrize("name", ENDPOINTS)
async def test_audio_is_passed_through_from_each_vendor(name: str, format: str) -> None:
    """Also of a vendor that packs its audio into JSON."""
    async with Simulator(voice="tones") as sim, AsyncTTSService([provider(name, sim.url)], on_midstream="error") as tts:
        stream = tts.stream(TEXT, format=format)
        audio = b"".join([chunk async for chunk in stream])
    assert (stream.outcome, [attempt.error for attempt in stream.attempts]) == ("spoken", [None])
    assert words_in(audio, format) == WORDS


async def test_no_key_is_sent_to_another_vendor() -> None:
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(scripted_vendor()) for name in ENDPOINTS}
        for server in servers.values():
            server.enqueue(error_response(503, {"message": "down"}))
        providers = [provider(name, server.url) for name, server in servers.items()]
        async with AsyncTTSService([*providers, Tone()], retry=RetryConfig(max_attempts=1)) as tts:
            await tts.synthesize(TEXT)
        for name, server in servers.items():
            (request,) = server.requests
            sent = f"{request.target} {request.headers} {request.body!r}"
            own = {other for other in ENDPOINTS if key_of(other) in sent}
            assert own == {name}


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), list(permutations(ENDPOINTS, 2)))
async def test_cut_stream_goes_on_with_the_next_word_elsewhere(first: str, second: str) -> None:
    async with Simulator(voice="tones") as sim:
        sim.faults.set(Fault(Cut(1.5), endpoint=ENDPOINTS[first]))
        providers = [provider(name, sim.url) for name in (first, second)]
        async with AsyncTTSService(providers, retry=RetryConfig(max_attempts=1)) as tts:
            stream = tts.stream(TEXT, format="pcm_16000", on_midstream="resume")
            audio = b"".join([chunk async for chunk in stream])
    heard = words_in(audio, "pcm_16000")
    assert [attempt.provider for attempt in stream.attempts] == [first, second]
    assert heard == WORDS
