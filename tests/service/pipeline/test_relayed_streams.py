"""Streams of usual requests are relayed: they are the same as from the pipeline, and wait for a slow reader.

What every fault of a vendor does is compared in `tests/faults/test_relayed_audio.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from steadyvoice import (
    AsyncSpeechStream,
    AsyncTTSService,
    CircuitBreakerConfig,
    ElevenLabs,
    Tone,
    TTSCancelledError,
    TTSService,
    TTSStreamInterruptedError,
)
from steadyvoice.service.options import ResolvedOptions
from steadyvoice.simulator import Simulator, words_in
from steadyvoice.simulator.fault_injection.actions import Cut, FaultAction, Stall
from tests.leaked_objects import no_garbage

from .test_collected_speech import state, until

TEXT = "The quick brown fox jumps over the lazy dog, and nobody who saw it is any the wiser."
LONG = " ".join([TEXT] * 8)
FORMAT = "pcm_44100"
READ_AHEAD = 3.0 + 1.5
"""Seconds of audio in this format that are read ahead at most: three, and what two reads of a socket have."""
PATIENT = CircuitBreakerConfig(failure_threshold=1.0, window_size=100, minimum_calls=100)

pytestmark = pytest.mark.slow


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(voice="tones") as running:
        yield running


async def read_all(stream: AsyncSpeechStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def warm(sim: Simulator, *more: Any, **settings: Any) -> AsyncTTSService:
    """Return a service that has streamed once, so that a connection and a plan are known."""
    tts = AsyncTTSService([ElevenLabs("any", base_url=sim.url), *more], muted=False, circuit=PATIENT, **settings)
    assert await read_all(tts.stream(TEXT, format=FORMAT))
    return tts


async def begun(tts: AsyncTTSService, sim: Simulator, *faults: FaultAction) -> tuple[AsyncSpeechStream, bytes]:
    """Return a relayed stream of the long text, and its first chunk. One that a busy machine delays is left."""
    for _ in range(5):
        sim.faults.set(*faults)
        stream = tts.stream(LONG, format=FORMAT)
        first = await anext(stream)
        if tts.relays:
            return stream, first
        await stream.aclose()
    raise AssertionError("no stream was relayed")


async def stalled(tts: AsyncTTSService, sim: Simulator) -> tuple[AsyncSpeechStream, asyncio.Task[bytes]]:
    """Return a relayed stream whose vendor is silent behind the first words, and a read that waits for the next."""
    sim.faults.set(Stall(after=1.5))
    stream = tts.stream(TEXT, format=FORMAT)
    reading = asyncio.create_task(read_all(stream))
    await until(lambda: any(relay.has_audio for relay in tts.relays))
    await asyncio.sleep(0.05)
    assert len(tts.relays) == 1
    return stream, reading


async def test_second_stream_is_relayed_and_is_the_same(sim: Simulator) -> None:
    async with await warm(sim) as tts:
        # With the announced outcome of the gateway's own streams, which are never relayed here.
        former = tts.open_stream(TEXT, ResolvedOptions.resolve({"format": FORMAT}), hold=False, announced=True)
        audio = await read_all(former)
        stream, relays, heard, current = tts.stream(TEXT, format=FORMAT), 0, b"", 0
        assert (stream.format, stream.outcome, stream.provider, tts.relays) == (former.format, "spoken", None, set())
        async for chunk in stream:
            relays += len(tts.relays)
            heard += chunk
            if stream.report.current:
                shift, times = stream.report.current
                current = len(times.text)
                assert shift == 0.0
                assert TEXT.startswith(times.text)
                assert times.ends[-1] <= len(heard) / 88_200 + 0.1
        assert relays
        assert current
        assert heard == audio
        assert stream.alignment == former.alignment
        assert (stream.outcome, stream.provider) == ("spoken", "elevenlabs")
        assert stream.report.spans == former.report.spans
        assert state(tts) == {"calls": 3, "failures": 0, "ignored": 0, "in use": 0, "active": 0, "relays": 0}
        assert tts.streams == []


async def test_slow_reader_stops_the_vendor_and_no_clock_runs_meanwhile(sim: Simulator) -> None:
    timeouts = {"elevenlabs": {"stall_timeout": 0.4, "read_timeout": 0.4, "total_timeout": 1.5}}
    async with await warm(sim, provider_timeouts=timeouts) as tts:
        stream, first = await begun(tts, sim)
        parts = [first]
        for _ in range(4):
            await asyncio.sleep(0.5)
            assert len(tts.relays) == 1, "it waits, and was not handed over"
            parts.append(await anext(stream))
        parts.append(await read_all(stream))
        assert words_in(b"".join(parts), FORMAT) == words_in(await read_all(tts.stream(LONG, format=FORMAT)), FORMAT)
        assert stream.outcome == "spoken"
        assert max(attempt.waited for attempt in stream.attempts) < 1.5
        assert state(tts)["failures"] == 0


async def test_what_is_read_ahead_is_bounded(sim: Simulator) -> None:
    async with await warm(sim) as tts:
        stream = tts.stream(LONG, format=FORMAT)
        heard = len(await anext(stream)) / 88_200
        await asyncio.sleep(0.5)
        await stream.aclose()
        with pytest.raises(TTSStreamInterruptedError) as interrupted:
            await anext(stream)
        assert 3.0 <= interrupted.value.delivered - heard <= READ_AHEAD
        assert stream.outcome == "interrupted"
        await sim.idle()
        assert state(tts) == {"calls": 2, "failures": 0, "ignored": 0, "in use": 0, "active": 0, "relays": 0}


async def test_all_words_of_a_burst_are_heard_though_nothing_follows() -> None:
    """Chunks that follow each other closely are read together, which must not depend on another one.

    The clock stands still, so that all of them follow closely.
    """
    stopped: list[float] = []

    def clock() -> float:
        return stopped[0] if stopped else time.monotonic()

    async with Simulator(voice="tones", real_time_factor=0.05) as sim, await warm(sim, clock=clock) as tts:
        stopped.append(clock())
        sim.faults.set(Stall(after=2.8))
        stream, heard = tts.stream(TEXT, format=FORMAT), 0.0
        try:
            async with asyncio.timeout(2.0):
                while heard < 2.2:
                    heard += len(await anext(stream)) / 88_200
            assert len(tts.relays) == 1
        finally:
            stopped.clear()
            await stream.aclose()


@pytest.mark.parametrize(("unread", "failures"), [(1.0, 1), (31.0, 0)])
async def test_vendor_may_close_a_connection_that_is_left_unread_for_long(
    sim: Simulator, unread: float, failures: int
) -> None:
    skipped = 0.0
    async with await warm(sim, Tone(), clock=lambda: time.monotonic() + skipped) as tts:
        stream, first = await begun(tts, sim, Cut(after=8.0))
        parts = [first]
        await asyncio.sleep(0.3)
        assert len(tts.relays) == 1
        skipped += unread
        parts.append(await read_all(stream))
        assert stream.outcome == "resumed"
        assert [span.provider for span in stream.report.spans] == ["elevenlabs", "tone"]
        assert stream.report.spans[0].end == stream.report.spans[1].begin > 0
        assert state(tts)["failures"] == failures


@pytest.mark.usefixtures("frozen_heap")
@pytest.mark.parametrize("way", ["closed", "cancelled", "dropped", "left full"])
async def test_stream_that_is_left_ends_its_request_and_leaves_nothing(sim: Simulator, way: str) -> None:
    async with await warm(sim) as tts:
        with no_garbage():
            if way == "left full":
                stream = tts.stream(LONG, format=FORMAT)
                await anext(stream)
                await asyncio.sleep(0.1)
                await stream.aclose()
            elif way == "dropped":
                sim.faults.set(Stall(after=1.5))
                stream = tts.stream(TEXT, format=FORMAT)
                await anext(stream)
                assert len(tts.relays) == 1
            else:
                stream, reading = await stalled(tts, sim)
                if way == "cancelled":
                    reading.cancel()
                else:
                    await stream.aclose()
                with pytest.raises(asyncio.CancelledError if way == "cancelled" else TTSStreamInterruptedError):
                    await reading
                del reading
            if way != "dropped":
                assert stream.outcome == "interrupted"
                assert isinstance(stream.attempts[-1].error, TTSCancelledError)
                assert 0 < stream.report.spans[0].end < len(LONG)
            del stream
            await sim.idle()
            await asyncio.sleep(0.05)
        assert state(tts) == {"calls": 2, "failures": 0, "ignored": 0, "in use": 0, "active": 0, "relays": 0}
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closed_service_interrupts_a_relayed_stream(sim: Simulator) -> None:
    tts = await warm(sim)
    stream, reading = await stalled(tts, sim)
    await tts.aclose()
    with pytest.raises(TTSStreamInterruptedError, match="the service was closed"):
        await reading
    await sim.idle()
    assert stream.outcome == "interrupted"
    assert state(tts)["in use"] == state(tts)["active"] == state(tts)["relays"] == 0


async def test_stream_from_before_a_reconfiguration_keeps_its_provider_and_its_report(sim: Simulator) -> None:
    async with await warm(sim) as tts:
        unread = tts.stream(TEXT, format=FORMAT)
        running = tts.stream(LONG, format=FORMAT)
        report, parts = running.report, [await anext(running)]
        await tts.reconfigure(providers=[Tone()])
        assert not tts.relays
        parts.append(await read_all(running))
        assert running.report is report
        assert (running.outcome, running.provider) == ("spoken", "elevenlabs")
        assert len(words_in(b"".join(parts), FORMAT)) == len(LONG.split())
        assert len(words_in(await read_all(unread), FORMAT)) == len(TEXT.split())
        assert unread.provider == "elevenlabs"


async def test_other_provider_goes_on_with_the_next_word(sim: Simulator) -> None:
    async with await warm(sim, Tone(), provider_timeouts={"elevenlabs": {"stall_timeout": 0.3}}) as tts:
        stream, reading = await stalled(tts, sim)
        await reading
        assert stream.outcome == "resumed"
        assert [attempt.provider for attempt in stream.attempts] == ["elevenlabs", "tone"]
        assert stream.report.spans[0].end == stream.report.spans[1].begin > 0
        assert state(tts)["failures"] == 1


async def test_streams_of_threads_are_relayed(sim: Simulator) -> None:
    def read_twice() -> list[bytes]:
        with TTSService([ElevenLabs("any", base_url=sim.url)], muted=False) as tts:
            return [b"".join(tts.stream(TEXT, format=FORMAT)) for _ in range(2)]

    first, second = await asyncio.to_thread(read_twice)
    assert first == second
    assert len(words_in(first, FORMAT)) == len(TEXT.split())
