"""Ends of a stream: cancelled reads, `close()` from elsewhere, and reads after the end never pass for a whole one."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from steadyvoice import (
    AsyncSpeechStream,
    AsyncTTSService,
    CacheConfig,
    HedgeConfig,
    SpeechStream,
    TTSService,
    TTSStreamInterruptedError,
)
from steadyvoice.breaker import Event
from steadyvoice.speech.errors import TTSServerError

from ..conftest import BRIEF, MakeService
from ..scripted_provider import Hang, Say, ScriptedProvider
from ..word_tone_provider import SHORT_TEXT

SLOW = Say(seconds=12.0, pieces=12, first_after=0.2, every=1.0)

MODES: dict[str, dict[str, Any]] = {
    "as it comes": {"on_midstream": "error"},
    "resumed": {"on_midstream": "resume"},
    "restarted": {"on_midstream": "restart"},
}


async def read(stream: AsyncSpeechStream) -> bytes:
    return await anext(stream)


async def first_chunk(stream: AsyncSpeechStream) -> None:
    """Read until something is heard, if the way it is spoken lets that come before the end."""
    await asyncio.wait_for(anext(stream), 30.0)


def settled(tts: AsyncTTSService) -> dict[str, int]:
    state: dict[str, Any] = tts.get_error_state()
    return {"failures": state["totals"]["failures"], "running": state["concurrency"]["in_use"]}


@pytest.mark.looptime
@pytest.mark.parametrize("mode", MODES)
async def test_reading_on_after_a_cancelled_read_is_an_error(make_service: MakeService, mode: str) -> None:
    vendor = ScriptedProvider([SLOW])
    tts = make_service(vendor, **MODES[mode])
    stream = tts.stream(SHORT_TEXT, format="pcm_8000")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.1)
    for _ in range(2):
        with pytest.raises(TTSStreamInterruptedError, match="was cancelled before its end"):
            await anext(stream)
    assert stream.outcome == "interrupted"
    assert vendor.cut_short == 1, "the vendor is stopped by the cancellation itself"
    assert settled(tts) == {"failures": 0, "running": 0}
    assert tts.streams == []


@pytest.mark.looptime
async def test_cancelled_read_does_not_end_the_stream_cleanly(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([SLOW]), on_midstream="error")
    stream = tts.stream(SHORT_TEXT, format="pcm_8000")
    heard = [await anext(stream), await anext(stream)]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.6)
    with pytest.raises(TTSStreamInterruptedError, match=r"after 2\.0 s of audio"):
        heard += [chunk async for chunk in stream]
    assert len(heard) == 2


@pytest.mark.looptime
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [0.1, 2.5])
async def test_closing_ends_a_read_that_is_pending_in_another_task(
    make_service: MakeService, mode: str, after: float
) -> None:
    vendor = ScriptedProvider([SLOW])
    tts = make_service(vendor, **MODES[mode])
    stream = tts.stream(SHORT_TEXT, format="pcm_8000")

    async def play() -> None:
        async for _ in stream:
            pass

    playing = asyncio.create_task(play())
    await asyncio.sleep(after)
    await stream.aclose()
    with pytest.raises(TTSStreamInterruptedError, match="it was closed before its end"):
        await playing
    assert not playing.cancelled()
    assert stream.outcome == "interrupted"
    assert vendor.cut_short == 1
    assert settled(tts) == {"failures": 0, "running": 0}


@pytest.mark.looptime
async def test_reader_gets_an_error_when_another_task_closed_the_stream(make_service: MakeService) -> None:
    stream = make_service(ScriptedProvider([SLOW]), on_midstream="error").stream(SHORT_TEXT, format="pcm_8000")
    await anext(stream)
    await asyncio.create_task(stream.aclose())
    with pytest.raises(TTSStreamInterruptedError):
        await anext(stream)
    assert stream.outcome == "interrupted"


@pytest.mark.looptime
async def test_any_number_of_tasks_may_close_at_once(make_service: MakeService) -> None:
    vendor = ScriptedProvider([SLOW])
    stream = make_service(vendor, on_midstream="error").stream(SHORT_TEXT, format="pcm_8000")
    reading = asyncio.create_task(read(stream))
    await asyncio.sleep(0.1)
    await asyncio.gather(*(stream.aclose() for _ in range(5)))
    assert isinstance(reading.exception(), TTSStreamInterruptedError)
    assert vendor.cut_short == 1


@pytest.mark.looptime
async def test_second_reader_is_refused_and_the_first_continues(make_service: MakeService) -> None:
    stream = make_service(ScriptedProvider([SLOW]), on_midstream="error").stream(SHORT_TEXT, format="pcm_8000")
    first = asyncio.create_task(read(stream))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task is reading"):
        await anext(stream)
    await first
    assert len([chunk async for chunk in stream]) == 11
    assert stream.outcome == "spoken"


@pytest.mark.looptime
async def test_end_and_error_are_raised_by_every_further_read(make_service: MakeService) -> None:
    tts = make_service(ScriptedProvider([Say(), TTSServerError("HTTP 503")]), muted=False, on_midstream="error")
    whole = tts.stream("Hi", format="pcm_8000")
    assert [chunk async for chunk in whole]
    assert [chunk async for chunk in whole] == []
    await whole.aclose()
    assert whole.outcome == "spoken"
    failing = tts.stream("Hi", format="pcm_8000")
    for _ in range(3):
        with pytest.raises(TTSServerError, match="HTTP 503"):
            await anext(failing)
    await failing.aclose()
    assert failing.outcome == "failed"


@pytest.mark.looptime
async def test_cancelled_reading_task_stays_cancelled(make_service: MakeService) -> None:
    vendor = ScriptedProvider([SLOW])
    stream = make_service(vendor).stream(SHORT_TEXT, format="pcm_8000")
    reading = asyncio.create_task(read(stream))
    await asyncio.sleep(0.1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (stream.outcome, vendor.cut_short) == ("interrupted", 1)


@pytest.mark.looptime
async def test_both_of_a_race_are_stopped_by_closing(make_service: MakeService) -> None:
    first, second = ScriptedProvider([Say(), Say(), Hang()], name="first"), ScriptedProvider([Hang()], name="second")
    hedging = HedgeConfig(minimum_samples=2, budget=1.0)
    tts = make_service(first, second, hedging=hedging, on_midstream="error")
    for _ in range(2):
        await tts.synthesize("Good morning", format="pcm_8000")
    stream = tts.stream("Good morning", format="pcm_8000")
    reading = asyncio.create_task(read(stream))
    await asyncio.sleep(2.0)
    assert len(second.requests) == 1, "both are asked by now"
    await stream.aclose()
    assert isinstance(reading.exception(), TTSStreamInterruptedError)
    await asyncio.sleep(0.1)
    assert (first.cut_short, second.cut_short) == (1, 1)


@pytest.mark.looptime
async def test_closing_a_stream_for_the_cache_stops_it_unless_shared(make_service: MakeService, tmp_path: Any) -> None:
    vendor = ScriptedProvider([SLOW])
    tts = make_service(vendor, on_midstream="error", cache=CacheConfig(tmp_path))
    one, two = (tts.stream(SHORT_TEXT, format="pcm_8000") for _ in range(2))
    reading = [asyncio.create_task(read(stream)) for stream in (one, two)]
    await asyncio.wait(reading)
    pending = asyncio.create_task(read(one))
    await asyncio.sleep(0)
    await one.aclose()
    assert isinstance(pending.exception(), TTSStreamInterruptedError)
    assert one.outcome == "interrupted"
    assert vendor.cut_short == 0
    assert len([chunk async for chunk in two]) == 11
    assert two.outcome in ("spoken", "cached")
    await tts.aclose()


# In threads: real time, and as little of it as there can be.


@contextmanager
def alarm(seconds: float, error: type[Exception]) -> Iterator[None]:
    """Have a signal handler raise in this thread after so many seconds."""

    def raising(number: int, frame: FrameType | None) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, raising)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class SoftTimeLimitError(Exception):
    """Exception that a task queue raises from its signal handler."""


def test_read_interrupted_by_a_signal_handler_does_not_end_the_stream_cleanly() -> None:
    vendor = ScriptedProvider([Say(seconds=3.0, pieces=3, first_after=0.0, every=0.3)])
    with TTSService([vendor], circuit=BRIEF, on_midstream="error") as tts:
        stream = tts.stream(SHORT_TEXT, format="pcm_8000")
        next(stream)
        with pytest.raises(SoftTimeLimitError), alarm(0.05, SoftTimeLimitError):
            next(stream)
        with pytest.raises(TTSStreamInterruptedError):
            b"".join(stream)
        assert stream.outcome == "interrupted"
        assert vendor.cut_short == 1
        assert tts.synthesize("Good morning", format="pcm_8000").outcome == "spoken", "the service goes on"


def test_closing_from_another_thread_ends_a_pending_read() -> None:
    vendor = ScriptedProvider([Say(pieces=2, first_after=0.0, every=3600.0)])
    with TTSService([vendor], circuit=BRIEF, on_midstream="error") as tts:
        stream = tts.stream("Good morning", format="pcm_8000")
        started, ended = threading.Event(), []

        def play() -> None:
            try:
                for _ in stream:
                    started.set()
            except TTSStreamInterruptedError as error:
                ended.append(error)

        thread = threading.Thread(target=play)
        thread.start()
        assert started.wait(10)
        stream.close()
        thread.join(10)
        assert not thread.is_alive()
        assert len(ended) == 1
        assert (stream.outcome, vendor.cut_short) == ("interrupted", 1)


Call = Callable[[TTSService, SpeechStream], object]
CALLS: dict[str, Call] = {
    "synthesize": lambda tts, stream: tts.synthesize("Hi", format="pcm_8000"),
    "close": lambda tts, stream: tts.close(),
    "reconfigure": lambda tts, stream: tts.reconfigure(muted=True),
    "check_credit": lambda tts, stream: tts.check_credit(),
    "next": lambda tts, stream: next(stream),
    "close the stream": lambda tts, stream: stream.close(),
}


@pytest.mark.parametrize("name", CALLS)
def test_listener_that_calls_its_own_service_gets_an_error(name: str) -> None:
    vendor = ScriptedProvider([TTSServerError("HTTP 503"), TTSServerError("HTTP 503"), Say(first_after=0.0)])
    with TTSService([vendor], circuit=BRIEF) as tts:
        other = tts.stream("Hi", format="pcm_8000")
        raised: list[BaseException] = []

        def listener(event: Event) -> None:
            try:
                CALLS[name](tts, other)
            except BaseException as error:
                raised.append(error)
                raise

        tts.circuits["scripted"].subscribe(listener)
        while not raised:
            tts.synthesize("Hi", format="pcm_8000")
        assert isinstance(raised[0], RuntimeError)
        assert "from the service's own event loop" in str(raised[0])
        tts.reset_circuit_breaker()
        assert tts.synthesize("Hi", format="pcm_8000").outcome == "spoken"
