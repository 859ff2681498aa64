"""Resume after a failure in mid-stream: every word is heard once, in order."""

from __future__ import annotations

import pytest

from steadyvoice import RetryConfig, TTSStreamInterruptedError
from steadyvoice.audio.word_tones import words_in
from steadyvoice.speech.markup import Markup

from ..conftest import MakeService
from ..scripted_provider import ScriptedProvider
from ..word_tone_provider import (
    DOWN,
    LONG_TEXT,
    PATIENT,
    SHORT_TEXT,
    TIMES,
    Fault,
    WordToneProvider,
    assert_all_words_once,
    read_all,
    read_into,
)

pytestmark = pytest.mark.looptime


async def test_possibly_billed_words_go_to_another_account(make_service: MakeService) -> None:
    first, second = (
        WordToneProvider([Fault("cut", 0.3)], name="first"),
        WordToneProvider([Fault("cut", 0.4)], name="second"),
    )
    third = WordToneProvider(name="third")
    stream = make_service(first, second, third).stream(SHORT_TEXT, format="pcm_8000")
    assert_all_words_once(stream, await read_all(stream), SHORT_TEXT)
    assert [len(each.requests) for each in (first, second, third)] == [1, 1, 1]
    assert [span.provider for span in stream.report.spans] == ["first", "second", "third"]


async def test_possibly_billed_words_are_spoken_again_when_no_other_is_left(make_service: MakeService) -> None:
    first, second = (
        WordToneProvider([Fault("cut", 0.3)], name="first"),
        WordToneProvider([Fault("cut", 0.4)], name="second"),
    )
    stream = make_service(first, second, circuit=PATIENT).stream(SHORT_TEXT, format="pcm_8000")
    assert_all_words_once(stream, await read_all(stream), SHORT_TEXT)


@pytest.mark.parametrize("name", ["pcm_8000", "wav_16000", "ulaw_8000", "mp3_44100_128", "mp3_22050_32", "opus"])
@pytest.mark.parametrize("manner", ["cut", "stall", "drip", "truncate"])
async def test_next_provider_resumes_at_the_next_word(make_service: MakeService, name: str, manner: str) -> None:
    first, second = WordToneProvider([Fault(manner, 0.47)], name="first"), WordToneProvider(name="second", pitch=1.5)  # type: ignore[arg-type]
    stream = make_service(first, second, timeouts=TIMES).stream(SHORT_TEXT, format=name)
    audio = await read_all(stream)
    assert_all_words_once(stream, audio, SHORT_TEXT)
    assert stream.outcome == "resumed"
    one, two = stream.report.spans
    assert (one.provider, two.provider) == ("first", "second")
    assert SHORT_TEXT[two.begin - 1] == " "
    assert second.requests[0].text == SHORT_TEXT[two.begin :]
    assert second.requests[0].previous_text == SHORT_TEXT[: two.begin]
    assert [attempt.error is None for attempt in stream.attempts] == [False, True]


async def test_end_before_a_short_last_word_is_not_complete(make_service: MakeService) -> None:
    text = "42 we I rain 42 I"
    first, second = WordToneProvider([Fault("truncate", 0.8754)], name="first"), WordToneProvider(name="second")
    stream = make_service(first, second).stream(text, format="wav_8000")
    assert_all_words_once(stream, await read_all(stream), text)


async def test_same_provider_resumes_when_no_other_voice_is_allowed(make_service: MakeService) -> None:
    first, second = WordToneProvider([Fault("cut", 0.5)], name="first"), WordToneProvider(name="second")
    stream = make_service(first, second).stream(SHORT_TEXT, format="pcm_8000", voice_substitution="never")
    assert_all_words_once(stream, await read_all(stream), SHORT_TEXT)
    assert [span.provider for span in stream.report.spans] == ["first", "first"]
    assert not second.requests


