"""Coalescing of equal requests that run at the same time, on the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from steadyvoice import AsyncSpeechStream, AsyncTTSService, ElevenLabs, OpenAICompatible, TTSStreamInterruptedError
from steadyvoice.simulator import Simulator
from steadyvoice.speech.errors import TTSCutError

from ..conftest import loop_clock
from ..scripted_provider import Say, ScriptedProvider
from .cached_service import TEXT, WHOLE, TimedProvider, caching_service, speak


@pytest.mark.looptime
@pytest.mark.parametrize("on_midstream", ["resume", "error"])
async def test_ten_equal_requests_cause_one_call(tmp_path: Path, on_midstream: Any) -> None:
    vendor = ScriptedProvider([Say(every=1.0, aligned=True)])
    async with caching_service(tmp_path, vendor, on_midstream=on_midstream) as tts:

        async def late(index: int) -> tuple[bytes, AsyncSpeechStream]:
            await asyncio.sleep(index * 0.3)
            return await speak(tts)

        listeners = await asyncio.gather(*map(late, range(10)))
        assert tts.get_error_state()["cache"]["joined"] == 9
    assert len(vendor.requests) == 1
    assert len({audio for audio, _ in listeners}) == 1
    assert [stream.outcome for _, stream in listeners] == ["spoken"] + ["cached"] * 9
    assert {stream.alignment for _, stream in listeners} == {listeners[0][1].alignment}
    assert sum(len(stream.attempts) for _, stream in listeners) == 1, "each request is in one account"


@pytest.mark.looptime
async def test_synthesize_joins_a_stream_and_no_stream_joins_synthesize(tmp_path: Path) -> None:
    vendor = TimedProvider([Say(every=1.0, aligned=True)])
    async with caching_service(tmp_path, vendor) as tts:
        (audio, _), speech = await asyncio.gather(speak(tts), tts.synthesize(TEXT, format="pcm_8000"))
        assert (len(vendor.requests), speech.audio) == (1, audio)
        other = asyncio.ensure_future(tts.synthesize("Good night", format="pcm_8000"))
        await asyncio.sleep(0.5)
        async with tts.stream("Good night", format="pcm_8000") as stream:
            before = loop_clock()
            await anext(stream)
            assert loop_clock() - before < 2.0, "and the whole takes longer"
        await other
    assert len(vendor.requests) == 3


@pytest.mark.looptime
async def test_joining_consumer_reads_from_the_beginning(tmp_path: Path) -> None:
    vendor = ScriptedProvider([Say(every=10.0)])
    async with caching_service(tmp_path, vendor, on_midstream="error") as tts:
        leader = tts.stream(TEXT, format="pcm_8000")
        begin = [await anext(leader), await anext(leader)]
        joined, before = tts.stream(TEXT, format="pcm_8000"), loop_clock()
        assert [await anext(joined), await anext(joined)] == begin
        assert loop_clock() == before
        await leader.aclose()
        await joined.aclose()


@pytest.mark.looptime
async def test_failure_is_shared_and_not_stored(tmp_path: Path) -> None:
    vendor = ScriptedProvider([Say(every=1.0, then=TTSCutError("cut")), WHOLE])
    async with caching_service(tmp_path, vendor, on_midstream="error") as tts:
        both = await asyncio.gather(speak(tts), speak(tts), return_exceptions=True)
        assert [type(each) for each in both] == [TTSStreamInterruptedError] * 2
        assert len(vendor.requests) == 1
        _, stream = await speak(tts)
        assert stream.outcome == "spoken"


@pytest.mark.looptime
async def test_abandoned_stream_cancels_its_request(tmp_path: Path) -> None:
    vendor = ScriptedProvider([Say(every=1.0), WHOLE])
    async with caching_service(tmp_path, vendor, on_midstream="error") as tts:
        async with tts.stream(TEXT, format="pcm_8000") as stream:
            await anext(stream)
        assert vendor.cut_short == 1
        assert (await tts.synthesize(TEXT, format="pcm_8000")).outcome == "spoken"


@pytest.mark.looptime
async def test_first_consumer_may_leave_while_others_read(tmp_path: Path) -> None:
    vendor = ScriptedProvider([Say(every=1.0)])
    async with caching_service(tmp_path, vendor, on_midstream="error") as tts:
        leader = tts.stream(TEXT, format="pcm_8000")
        await anext(leader)
        other = asyncio.ensure_future(speak(tts))
        await asyncio.sleep(0.5)
        await leader.aclose()
        audio, stream = await other
        assert (len(vendor.requests), vendor.cut_short) == (1, 0)
        assert (await speak(tts))[0] == audio
        assert stream.outcome == "cached"


@pytest.mark.looptime
async def test_slow_consumer_delays_no_other(tmp_path: Path) -> None:
    vendor = ScriptedProvider([Say(pieces=8)])
    async with caching_service(tmp_path, vendor, on_midstream="error") as tts:
        fast, slow = (tts.stream(TEXT, format="pcm_8000") for _ in range(2))
        await anext(slow)
        for _ in range(5):
            await anext(fast)
        await fast.aclose()
        rest = [chunk async for chunk in slow]
    assert len(rest) == 7


@pytest.mark.looptime
async def test_closing_the_service_ends_joined_streams(tmp_path: Path) -> None:
    tts = caching_service(tmp_path, ScriptedProvider([Say(every=5.0)]), on_midstream="error")
    streams = [tts.stream(TEXT, format="pcm_8000") for _ in range(2)]
    for stream in streams:
        await anext(stream)
    await tts.aclose()
    for stream in streams:
        with pytest.raises(TTSStreamInterruptedError, match="the service was closed"):
            await anext(stream)


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(voice="tones") as simulator:
        yield simulator


@pytest.mark.parametrize("kind", [ElevenLabs, OpenAICompatible])
async def test_two_hundred_callers_of_twenty_texts_cause_twenty_requests(
    tmp_path: Path, sim: Simulator, kind: Any
) -> None:
    vendor = kind("sk_test", base_url=sim.url)
    texts = [f"This is number {number}. " for number in range(20)]
    async with AsyncTTSService([vendor], cache=tmp_path) as tts:
        first = await asyncio.gather(*(tts.synthesize(texts[n % 20], format="pcm_24000") for n in range(100)))
        later = await asyncio.gather(*(read_at(tts, texts[n % 20]) for n in range(100)))
    assert len(sim.ledger) == 20
    for number in range(20):
        assert len({speech.audio for speech in first[number::20]} | set(later[number::20])) == 1


async def read_at(tts: AsyncTTSService, text: str) -> bytes:
    return b"".join([chunk async for chunk in tts.stream(text, format="pcm_24000")])
