"""Time in the queue of the service's own threads, which is no sign of a hanging provider."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import ParamSpec, TypeVar

import pytest

from steadyvoice import (
    Accepted,
    Alignment,
    AsyncTTSService,
    AudioChunk,
    AudioFormat,
    CircuitBreakerConfig,
    CircuitState,
    RetryConfig,
    SpeechRequest,
    SynthesisOffer,
    TTSOverloadedError,
    TTSStreamInterruptedError,
)
from steadyvoice.audio.thread_pool import AudioThreadPool
from steadyvoice.audio.word_tones import words_in
from steadyvoice.providers.base import Queued
from steadyvoice.speech.format import Codec

from ..conftest import MakeService
from ..scripted_provider import Say, ScriptedProvider, pcm
from ..word_tone_provider import SHORT_TEXT, Fault, WordToneProvider, read_all

P = ParamSpec("P")
T = TypeVar("T")

TEXT_SECONDS = len(SHORT_TEXT) * 0.06

QUICK_TO_JUDGE = CircuitBreakerConfig(failure_threshold=0.5, window_size=4, minimum_calls=1, hung_after=0.2)


@pytest.mark.looptime
async def test_call_that_waits_for_conversion_does_not_hang(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(pieces=3)]), circuit=QUICK_TO_JUDGE)
    free = threading.Event()
    busy = [asyncio.create_task(tts._workers.run(free.wait, 30)) for _ in range(8)]
    await asyncio.sleep(0)
    calls = [asyncio.create_task(tts.synthesize(SHORT_TEXT, format="mp3_44100_128")) for _ in range(3)]
    await asyncio.sleep(0.5)
    circuit = tts.circuits["scripted"]
    try:
        circuit.acquire().ignore()  # which looks at the calls in flight
        assert circuit.state is CircuitState.CLOSED
        assert circuit.snapshot().failures == 0
    finally:
        free.set()
    await asyncio.gather(*busy)
    assert [speech.outcome for speech in await asyncio.gather(*calls)] == ["spoken"] * 3
    await tts.aclose()


class QueuedEngine(ScriptedProvider):
    """Local engine with a queue."""

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        yield Accepted()
        yield Queued(waits=True)
        await asyncio.sleep(10.0)
        yield Queued(waits=False)
        yield AudioChunk(pcm(len(request.text) * 0.06))


@pytest.mark.looptime
async def test_call_in_the_queue_of_an_engine_does_not_hang(make_service: MakeService) -> None:
    tts = make_service(QueuedEngine(), circuit=QUICK_TO_JUDGE)
    call = asyncio.create_task(tts.synthesize(SHORT_TEXT, format="pcm_8000"))
    await asyncio.sleep(5.0)
    circuit = tts.circuits["scripted"]
    circuit.acquire().ignore()
    assert (circuit.state, circuit.snapshot().failures) == (CircuitState.CLOSED, 0)
    assert (await call).outcome == "spoken"
    assert circuit.snapshot().totals.failures == 0


@contextmanager
def busy_workers(tts: AsyncTTSService) -> Iterator[None]:
    """Keep all threads of a service busy, with more work waiting."""
    free = threading.Event()
    busy = [asyncio.ensure_future(tts._workers.run(free.wait, 30)) for _ in range(8)]
    try:
        yield
    finally:
        free.set()
    for each in busy:
        each.add_done_callback(lambda done: done.result())


@pytest.mark.slow
@pytest.mark.looptime
@pytest.mark.parametrize("format", ["mp3_44100_128", "wav_44100"])
async def test_caller_is_refused_in_time_when_no_thread_is_free(make_service: MakeService, format: str) -> None:
    tts = make_service(ScriptedProvider(), ScriptedProvider(name="second"))
    with busy_workers(tts):
        await asyncio.sleep(0.2)
        for call in (tts.synthesize(SHORT_TEXT, format=format, deadline=0.5), first_chunk(tts, format)):
            begun = asyncio.get_running_loop().time()
            with pytest.raises(TTSOverloadedError):
                await call
            assert asyncio.get_running_loop().time() - begun == pytest.approx(0.5, abs=0.1)
    assert [tts.circuits[name].snapshot().totals.failures for name in ("scripted", "second")] == [0, 0]
    assert (await tts.synthesize(SHORT_TEXT, format=format, deadline=30.0)).outcome == "spoken"
    await tts.aclose()


class SlowThreadPool(AudioThreadPool):
    """Thread pool without a queue, whose threads get little processor time."""

    @property
    def slowest_recent_job(self) -> float:
        return 1.5

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        await asyncio.sleep(1.5)
        return await super().run(work, *args, **kwargs)


@pytest.mark.looptime
async def test_caller_is_refused_in_time_when_a_conversion_takes_long(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider(), ScriptedProvider(name="second"))
    tts._resources = replace(tts._resources, workers=SlowThreadPool())
    begun = asyncio.get_running_loop().time()
    with pytest.raises(TTSOverloadedError):
        await tts.synthesize(SHORT_TEXT, format="mp3_44100_128", deadline=2.0)
    assert asyncio.get_running_loop().time() - begun == pytest.approx(2.0, abs=0.1)
    assert [tts.circuits[name].snapshot().totals.failures for name in ("scripted", "second")] == [0, 0]
    tts._resources.workers.close()


async def first_chunk(tts: AsyncTTSService, format: str) -> bytes:
    stream = tts.stream(SHORT_TEXT, format=format, deadline=0.5)
    try:
        return await anext(stream)
    finally:
        await stream.aclose()


@pytest.mark.slow
@pytest.mark.looptime
async def test_stream_that_cannot_be_converted_is_interrupted_in_time(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(pieces=4, every=0.1)]), on_midstream="error")
    stream = tts.stream(SHORT_TEXT, format="mp3_44100_128", deadline=0.5)
    await anext(stream)
    with busy_workers(tts):
        await asyncio.sleep(0.2)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(TTSStreamInterruptedError):
            await drain(stream)
        assert asyncio.get_running_loop().time() - begun < 0.5 + TEXT_SECONDS
    assert stream.outcome != "spoken"
    assert tts.circuits["scripted"].snapshot().totals.failures == 0
    await tts.aclose()


async def drain(stream: AsyncIterator[bytes]) -> None:
    async for _ in stream:
        pass


class BusyAfterLastAudio(ScriptedProvider):
    """Provider behind whose last audio, which has timestamps, all threads of the service are busy."""

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return replace(super().offer(request), timed=request.timestamps)

    def occupy_threads(self) -> None:
        raise NotImplementedError

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        yield Accepted()
        seconds = len(request.text) * 0.06
        yield AudioChunk(pcm(seconds), Alignment.spread(request.text, seconds) if offer.timed else None)
        self.occupy_threads()
        await asyncio.sleep(0)


@pytest.mark.looptime
@pytest.mark.parametrize("whole", [True, False])
async def test_success_is_recorded_before_the_conversion(make_service: MakeService, whole: bool) -> None:
    """Failures are recorded at once: under load they would look like a row of failures only."""
    provider = BusyAfterLastAudio()
    tts = make_service(provider, circuit=QUICK_TO_JUDGE)
    free = threading.Event()
    busy: list[asyncio.Future[bool]] = []

    def occupy_threads() -> None:
        busy.extend(asyncio.ensure_future(tts._workers.run(free.wait, 30)) for _ in range(8))

    provider.occupy_threads = occupy_threads  # type: ignore[method-assign]

    async def speak() -> None:
        if whole:
            await tts.synthesize(SHORT_TEXT, format="mp3_44100_128")
        else:
            async for _ in tts.stream(SHORT_TEXT, format="mp3_44100_128"):
                pass

    call = asyncio.create_task(speak())
    circuit = tts.circuits["scripted"]
    try:
        async with asyncio.timeout(30):
            while not circuit.snapshot().totals.successes:  # noqa: ASYNC110 - a circuit tells of transitions only
                await asyncio.sleep(0.01)
        assert not call.done()
    finally:
        free.set()
    await call
    await asyncio.gather(*busy)
    assert tts.circuits["scripted"].snapshot().totals.successes == 1
    await tts.aclose()


class BusyThreadPool(AudioThreadPool):
    """Thread pool whose queue is always long; counts its jobs."""

    given = 0

    @property
    def queue_wait(self) -> float:
        return 1.0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self.given += 1
        return await super().run(work, *args, **kwargs)


@pytest.mark.looptime
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("fault", [None, Fault("cut", 0.5)], ids=["healthy", "cut"])
@pytest.mark.parametrize("format", ["mp3_44100_128", "opus_48000_64", "pcm_44100"])
async def test_batched_audio_is_the_same_audio(
    make_service: MakeService, format: str, fault: Fault | None, whole: bool
) -> None:
    """While the threads are busy, each turn of theirs is expensive: chunks that came meanwhile are batched."""

    async def speak(workers: AudioThreadPool | None) -> bytes:
        own = AudioFormat.parse("pcm_22050")
        first = WordToneProvider([fault] if fault else [], name="first", chunk=0.1, format=own)
        vendors = first, WordToneProvider(name="second", chunk=0.1, format=own)
        tts = make_service(*vendors, retry=RetryConfig(max_attempts=1))
        if workers:
            tts._resources = replace(tts._resources, workers=workers)
        if whole:
            return (await tts.synthesize(SHORT_TEXT, format=format)).audio
        return await read_all(tts.stream(SHORT_TEXT, format=format))

    behind = BusyThreadPool()
    together = await speak(behind)
    behind.close()
    parsed = AudioFormat.parse(format)
    assert words_in(together, parsed) == SHORT_TEXT.split()
    if parsed.codec is not Codec.OPUS:  # whose streams have numbers drawn by lot
        assert together == await speak(None)
    assert behind.given < 20


@pytest.mark.looptime
async def test_short_utterance_takes_two_turns_of_a_thread(make_service: MakeService) -> None:
    """The first turn inspects the end, the second converts. What the encoder holds comes with the rest."""
    tts = make_service(ScriptedProvider([Say(pieces=1)]))
    workers = BusyThreadPool()
    tts._resources = replace(tts._resources, workers=workers)
    speech = await tts.synthesize("Yes.", format="mp3_44100_128")
    workers.close()
    assert speech.outcome == "spoken"
    assert workers.given == 2
