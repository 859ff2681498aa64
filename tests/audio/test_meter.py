"""Seconds told from bytes are the seconds a decoder finds."""

from __future__ import annotations

import io

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice.audio.convert import convert
from steadyvoice.audio.meter import Meter
from steadyvoice.audio.silence import silence
from steadyvoice.audio.wav import wav_bytes
from steadyvoice.speech.format import FORMAT_NAMES, AudioFormat

from .sounds import ONE_OF_EACH, hum, in_format


def seconds_decoded(audio: bytes, name: str) -> float:
    return len(convert(audio, AudioFormat.parse(name), AudioFormat.parse("pcm_48000"))) / 96000


def metered(audio: bytes, name: str) -> float:
    return Meter(AudioFormat.parse(name)).feed(audio)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_the_meter_tells_what_a_decoder_finds(name: str) -> None:
    audio = in_format(name, 1.37)

    assert metered(audio, name) == pytest.approx(seconds_decoded(audio, name), abs=0.0005)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(ONE_OF_EACH), size=st.integers(1, 3000))
def test_cuts_do_not_change_what_it_tells(name: str, size: int) -> None:
    audio = in_format(name, 0.4)
    meter = Meter(AudioFormat.parse(name))

    for at in range(0, len(audio), size):
        meter.feed(audio[at : at + size])

    assert meter.seconds == metered(audio, name)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_it_never_runs_backwards_nor_ahead(name: str) -> None:
    audio = in_format(name, 0.5)
    meter = Meter(AudioFormat.parse(name))

    seen = [meter.feed(audio[at : at + 100]) for at in range(0, len(audio), 100)]

    assert seen == sorted(seen)
    assert seen[0] < 0.2 < seen[-1] < 0.6


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_an_utterance_cut_short_is_as_long_as_what_can_be_heard(name: str) -> None:
    audio = in_format(name, 1.0)
    half = audio[: len(audio) // 2]

    # A broken FLAC frame at the end counts for the meter, which cannot know.
    assert metered(half, name) == pytest.approx(seconds_decoded(half, name), abs=0.1)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_frame_of_the_promised_format_is_recognised(name: str) -> None:
    meter = Meter(AudioFormat.parse(name))
    assert not meter.parses

    meter.feed(b"".join(silence(AudioFormat.parse(name), 0.5)))

    assert meter.parses


def test_a_flac_frame_is_recognised_when_it_begins() -> None:
    audio = in_format("flac_24000")
    meter = Meter(AudioFormat.parse("flac_24000"))

    meter.feed(audio[: audio.index(b"\xff\xf8")])
    assert not meter.parses

    meter.feed(audio[audio.index(b"\xff\xf8") :][:20])
    assert meter.parses


@pytest.mark.parametrize("name", [n for n in ONE_OF_EACH if not n.startswith(("pcm", "ulaw", "alaw"))])
def test_a_message_in_place_of_audio_is_no_frame(name: str) -> None:
    meter = Meter(AudioFormat.parse(name))

    meter.feed(b'{"detail": {"status": "quota_exceeded"}}' * 100)

    assert not meter.parses
    assert meter.seconds == 0.0


def test_the_frame_with_an_encoders_tag_takes_no_time() -> None:
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=44100, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=44100)
        frame.planes[0].update(hum(1.0, 44100))
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    assert metered(sink.getvalue(), "mp3_44100_128") == pytest.approx(1.0, abs=0.026)


def test_two_ogg_streams_end_to_end_add_up() -> None:
    audio = in_format("opus_48000_64", 0.5)

    assert metered(audio + audio, "opus_48000_64") == pytest.approx(1.0, abs=0.0001)


def test_a_wav_ends_where_its_header_says() -> None:
    audio = wav_bytes(hum(0.5, 24000), 24000)

    assert metered(audio + b"LIST" + bytes(5000), "wav_24000") == 0.5
