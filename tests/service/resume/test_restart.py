"""Restart after a failure in mid-stream: at most two beginnings are heard, and the report names them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from steadyvoice import RetryConfig, Tone, TTSStreamInterruptedError
from steadyvoice.audio.word_tones import detect_words, words_in

from ..conftest import MakeService
from ..scripted_provider import Say, ScriptedProvider
from ..word_tone_provider import DOWN, LONG_TEXT, PATIENT, SHORT_TEXT, Fault, WordToneProvider, read_all, read_into

pytestmark = pytest.mark.looptime


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pcm_8000", "wav_8000", "ulaw_8000", "mp3_22050_32", "opus", "flac", "aac"])
@pytest.mark.parametrize("share", [0.3, 0.4713])
async def test_restart_continues_after_the_delivered_text(make_service: MakeService, name: str, share: float) -> None:
    """After a break anywhere: in half a sample, in a frame, in a container that allows one stream a file."""
    first, second = WordToneProvider([Fault("cut", share)], name="first"), WordToneProvider(name="second")
    stream = make_service(first, second).stream(SHORT_TEXT, format=name, on_midstream="restart")
    audio = await read_all(stream)
    words, again = detect_words(audio, stream.format), len(SHORT_TEXT.split())
    assert [word.text for word in words[-again:]] == SHORT_TEXT.split()
    assert len(words) > again
    broken, whole = stream.report.spans
    assert (broken.provider, broken.begin, broken.end, broken.start) == ("first", 0, 0, 0.0)
    assert (whole.provider, whole.begin, whole.end, whole.start) == ("second", 0, len(SHORT_TEXT), broken.stop)
    assert stream.alignment.words()[0].start == pytest.approx(words[-again].start, abs=0.04)
    assert stream.outcome == "resumed"


@pytest.mark.slow
async def test_after_two_broken_starts_whole_sentences_are_delivered(make_service: MakeService) -> None:
    """After any number of further failures, however late."""
    late = [Fault("cut", 0.9)] * 9
    first, second = WordToneProvider(late[:], name="first"), WordToneProvider(late[:], name="second")
    tts = make_service(first, second, Tone(), circuit=PATIENT)
    stream = tts.stream(LONG_TEXT, format="pcm_8000", on_midstream="restart")
    words, again = words_in(await read_all(stream), stream.format), len(LONG_TEXT.split())
    assert words[-again:] == LONG_TEXT.split()
    beginnings = [span for span in stream.report.spans if span.begin == span.end]
    assert len(beginnings) == 2
    assert len(words) < 3 * again
    spans = stream.report.spans[2:]
    assert (spans[0].begin, spans[-1].end) == (0, len(LONG_TEXT))
    assert all(a.end == b.begin for a, b in pairwise(spans))


async def test_fast_truncating_voice_is_not_heard_again(make_service: MakeService) -> None:
    """A held-back answer would be retried. This one was delivered, and hearing it twice is worse than trusting it."""
    vendor = ScriptedProvider([Say(seconds=0.8 * 0.06 * len(LONG_TEXT))])  # a square wave to its very end
    stream = make_service(vendor).stream(LONG_TEXT, format="pcm_8000", on_midstream="restart")
    await read_all(stream)
    assert (stream.outcome, len(vendor.requests)) == ("spoken", 1)


async def test_restart_without_a_provider_is_an_interruption(make_service: MakeService) -> None:
    first, second = WordToneProvider([Fault("cut", 0.5)], name="first"), ScriptedProvider([DOWN], name="second")
    tts = make_service(first, second, retry=RetryConfig(max_attempts=1), muted=False)
    stream = tts.stream(SHORT_TEXT, format="pcm_8000", on_midstream="restart")
    parts: list[bytes] = []
    with pytest.raises(TTSStreamInterruptedError) as caught:
        await read_into(stream, parts)
    assert caught.value.delivered == pytest.approx(len(b"".join(parts)) / 16000, abs=0.01)


@pytest.mark.parametrize("name", ["pcm_8000", "mp3_22050_32", "opus"])
async def test_truncated_audio_causes_a_restart(make_service: MakeService, name: str) -> None:
    first, second = WordToneProvider([Fault("truncate", 0.8)], name="first"), WordToneProvider(name="second")
    stream = make_service(first, second).stream(SHORT_TEXT, format=name, on_midstream="restart")
    words = words_in(await read_all(stream), stream.format)
    assert words[-len(SHORT_TEXT.split()) :] == SHORT_TEXT.split()
    assert [span.provider for span in stream.report.spans] == ["first", "second"]
    assert stream.attempts[0].held_back == 0.0
