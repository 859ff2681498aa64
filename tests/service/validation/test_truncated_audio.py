"""Truncated audio: an answer that ends early, even if closed properly, is spoken again by the next provider."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steadyvoice import AsyncTTSService
from steadyvoice.audio.word_tones import words_in
from steadyvoice.speech.failure_kinds import FailureKind
from steadyvoice.speech.request import OnMidstream

from ..conftest import MakeService, loop_clock
from ..scripted_provider import Say, ScriptedProvider
from ..word_tone_provider import (
    LONG_TEXT,
    PATIENT,
    SHORT_TEXT,
    Fault,
    WordToneProvider,
    assert_all_words_once,
    read_all,
)

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("share", [0.45, 0.62, 0.78])
async def test_truncated_sentence_is_spoken_again(make_service: MakeService, share: float) -> None:
    """Only its length gives it away, and its end within a sound."""
    first = WordToneProvider([Fault("truncate", share)], name="first", timed=False)
    second = WordToneProvider(name="second")
    stream = make_service(first, second).stream(LONG_TEXT, format="pcm_8000")
    assert_all_words_once(stream, await read_all(stream), LONG_TEXT)
    assert stream.provider == "second"
    assert stream.attempts[0].error is not None
    assert stream.attempts[0].error.kind is FailureKind.TOO_SHORT


@settings(max_examples=25, database=None)
@given(
    st.lists(st.sampled_from(["rain", "stop!", "don't", "42", "über"]), min_size=1, max_size=12),
    st.sampled_from(["a", "I", "5", "so"]),
    st.floats(0.9, 0.999),
    st.sampled_from([0.03, 0.11]),
    st.sampled_from(["pcm_8000", "wav_8000", "mp3_22050_32"]),
)
@example(
    ["stop!", "rain", "don't", "über", "we", "stop!", "don't", "don't", "42", "sun", "42"],
    "a",
    0.96875,
    0.03,
    "wav_8000",
)
async def test_short_last_word_without_audio_and_times_is_spoken_again(
    words: list[str], last: str, share: float, chunk: float, name: str
) -> None:
    """It takes no longer than timestamps may drift."""
    text = " ".join([*words, last])
    first = WordToneProvider([Fault("truncate", share)], "first", chunk=chunk)
    second = WordToneProvider(name="second", pitch=1.5)
    tts = AsyncTTSService([first, second], clock=loop_clock, circuit=PATIENT, muted=False)
    stream = tts.stream(text, format=name)
    assert_all_words_once(stream, await read_all(stream), text)


async def test_abrupt_end_at_the_usual_length_is_accepted(
    make_service: MakeService,
) -> None:
    vendor = ScriptedProvider([Say()])  # a square wave to its very end
    stream = make_service(vendor).stream(LONG_TEXT, format="pcm_8000")
    await read_all(stream)
    assert stream.outcome == "spoken"


@pytest.mark.parametrize("timed", [True, False])
async def test_complete_stream_has_no_overhead(make_service: MakeService, timed: bool) -> None:
    vendor = WordToneProvider(timed=timed, every=0.05)
    speech = await make_service(vendor).synthesize(LONG_TEXT, format="pcm_8000")
    assert [request.text for request in vendor.requests] == [LONG_TEXT]
    assert speech.attempts[0].held_back == 0.0


@pytest.mark.parametrize("name", ["pcm_8000", "wav_16000", "mp3_44100_128", "opus"])
@pytest.mark.parametrize("share", [0.7, 0.9, 0.97])
async def test_synthesize_gets_the_complete_answer(make_service: MakeService, name: str, share: float) -> None:
    """At every position of the end, however properly it is closed."""
    first, second = WordToneProvider([Fault("truncate", share)], name="first"), WordToneProvider(name="second")
    speech = await make_service(first, second).synthesize(SHORT_TEXT, format=name)
    assert words_in(speech.audio, speech.format) == SHORT_TEXT.split()
    assert [(span.provider, span.begin, span.end) for span in speech.report.spans] == [("second", 0, len(SHORT_TEXT))]
    assert speech.alignment.exact
    assert speech.attempts[0].error
    assert speech.attempts[0].error.kind in (
        FailureKind.TOO_SHORT,
        FailureKind.CUT,
    )  # a frame that ends in its middle tells as well


@pytest.mark.parametrize("on_midstream", ["resume", "restart"])
async def test_timestamps_are_requested_for_validation(make_service: MakeService, on_midstream: OnMidstream) -> None:
    vendor = WordToneProvider()
    await make_service(vendor).synthesize(SHORT_TEXT, format="pcm_8000", on_midstream=on_midstream)
    assert vendor.requests[0].timestamps


async def test_timestamps_are_not_requested_for_passthrough(make_service: MakeService) -> None:
    vendor = WordToneProvider()
    speech = await make_service(vendor).synthesize(SHORT_TEXT, format="pcm_8000", on_midstream="error")
    assert not vendor.requests[0].timestamps
    assert not speech.alignment.exact


@pytest.mark.parametrize("timed", [True, False])
async def test_delivered_audio_extends_the_deadline(make_service: MakeService, timed: bool) -> None:
    """Without timestamps a sentence is held back until it is complete: delivery begins with the time left at
    its end.
    """
    vendor = ScriptedProvider([Say(every=1.0, pieces=3, aligned=timed)])
    stream = make_service(vendor).stream(LONG_TEXT, format="pcm_8000", deadline=3.0)
    await read_all(stream)
    assert not any(attempt.error for attempt in stream.attempts)
    assert stream.outcome == "spoken"
    assert len(vendor.requests) > 1 or timed
