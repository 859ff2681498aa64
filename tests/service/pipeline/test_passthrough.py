"""Passthrough to a sink: the same bytes, timeouts and accounting as without one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from steadyvoice import CacheConfig, CircuitBreakerConfig, TimeoutConfig, TTSError, TTSStreamInterruptedError
from steadyvoice.speech.errors import TTSCutError

from ..conftest import MakeService
from ..scripted_provider import pcm
from .passthrough_provider import CollectingSink, PassthroughProvider, ReceivedAudio, Step, read_with_sink

pytestmark = pytest.mark.looptime

TEXT = "Good morning, and a good day to everybody."
WITH_AND_WITHOUT_SINK = pytest.mark.parametrize("with_sink", [True, False], ids=["with_sink", "iterated"])


def timed_chunks(count: int, every: float = 0.5, seconds: float = 0.5) -> list[Step]:
    """Chunks of audio that can be told apart."""
    return [(every, pcm(seconds, level=1000 + 10 * (number % 500))) for number in range(count)]


def audio_of(steps: list[Step]) -> bytes:
    return b"".join(what for _, what in steps if isinstance(what, bytes))


def sink_if(with_sink: bool) -> CollectingSink | None:
    return CollectingSink() if with_sink else None


async def test_first_chunk_is_iterated_and_the_others_go_to_the_sink(make_service: MakeService) -> None:
    steps = timed_chunks(5)
    tts = make_service(PassthroughProvider(steps=steps))

    heard = await read_with_sink(tts, TEXT, CollectingSink())

    assert heard.data == audio_of(steps)
    assert heard.sink_chunks == 4


@WITH_AND_WITHOUT_SINK
async def test_report_is_the_same_with_and_without_a_sink(make_service: MakeService, with_sink: bool) -> None:
    tts = make_service(PassthroughProvider(steps=timed_chunks(5)))
    stream, sink = tts.stream(TEXT, format="pcm_8000", on_midstream="error"), sink_if(with_sink)
    async for _ in stream:
        if sink:
            stream.attach_sink(sink)

    assert stream.outcome == "spoken"
    assert stream.duration == pytest.approx(2.5)
    [attempt] = stream.attempts
    assert attempt.waited == pytest.approx(2.5)
    assert attempt.first_audio == pytest.approx(0.5)
    assert attempt.audio == pytest.approx(2.5)
    assert stream.billed == 5
    assert tts.get_error_state()["totals"]["successes"] == 1


@pytest.mark.parametrize("spills", [(1,), (2, 3), (1, 2, 3, 4), (4,)])
async def test_chunk_refused_by_the_sink_is_iterated_in_order(
    make_service: MakeService, spills: tuple[int, ...]
) -> None:
    steps = timed_chunks(6)
    tts = make_service(PassthroughProvider(steps=steps))

    heard = await read_with_sink(tts, TEXT, CollectingSink(spills))

    assert heard.data == audio_of(steps)
    assert heard.sink_chunks == 5 - len(spills)


@WITH_AND_WITHOUT_SINK
async def test_stall_timeout_applies_to_each_chunk(make_service: MakeService, with_sink: bool) -> None:
    steps = [*timed_chunks(4, every=2.5, seconds=4.0), (60.0, pcm(0.5))]
    tts = make_service(PassthroughProvider(steps=steps), timeouts=TimeoutConfig(stall_timeout=3.0))
    clock = asyncio.get_running_loop().time
    before, heard = clock(), ReceivedAudio()

    with pytest.raises(TTSStreamInterruptedError):
        await read_with_sink(tts, TEXT, sink_if(with_sink), into=heard)

    assert clock() - before == pytest.approx(4 * 2.5 + 3.0)
    assert heard.data == audio_of(steps[:4])
    assert tts.get_error_state()["last_error"]["kind"] == "stalled"


@WITH_AND_WITHOUT_SINK
async def test_slow_audio_times_out_at_the_same_moment_with_a_sink(make_service: MakeService, with_sink: bool) -> None:
    tts = make_service(
        PassthroughProvider(steps=timed_chunks(500, every=1.0, seconds=0.1)), timeouts=TimeoutConfig(slow_timeout=3.0)
    )
    clock = asyncio.get_running_loop().time
    before, heard = clock(), ReceivedAudio()

    with pytest.raises(TTSStreamInterruptedError):
        await read_with_sink(tts, TEXT, sink_if(with_sink), into=heard)

    assert clock() - before == pytest.approx(6.0)
    assert heard.data == audio_of(timed_chunks(6, seconds=0.1))
    assert tts.get_error_state()["last_error"]["kind"] == "too_slow"


@WITH_AND_WITHOUT_SINK
async def test_total_timeout_applies_with_a_sink(make_service: MakeService, with_sink: bool) -> None:
    tts = make_service(
        PassthroughProvider(steps=timed_chunks(500, every=1.0, seconds=0.95)), timeouts=TimeoutConfig(total_timeout=1.5)
    )
    clock = asyncio.get_running_loop().time
    before = clock()

    with pytest.raises(TTSStreamInterruptedError):
        await read_with_sink(tts, TEXT, sink_if(with_sink))

    assert clock() - before == pytest.approx(11.0)  # when 1.5 s and what came have less than a second left
    assert tts.get_error_state()["last_error"]["kind"] == "total_timeout"


@WITH_AND_WITHOUT_SINK
async def test_endless_audio_is_not_passed_through_without_limit(make_service: MakeService, with_sink: bool) -> None:
    tts = make_service(PassthroughProvider(steps=timed_chunks(5000, every=0.4)))
    heard = ReceivedAudio()

    with pytest.raises(TTSStreamInterruptedError):
        await read_with_sink(tts, TEXT, sink_if(with_sink), into=heard)

    assert tts.get_error_state()["last_error"]["kind"] == "too_long"
    assert len(heard.data) < len(pcm(0.5)) * 500


@WITH_AND_WITHOUT_SINK
async def test_cut_stream_is_not_reported_as_complete(make_service: MakeService, with_sink: bool) -> None:
    steps: list[Step] = [*timed_chunks(3), (0.5, TTSCutError("cut off", provider="scripted"))]
    tts = make_service(PassthroughProvider(steps=steps))
    heard = ReceivedAudio()

    with pytest.raises(TTSStreamInterruptedError):
        await read_with_sink(tts, TEXT, sink_if(with_sink), into=heard)

    assert heard.data == audio_of(steps)
    assert tts.get_error_state()["totals"]["failures"] == 1


async def test_chunks_to_the_sink_show_progress_to_the_circuit(make_service: MakeService) -> None:
    circuit = CircuitBreakerConfig(hung_after=3.0)
    tts = make_service(PassthroughProvider(steps=timed_chunks(10, every=2.0, seconds=4.0)), circuit=circuit)
    calm = asyncio.ensure_future(read_with_sink(tts, TEXT, CollectingSink()))

    await asyncio.sleep(15.0)
    tts.circuits["scripted"].acquire().ignore()  # somebody comes by, and sees who is silent

    assert tts.circuits["scripted"].snapshot().hung_calls == 0
    await calm


async def test_closing_the_service_interrupts_passthrough(make_service: MakeService) -> None:
    tts = make_service(PassthroughProvider(steps=timed_chunks(50)))
    heard = ReceivedAudio()
    listening = asyncio.ensure_future(read_with_sink(tts, TEXT, CollectingSink(), into=heard))
    await asyncio.sleep(5.2)

    await tts.aclose()

    with pytest.raises(TTSStreamInterruptedError, match="closed"):
        await listening
    assert heard.data == audio_of(timed_chunks(10))
    assert tts.get_error_state()["totals"]["failures"] == 0


async def test_consumer_may_return_to_iteration_at_any_time(make_service: MakeService) -> None:
    vendor = PassthroughProvider(steps=timed_chunks(50))
    tts = make_service(vendor)
    listening = asyncio.ensure_future(read_with_sink(tts, TEXT, CollectingSink()))
    await asyncio.sleep(5.2)

    listening.cancel()

    with pytest.raises(asyncio.CancelledError):
        await listening
    state = tts.get_error_state()
    assert (state["totals"]["failures"], state["totals"]["successes"]) == (
        0,
        1,
    )  # it spoke well as long as it was heard


async def test_resumable_stream_does_not_use_the_sink(make_service: MakeService, tmp_path: Path) -> None:
    steps = timed_chunks(5)
    tts = make_service(PassthroughProvider(steps=steps), cache=CacheConfig(tmp_path))

    heard = await read_with_sink(tts, TEXT, CollectingSink())

    assert (heard.data, heard.sink_chunks) == (audio_of(steps), 0)
    await tts.aclose()


async def test_error_of_the_sink_reaches_the_consumer(make_service: MakeService) -> None:
    class Broken(CollectingSink):
        def write(self, data: bytes) -> None:
            raise RuntimeError("a pipe burst")

    tts = make_service(PassthroughProvider(steps=timed_chunks(5)))

    with pytest.raises((RuntimeError, TTSError), match="a pipe burst"):
        await read_with_sink(tts, TEXT, Broken())


@WITH_AND_WITHOUT_SINK
async def test_half_sample_at_the_end_is_completed(make_service: MakeService, with_sink: bool) -> None:
    steps = [*timed_chunks(3), (0.5, pcm(0.5)[:-1])]
    tts = make_service(PassthroughProvider(steps=steps))

    heard = await read_with_sink(tts, TEXT, sink_if(with_sink))

    assert heard.data == audio_of(steps) + b"\0"
