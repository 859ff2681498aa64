"""Seam between two voices: unchanged frames before it, equal loudness and a natural pause."""

from __future__ import annotations

from array import array

import pytest

from steadyvoice import AudioFormat
from steadyvoice.audio.conversion import convert
from steadyvoice.audio.crossfade import speech_level as level_of
from steadyvoice.audio.mpeg import Mp3Framer
from steadyvoice.audio.word_tones import detect_words, synthesize_tones

from ..conftest import MakeService
from ..word_tone_provider import SHORT_TEXT, Fault, WordToneProvider, read_all

pytestmark = pytest.mark.looptime


async def test_unbroken_mp3_frames_are_passed_through(make_service: MakeService) -> None:
    vendor = WordToneProvider()
    stream = make_service(vendor).stream(SHORT_TEXT, format="mp3_44100_128")
    audio = await read_all(stream)
    pcm, _ = synthesize_tones(SHORT_TEXT, sample_rate=44100)
    assert audio == convert(pcm, AudioFormat.parse("pcm_44100"), AudioFormat.parse("mp3_44100_128"))
    assert stream.duration == pytest.approx(len(audio) / 16000, abs=0.001)


async def test_mp3_frames_are_passed_through_up_to_the_seam(make_service: MakeService) -> None:
    first, second = WordToneProvider([Fault("cut", 0.5)], name="first"), WordToneProvider(name="second")
    stream = make_service(first, second).stream(SHORT_TEXT, format="mp3_44100_128")
    audio = await read_all(stream)
    whole = await read_all(make_service(WordToneProvider()).stream(SHORT_TEXT, format="mp3_44100_128"))
    frames = int(stream.report.spans[0].stop * 44100 / 1152)
    untouched = frame_bytes(whole, frames)
    assert audio.startswith(untouched)
    assert len(untouched) > 0.4 * len(audio)


@pytest.mark.parametrize("level", [0.4, 0.7, 1.5])
async def test_resuming_voice_has_the_same_loudness(make_service: MakeService, level: float) -> None:
    first = WordToneProvider([Fault("cut", 0.5)], name="first")
    second = WordToneProvider(name="second", level=level)
    stream = make_service(first, second).stream(SHORT_TEXT, format="pcm_16000")
    samples = array("h", await read_all(stream))
    seam_at = round(stream.report.spans[0].stop * 16000)
    before, after = level_of(samples[:seam_at], 16000), level_of(samples[seam_at:], 16000)
    assert before
    assert after
    # More than 6 dB nobody is helped.
    assert after / before == pytest.approx(min(1.0, 2 * level), rel=0.12)


async def test_pause_at_the_seam_is_a_pause_between_words(make_service: MakeService) -> None:
    first, second = WordToneProvider([Fault("cut", 0.5)], name="first"), WordToneProvider(name="second")
    stream = make_service(first, second).stream(SHORT_TEXT, format="pcm_16000")
    broken = detect_words(await read_all(stream), "pcm_16000")
    whole = detect_words(
        await read_all(make_service(WordToneProvider()).stream(SHORT_TEXT, format="pcm_16000")), "pcm_16000"
    )
    assert [word.start for word in broken] == pytest.approx([word.start for word in whole], abs=0.006)
    starts = [word.start + 0.02 for word in stream.alignment.words()]  # a tone's own margin
    assert starts == pytest.approx([word.start for word in broken], abs=0.006)


def frame_bytes(mp3: bytes, count: int) -> bytes:
    return b"".join(frame.data for frame in Mp3Framer().feed(mp3)[:count])
