"""Timestamps of vendors: trusted while the audio agrees with them, and what happens without them."""

from __future__ import annotations

import pytest

from steadyvoice.audio.word_tones import words_in
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.speech.markup import Markup

from ..conftest import MakeService
from ..word_tone_provider import (
    LONG_TEXT,
    PATIENT,
    SHORT_TEXT,
    Fault,
    WordToneProvider,
    assert_all_words_once,
    read_all,
)

pytestmark = [pytest.mark.looptime, pytest.mark.slow]


async def test_zero_timestamps_are_not_trusted(make_service: MakeService) -> None:
    first, second = WordToneProvider([Fault("cut", 0.5)], name="first", times="zero"), WordToneProvider(name="second")
    stream = make_service(first, second).stream(SHORT_TEXT, format="pcm_8000")
    assert_all_words_once(stream, await read_all(stream), SHORT_TEXT)
    assert stream.provider == "second"


@pytest.mark.parametrize("name", ["pcm_8000", "mp3_22050_32"])
async def test_early_timestamps_make_no_captions(make_service: MakeService, name: str) -> None:
    stream = make_service(WordToneProvider(times="half")).stream(LONG_TEXT, format=name)
    assert words_in(await read_all(stream), stream.format) == LONG_TEXT.split()
    assert not stream.alignment.exact
    assert stream.alignment.ends[-1] == pytest.approx(stream.duration)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
async def test_wrong_timestamps_cost_a_few_words_only(make_service: MakeService, share: float) -> None:
    """Timestamps are trusted until the audio has run two seconds ahead of them."""
    first, second = WordToneProvider([Fault("cut", share)], name="first", times="half"), WordToneProvider(name="second")
    stream = make_service(first, second, circuit=PATIENT).stream(LONG_TEXT, format="pcm_8000")
    lost = len(LONG_TEXT.split()) - len(words_in(await read_all(stream), "pcm_8000"))
    assert 0 < lost <= 8


@pytest.mark.parametrize(
    ("name", "text", "share"),
    [
        *((name, SHORT_TEXT, 0.4) for name in ("pcm_8000", "wav_16000", "mp3_22050_32", "mp3_44100_128", "ulaw_8000")),
        ("pcm_8000", LONG_TEXT, 0.3),
        ("pcm_8000", LONG_TEXT, 0.95),
        ("mp3_22050_32", LONG_TEXT, 0.95),
    ],
)
async def test_voice_silent_under_its_timestamps_has_failed(
    make_service: MakeService, name: str, text: str, share: float
) -> None:
    first, second = WordToneProvider([Fault("hush", share)], name="first"), WordToneProvider(name="second")
    stream = make_service(first, second).stream(text, format=name)
    assert_all_words_once(stream, await read_all(stream), text)
    assert stream.attempts[0].error
    assert stream.attempts[0].error.kind is FailureKind.SILENT_AUDIO
    assert stream.outcome == "resumed"


async def test_long_pause_after_early_timestamps_is_accepted(make_service: MakeService) -> None:
    text = 'Now we wait <break time="3s"/> <break time="3s"/> and then we go on, as if nothing had happened at all.'
    vendor = WordToneProvider(times="before", pauses=True, markup=Markup.SSML)
    stream = make_service(vendor).stream(text, format="pcm_8000")
    audio = await read_all(stream)
    assert "happened" in words_in(audio, "pcm_8000")
    assert [attempt.error for attempt in stream.attempts] == [None]


async def test_ellipsis_in_silence_is_accepted(make_service: MakeService) -> None:
    stream = make_service(WordToneProvider([Fault("hush", 0.15)])).stream("Wait" + " ." * 60, format="pcm_8000")
    await read_all(stream)
    assert stream.outcome == "spoken"
    assert [attempt.error for attempt in stream.attempts] == [None]


async def test_words_are_delivered_once_complete(make_service: MakeService) -> None:
    """The report says what that cost the listener: a word and the pause behind it."""
    stream = make_service(WordToneProvider(every=0.13)).stream(SHORT_TEXT, format="pcm_8000")
    first = await anext(stream)
    assert words_in(first, "pcm_8000") == ["The"]
    await read_all(stream)
    assert 0.13 <= stream.attempts[0].held_back <= 0.4


async def test_sentence_is_held_back_without_timestamps(make_service: MakeService) -> None:
    vendor = WordToneProvider(timed=False, every=0.13)
    stream = make_service(vendor).stream(LONG_TEXT, format="pcm_8000")
    first = await anext(stream)
    assert words_in(first, "pcm_8000") == vendor.requests[0].text.split()
    await read_all(stream)
    stop = stream.report.spans[0].stop
    assert stream.attempts[0].held_back == pytest.approx(stop, abs=0.2)


async def test_passthrough_requests_no_timestamps(make_service: MakeService) -> None:
    vendor = WordToneProvider()
    stream = make_service(vendor).stream(SHORT_TEXT, format="pcm_8000", on_midstream="error")
    await read_all(stream)
    assert [request.timestamps for request in vendor.requests] == [False]
    assert stream.attempts[0].held_back == 0.0


async def test_provider_with_missing_timestamps_is_asked_by_sentence(make_service: MakeService) -> None:
    vendor = WordToneProvider(times="never")
    stream = make_service(vendor, circuit=PATIENT).stream(LONG_TEXT, format="pcm_8000")
    assert_all_words_once(stream, await read_all(stream), LONG_TEXT)
    first, *others = vendor.requests
    assert first.text == LONG_TEXT
    assert all(len(request.text) < 150 for request in others)
    assert stream.attempts[0].error is not None
    assert "without the timestamps that were requested" in str(stream.attempts[0].error)
