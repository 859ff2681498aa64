"""Consumers of a resumable stream that pause, stop, leave or forget to close it."""

from __future__ import annotations

import asyncio
import gc

import pytest

from steadyvoice import AudioFormat, TTSStreamInterruptedError
from steadyvoice.audio.word_tones import synthesize_tones, words_in
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.speech.request import OnMidstream

from ..conftest import MakeService
from ..word_tone_provider import LONG_TEXT, Fault, WordToneProvider, assert_all_words_once, read_all, read_into

pytestmark = [pytest.mark.looptime, pytest.mark.slow]


async def test_next_sentence_is_fetched_while_the_present_one_plays(make_service: MakeService) -> None:
    vendor = WordToneProvider(timed=False, every=0.1)  # a little faster than it plays
    stream = make_service(vendor).stream(LONG_TEXT, format="pcm_8000")
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    before = loop.time()
    async for chunk in stream:
        waits.append(loop.time() - before)
        await asyncio.sleep(len(chunk) / 16000)
        before = loop.time()
    assert len(waits) > 5
    assert waits[0] > 1.0
    assert max(waits[1:]) == 0.0


async def test_consumer_that_stops_reading_stops_the_vendor(make_service: MakeService) -> None:
    vendor = WordToneProvider(timed=False)
    tts = make_service(vendor)
    stream = tts.stream(LONG_TEXT, format="pcm_8000")
    await anext(stream)
    await asyncio.sleep(300)
    assert len(vendor.requests) <= 3, "one plays, one waits"
    await read_all(stream)
    assert stream.outcome == "spoken"
    assert tts.get_error_state()["totals"]["failures"] == 0


@pytest.mark.parametrize(("rest", "counted"), [(600.0, 0), (5.0, 1)])
async def test_vendor_may_disconnect_an_idle_consumer(make_service: MakeService, rest: float, counted: int) -> None:
    first, second = WordToneProvider([Fault("cut", 0.9)], name="first"), WordToneProvider(name="second")
    tts = make_service(first, second)
    stream = tts.stream(LONG_TEXT, format="pcm_8000")
    parts = [await anext(stream)]
    await asyncio.sleep(rest)
    await read_into(stream, parts)
    assert_all_words_once(stream, b"".join(parts), LONG_TEXT)
    assert stream.outcome == "resumed"
    assert tts.get_error_state()["totals"]["failures"] == counted


@pytest.mark.parametrize("timed", [True, False])
async def test_consumer_that_leaves_releases_everything(make_service: MakeService, timed: bool) -> None:
    vendor = WordToneProvider(timed=timed, every=0.1)
    tts = make_service(vendor)
    stream = tts.stream(LONG_TEXT, format="pcm_8000")
    await anext(stream)
    await asyncio.sleep(0.15)
    before = len(asyncio.all_tasks())
    await stream.aclose()
    assert len(asyncio.all_tasks()) < before
    assert vendor.left == 1
    state = tts.get_error_state()
    assert (state["totals"]["failures"], state["circuit_state"]) == (0, "closed")


async def test_unclosed_stream_leaves_nothing_behind(make_service: MakeService) -> None:
    vendor = WordToneProvider(every=0.1)
    stream: AsyncSpeechStream | None = make_service(vendor).stream(LONG_TEXT, format="pcm_8000")
    assert stream is not None
    await anext(stream)
    stream = None
    gc.collect()
    await asyncio.sleep(1.0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert vendor.left == 1


@pytest.mark.parametrize("on_midstream", ["resume", "restart", "error"])
async def test_report_of_an_abandoned_stream_covers_the_delivered_audio(
    make_service: MakeService, on_midstream: OnMidstream
) -> None:
    vendor = WordToneProvider(every=0.13)
    stream = make_service(vendor).stream(LONG_TEXT, format="pcm_8000", on_midstream=on_midstream)
    audio = b"".join([await anext(stream) for _ in range(20)])
    await stream.aclose()
    (span,) = stream.report.spans
    assert (span.provider, span.begin, stream.outcome) == ("tonal", 0, "interrupted")
    assert span.stop == pytest.approx(len(audio) / 16000, abs=0.7)
    words = words_in(audio, "pcm_8000")
    if on_midstream != "error":
        assert span.exact
        assert len(words) <= len(LONG_TEXT[: span.end].split()) <= len(words) + 2


@pytest.mark.parametrize("name", ["pcm_8000", "mp3_22050_32", "opus"])
async def test_interruption_names_the_provider_and_the_delivered_text(make_service: MakeService, name: str) -> None:
    vendor = WordToneProvider([Fault("cut", 0.5)], format=AudioFormat.parse("pcm_16000"))
    stream = make_service(vendor).stream(LONG_TEXT, format=name, on_midstream="error")
    with pytest.raises(TTSStreamInterruptedError):
        await read_all(stream)
    (span,) = stream.report.spans
    assert (span.provider, span.begin, span.exact) == ("tonal", 0, False)
    assert span.stop == pytest.approx(0.5 * len(synthesize_tones(LONG_TEXT, sample_rate=8000)[0]) / 16000, rel=0.02)
    assert 0.2 < span.end / len(LONG_TEXT) < 0.9
    assert LONG_TEXT[span.end - 1] == " "
    assert not stream.alignment.exact