async def test_provider_that_makes_progress_is_retried(make_service: MakeService) -> None:
    """At least one word is spoken each time, so the remaining text is new, and three attempts are not the limit."""
    vendor = WordToneProvider([Fault("cut", 0.3)] * 6)
    stream = make_service(vendor, circuit=PATIENT).stream(SHORT_TEXT, format="pcm_8000")
    assert_all_words_once(stream, await read_all(stream), SHORT_TEXT)
    assert len(vendor.requests) == 7
    assert stream.outcome == "spoken"


async def test_rest_is_reported_silence_when_no_provider_can_resume(make_service: MakeService) -> None:
    first, second = WordToneProvider([Fault("cut", 0.5)], name="first"), ScriptedProvider([DOWN], name="second")
    stream = make_service(first, second, retry=RetryConfig(max_attempts=1)).stream(SHORT_TEXT, format="mp3_22050_32")
    audio = await read_all(stream)
    spoken_end = stream.report.spans[0].end
    assert words_in(audio, stream.format) == SHORT_TEXT[:spoken_end].split()
    assert stream.outcome == "muted"
    assert stream.captions().count("says") == 1


async def test_error_follows_the_last_complete_word(make_service: MakeService) -> None:
    first, second = WordToneProvider([Fault("cut", 0.5)], name="first"), ScriptedProvider([DOWN], name="second")
    once = RetryConfig(max_attempts=1)
    stream = make_service(first, second, retry=once, muted=False).stream(SHORT_TEXT, format="mp3_44100_128")
    parts: list[bytes] = []
    with pytest.raises(TTSStreamInterruptedError, match=r"first.*second"):
        await read_into(stream, parts)
    assert words_in(b"".join(parts), stream.format) == SHORT_TEXT[: stream.report.spans[0].end].split()


async def test_no_provider_resumes_within_a_tag(make_service: MakeService) -> None:
    text = 'Now we wait <break time="1.5s" /> and go <emphasis level="strong">on</emphasis> again.'
    for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        first = WordToneProvider([Fault("cut", share)], name="first", markup=Markup.SSML)
        second = WordToneProvider(name="second", markup=Markup.SSML)
        stream = make_service(first, second).stream(text, format="pcm_8000")
        assert_all_words_once(stream, await read_all(stream), text)
        previous_text = second.requests[0].previous_text or ""
        assert previous_text.count("<") == previous_text.count(">")


async def test_text_without_spaces_is_split_into_parts(make_service: MakeService) -> None:
    """Thai has no spaces, and the timestamps are of letters only."""
    text = "สวัสดีครับผมชื่อ" * 60
    vendor = WordToneProvider()
    stream = make_service(vendor).stream(text, format="pcm_8000")
    await read_all(stream)
    assert "".join(request.text for request in vendor.requests) == text
    assert max(len(request.text) for request in vendor.requests) <= 400


@pytest.mark.slow
async def test_long_text_keeps_its_prosody_by_request_ids(make_service: MakeService) -> None:
    vendor = WordToneProvider(max_characters=90)
    stream = make_service(vendor).stream(LONG_TEXT, format="mp3_22050_32")
    assert_all_words_once(stream, await read_all(stream), LONG_TEXT)
    assert len(vendor.requests) > 4
    assert [request.previous_request_ids for request in vendor.requests[:3]] == [
        (),
        ("tonal-1",),
        ("tonal-1", "tonal-2"),
    ]


async def test_interrupted_piece_contributes_no_request_id(make_service: MakeService) -> None:
    """An id would replace the text that was heard last, because the vendor accepts only one of them."""
    vendor = WordToneProvider([Fault("truncate", 1.0), Fault("cut", 0.5)], max_characters=90)  # the first is none
    stream = make_service(vendor, circuit=PATIENT).stream(LONG_TEXT, format="pcm_8000")
    assert_all_words_once(stream, await read_all(stream), LONG_TEXT)
    assert [request.previous_request_ids for request in vendor.requests[:4]] == [
        (),
        ("tonal-1",),
        (),
        ("tonal-3",),
    ]
    assert vendor.requests[2].previous_text
