"""Release of resources: a request leaves nothing behind, however it ends and in every format.

The collector is switched off: what a request opened is closed when it ends, by reference. STEADYVOICE_DEEP=1 tries
each ending in each format.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import suppress
from typing import Any

import pytest

from steadyvoice import (
    AsyncSpeechStream,
    AsyncTTSService,
    AudioFormat,
    HedgeConfig,
    Provider,
    RetryConfig,
    Tone,
    TTSError,
    TTSStreamInterruptedError,
)
from tests.case_selection import covering_cases
from tests.leaked_objects import live_objects, native_threads, native_threads_back_to, no_garbage

from ..conftest import MakeService
from ..hedging.late_provider import late_provider
from ..scripted_provider import Hang, ScriptedProvider
from ..word_tone_provider import DOWN, PATIENT, SHORT_TEXT, Fault, WordToneProvider

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("frozen_heap")]

FORMATS = [
    "mp3_44100_128", "pcm_24000", "opus_48000_64",
    "mp3_22050_32", "wav_24000", "aac_44100_128", "flac_24000", "ulaw_8000", "alaw_8000",
]  # fmt: skip

ONCE = RetryConfig(max_attempts=1)


def spoken_in_samples(*faults: Fault, **more: object) -> WordToneProvider:
    """A vendor that sends samples whatever is asked, so that every other format has to be encoded here."""
    return WordToneProvider([*faults], format=AudioFormat.parse("pcm_24000"), **{"every": 0.05, **more})  # type: ignore[arg-type]


Story = Callable[[MakeService, str], AsyncGenerator[None, None]]
"""Makes a service, and yields each time that a request of it is over."""

GREETING = "Good morning, is anybody there?"


async def drain(stream: AsyncSpeechStream) -> None:
    async for _ in stream:
        pass


async def whole(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(spoken_in_samples())
    while True:
        assert (await tts.synthesize(SHORT_TEXT, format=format)).outcome == "spoken"
        yield


async def streamed(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(spoken_in_samples())
    while True:
        await drain(tts.stream(SHORT_TEXT, format=format))
        yield


async def passed_on(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(spoken_in_samples(every=0.0), on_midstream="error")
    while True:
        await drain(tts.stream(SHORT_TEXT, format=format))
        yield


async def failed(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    broken = ScriptedProvider([ValueError("a bug")], name="second")
    tts = make(ScriptedProvider([DOWN]), broken, muted=False, circuit=PATIENT)
    while True:
        with suppress(TTSError):
            await tts.synthesize(SHORT_TEXT, format=format)
        with suppress(TTSError):
            await drain(tts.stream(SHORT_TEXT, format=format))
        yield


async def cut(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    vendor = spoken_in_samples()
    tts = make(vendor, muted=False, retry=ONCE, circuit=PATIENT, on_midstream="error")
    while True:
        vendor.faults.append(Fault("cut", 0.5))
        with suppress(TTSStreamInterruptedError):
            await drain(tts.stream(SHORT_TEXT, format=format))
        yield


async def timed_out(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(ScriptedProvider([Hang()]), muted=False, circuit=PATIENT)
    while True:
        with suppress(TTSError):
            await tts.synthesize(SHORT_TEXT, format=format, deadline=1.0)
        yield


async def stalled(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    vendor = spoken_in_samples()
    tts = make(vendor, muted=False, circuit=PATIENT)
    while True:
        vendor.faults[:] = [Fault("stall", 0.6)] * 9
        with suppress(TTSError):
            await drain(tts.stream(SHORT_TEXT, format=format, deadline=4.0))
        yield


async def closed_by_its_reader(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(spoken_in_samples())
    while True:
        async with tts.stream(SHORT_TEXT, format=format) as stream:
            await anext(stream)
        del stream
        yield


async def left_unread(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(spoken_in_samples())
    while True:
        stream = tts.stream(SHORT_TEXT, format=format)
        await anext(stream)
        del stream
        yield


async def never_read(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(spoken_in_samples())
    while True:
        tts.stream(SHORT_TEXT, format=format)
        yield


async def read_in_vain(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(spoken_in_samples())
    while True:
        stream = tts.stream(SHORT_TEXT, format=format)
        with suppress(TimeoutError):
            while True:
                await asyncio.wait_for(anext(stream), 0.02)
        with suppress(TTSError):
            await anext(stream)
        del stream
        yield


async def closed_while_read(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(spoken_in_samples())

    async def read(stream: AsyncSpeechStream) -> None:
        with suppress(TTSError):
            await drain(stream)

    while True:
        stream = tts.stream(SHORT_TEXT, format=format)
        reading = asyncio.create_task(read(stream))
        await asyncio.sleep(0.4)
        await stream.aclose()
        await reading
        del stream, reading
        yield


async def cancelled(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(spoken_in_samples())
    while True:
        for hold in (True, False):
            stream = tts.stream(SHORT_TEXT, format=format)
            work = asyncio.ensure_future(tts.synthesize(SHORT_TEXT, format=format) if hold else drain(stream))
            await asyncio.sleep(0.4)
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            del work, stream
        yield


async def service_closed(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(spoken_in_samples())
    while True:
        stream = tts.stream(SHORT_TEXT, format=format)
        await anext(stream)
        await tts.aclose()
        with suppress(TTSError):
            await anext(stream)
        del stream
        yield


async def resumed(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    vendor = spoken_in_samples()
    tts = make(vendor, Tone(), retry=ONCE, circuit=PATIENT)
    while True:
        vendor.faults.append(Fault("cut", 0.5))
        stream = tts.stream(SHORT_TEXT, format=format)
        await drain(stream)
        assert stream.outcome == "resumed"
        del stream
        yield


async def left_after_it_was_resumed(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    vendor = spoken_in_samples()
    tts = make(vendor, spoken_in_samples(name="second"), retry=ONCE, circuit=PATIENT)
    while True:
        vendor.faults.append(Fault("cut", 0.3))
        async with tts.stream(SHORT_TEXT, format=format) as stream:
            async for _ in stream:
                if len(stream.attempts) == 1:
                    break
        del stream
        yield


async def muted(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(ScriptedProvider([DOWN]), circuit=PATIENT)
    while True:
        assert (await tts.synthesize(SHORT_TEXT, format=format)).outcome == "muted"
        yield


async def muted_in_the_middle(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    vendor = spoken_in_samples()
    tts = make(vendor, retry=ONCE, circuit=PATIENT)
    while True:
        vendor.faults[:] = [Fault("cut", 0.5)] * 9
        stream = tts.stream(SHORT_TEXT, format=format)
        await drain(stream)
        assert stream.outcome == "muted"
        del stream
        yield


async def left_in_silence(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(ScriptedProvider([DOWN]), circuit=PATIENT)
    while True:
        async with tts.stream(SHORT_TEXT * 9, format=format) as stream:
            await anext(stream)
        del stream
        yield


async def learnt(make: MakeService, format: str, *others: Provider, **settings: Any) -> AsyncTTSService:
    """Make a service that hedges, and knows how soon its first provider usually is: it will hang from now on."""
    hedging = HedgeConfig(minimum_samples=4, budget=1.0)
    tts = make(late_provider(Hang()), *others, hedging=hedging, circuit=PATIENT, **settings)
    for _ in range(4):
        await tts.synthesize(GREETING, format=format)
    return tts


async def hedged(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = await learnt(make, format, spoken_in_samples(name="second"))
    while True:
        assert (await tts.synthesize(SHORT_TEXT, format=format)).provider == "second"
        async with tts.stream(SHORT_TEXT, format=format) as stream:
            await anext(stream)
        del stream
        yield


async def cancelled_in_a_race(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = await learnt(make, format, ScriptedProvider([Hang()], name="second"))
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(tts.synthesize(SHORT_TEXT, format=format), 1.0)
        yield


async def race_that_both_lose(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = await learnt(make, format, ScriptedProvider([DOWN], name="second"), muted=False)
    while True:
        with suppress(TTSError):
            await tts.synthesize(SHORT_TEXT, format=format, deadline=5.0)
        yield


async def refused(make: MakeService, format: str) -> AsyncGenerator[None, None]:
    tts = make(ScriptedProvider([DOWN]), muted=False)
    tts.circuits["scripted"].force_open("by hand")
    while True:
        with suppress(TTSError):
            await tts.synthesize(SHORT_TEXT, format=format)
        yield


STORIES: list[Story] = [
    whole, streamed, passed_on, failed, cut, timed_out, stalled, closed_by_its_reader, left_unread, never_read,
    read_in_vain, closed_while_read, cancelled, service_closed, resumed, left_after_it_was_resumed, muted,
    muted_in_the_middle, left_in_silence, hedged, cancelled_in_a_race, race_that_both_lose, refused,
]  # fmt: skip


EVERY_FORMAT = [streamed, closed_by_its_reader, cancelled, left_after_it_was_resumed, left_in_silence]
"""Stories that end with an encoder at work."""


def features(case: tuple[Story, str]) -> set[Hashable]:
    """Return what is covered by a case: each story in samples and in a format that is encoded, some in each format."""
    story, format = case
    return {format, (story, format if story in EVERY_FORMAT else format.startswith("pcm"))}


CASES = covering_cases([(story, format) for story in STORIES for format in FORMATS], features)


@pytest.mark.looptime
@pytest.mark.parametrize(("story", "format"), CASES, ids=lambda each: getattr(each, "__name__", each))
async def test_nothing_waits_for_the_collector(make_service: MakeService, story: Story, format: str) -> None:
    requests = story(make_service, format)
    for _ in range(2):  # in which what is imported and remembered for good is there
        await anext(requests)
        await asyncio.sleep(0.1)
    foreign, before = native_threads(), live_objects()
    with no_garbage():
        for _ in range(3):
            await anext(requests)
            await asyncio.sleep(0.1)
        left = live_objects() - before
        for _ in range(100):  # a thread that has done its work may not have come to putting it away
            if left:
                threading.Event().wait(0.005)
                await asyncio.sleep(0)
                left = live_objects() - before
    assert not left, f"still alive: {dict(left)}"
    assert native_threads_back_to(foreign)
    await requests.aclose()
