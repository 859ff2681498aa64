"""The audio meter measures the seconds that a decoder finds, and reports mismatches of the format."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache
from itertools import cycle

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice.audio.conversion import convert, silence
from steadyvoice.audio.framing import MAX_STRAY_BYTES, AudioMeter
from steadyvoice.audio.wav import wav_bytes
from steadyvoice.speech.format import FORMAT_NAMES, AudioFormat, Codec

from ..samples import FORMAT_OF_EACH_CODEC, PCM, encoded_hum, hum


def seconds_decoded(audio: bytes, name: str) -> float:
    return len(convert(audio, AudioFormat.parse(name), AudioFormat.parse("pcm_48000"))) / 96000


def measured_seconds(audio: bytes, name: str) -> float:
    return AudioMeter(AudioFormat.parse(name)).feed(audio)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_meter_agrees_with_a_decoder(name: str) -> None:
    audio = encoded_hum(name, 1.37)

    assert measured_seconds(audio, name) == pytest.approx(seconds_decoded(audio, name), abs=0.0005)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(FORMAT_OF_EACH_CODEC), size=st.integers(1, 3000))
def test_splits_do_not_change_the_measurement(name: str, size: int) -> None:
    audio = encoded_hum(name, 0.4)
    meter = AudioMeter(AudioFormat.parse(name))

    for offset in range(0, len(audio), size):
        meter.feed(audio[offset : offset + size])

    assert meter.seconds == measured_seconds(audio, name)


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(["mp3_44100_128", "mp3_22050_32", "mp3_44100_192", "aac_24000_64", "pcm_16000"]),
    sizes=st.lists(st.integers(1, 5000), min_size=1),
    stray=st.binary(max_size=700),
    where=st.floats(0, 1),
    tagged=st.booleans(),
)
def test_skimming_measures_the_same_as_feeding(
    name: str, sizes: list[int], stray: bytes, where: float, tagged: bool
) -> None:
    format, audio = AudioFormat.parse(name), _cached_hum(name)
    offset = round(where * len(audio))
    audio = (b"ID3\x04\0\0\0\0\0\x20" + bytes(32)) * tagged + audio[:offset] + stray + audio[offset:]
    looked, passed = AudioMeter(format), AudioMeter(format)

    begin = 0
    for size in cycle(sizes):
        piece, begin = audio[begin : begin + size], begin + size
        assert passed.skim(piece) == pytest.approx(looked.feed(piece))
        assert (passed.truncated, passed.has_audio, passed.format_mismatch) == (
            looked.truncated,
            looked.has_audio,
            looked.format_mismatch,
        )
        if begin >= len(audio):
            break


@pytest.mark.parametrize(("name", "tag", "offset"), [("mp3_44100_128", b"Info", 21), ("mp3_22050_32", b"VBRI", 36)])
def test_encoder_tag_is_found_while_skimming(name: str, tag: bytes, offset: int) -> None:
    """A tag looks like the frames around it, but holds no sound: here two files are concatenated."""
    audio, meter = encoded_hum(name), AudioMeter(AudioFormat.parse(name))
    first = meter.feed(audio[:1000])
    frame = audio[: audio.index(audio[:2], 2)]
    tagged = frame[:offset] + tag + frame[offset + len(tag) :]

    rest = meter.skim(audio[1000:] + tagged + audio)

    assert first
    assert rest == pytest.approx(2 * measured_seconds(audio, name))


@cache
def _cached_hum(name: str) -> bytes:
    return encoded_hum(name)


@pytest.mark.parametrize("name", FORMAT_OF_EACH_CODEC)
def test_measured_seconds_only_grow_up_to_the_true_length(name: str) -> None:
    audio = encoded_hum(name, 0.5)
    meter = AudioMeter(AudioFormat.parse(name))

    seen = [meter.feed(audio[offset : offset + 100]) for offset in range(0, len(audio), 100)]

    assert seen == sorted(seen)
    assert seen[0] < 0.2 < seen[-1] < 0.6


@pytest.mark.parametrize("name", FORMAT_OF_EACH_CODEC)
def test_truncated_audio_counts_its_audible_part(name: str) -> None:
    audio = encoded_hum(name, 1.0)
    half = audio[: len(audio) // 2]

    # A broken FLAC frame at the end counts for the meter, which cannot know.
    assert measured_seconds(half, name) == pytest.approx(seconds_decoded(half, name), abs=0.1)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_frame_of_the_expected_format_is_recognised(name: str) -> None:
    meter = AudioMeter(AudioFormat.parse(name))
    assert not meter.has_audio

    meter.feed(b"".join(silence(AudioFormat.parse(name), 0.5)))

    assert meter.has_audio


def test_flac_frame_is_recognised_when_it_begins() -> None:
    audio = encoded_hum("flac_24000")
    meter = AudioMeter(AudioFormat.parse("flac_24000"))

    meter.feed(audio[: audio.index(b"\xff\xf8")])
    assert not meter.has_audio

    meter.feed(audio[audio.index(b"\xff\xf8") :][:20])
    assert meter.has_audio


@pytest.mark.parametrize("name", [n for n in FORMAT_OF_EACH_CODEC if not n.startswith(("pcm", "ulaw", "alaw"))])
def test_error_message_is_not_a_frame(name: str) -> None:
    meter = AudioMeter(AudioFormat.parse(name))

    meter.feed(b'{"detail": {"status": "quota_exceeded"}}' * 100)

    assert not meter.has_audio
    assert meter.seconds == 0.0


def test_frame_with_an_encoder_tag_is_not_counted() -> None:
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=44100, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=44100)
        frame.planes[0].update(hum(1.0, 44100))
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    assert measured_seconds(sink.getvalue(), "mp3_44100_128") == pytest.approx(1.0, abs=0.026)


def test_expected_format_is_no_mismatch() -> None:
    for name in FORMAT_NAMES:
        meter = AudioMeter(AudioFormat.parse(name))
        meter.feed(encoded_hum(name, 0.3))
        assert meter.format_mismatch is None
        assert not meter.truncated


@pytest.mark.parametrize("name", ["mp3_44100_128", "wav_24000", "aac_24000_64", "flac_24000"])
def test_unexpected_sample_rate_is_a_mismatch(name: str) -> None:
    asked = AudioFormat.parse(name)
    meter = AudioMeter(asked)
    meter.feed(convert(hum(0.3, 24000), PCM, replace(asked, sample_rate=16000)))

    assert meter.format_mismatch == f"audio of 16000 Hz, expected {name}"


def test_half_the_rate_is_a_mismatch_but_for_aac() -> None:
    meter = AudioMeter(AudioFormat.parse("mp3_44100_128"))
    meter.feed(convert(hum(0.3, 24000), PCM, AudioFormat(Codec.MP3, 22050, 64)))

    assert meter.format_mismatch == "audio of 22050 Hz, expected mp3_44100_128"


def test_aac_may_declare_half_its_rate() -> None:
    meter = AudioMeter(AudioFormat.parse("aac_44100_128"))
    meter.feed(convert(hum(0.3, 24000), PCM, AudioFormat(Codec.AAC, 22050, 64)))

    assert meter.format_mismatch is None


@pytest.mark.parametrize("codec", ["libmp3lame", "aac", "flac", "libopus", "pcm_s16le"])
def test_two_channels_are_a_mismatch(codec: str) -> None:
    name, container = {
        "libmp3lame": ("mp3_44100_128", "mp3"),
        "aac": ("aac_44100_128", "adts"),
        "flac": ("flac_48000", "flac"),
        "libopus": ("opus_48000_64", "ogg"),
        "pcm_s16le": ("wav_48000", "wav"),
    }[codec]
    meter = AudioMeter(AudioFormat.parse(name))
    meter.feed(stereo(codec, container, meter.format.sample_rate))

    assert meter.format_mismatch == "audio of 2 channels, expected mono"


@pytest.mark.parametrize("name", ["mp3_44100_128", "aac_24000_64", "opus_48000_64"])
def test_too_many_stray_bytes_are_a_mismatch(name: str) -> None:
    meter = AudioMeter(AudioFormat.parse(name))
    audio = encoded_hum(name, 0.3)
    meter.feed(audio)

    meter.feed(bytes(MAX_STRAY_BYTES))
    assert meter.format_mismatch is None
    meter.feed(b"<html>" * 100)
    assert meter.format_mismatch is not None
    assert f"that are not {name}" in meter.format_mismatch
    meter.feed(audio + audio)
    assert meter.format_mismatch is None


@pytest.mark.parametrize("name", ["mp3_44100_128", "aac_24000_64", "opus_48000_64"])
def test_end_within_a_frame_is_truncation(name: str) -> None:
    audio = encoded_hum(name, 0.3)

    for missing in (1, 20):
        meter = AudioMeter(AudioFormat.parse(name))
        meter.feed(audio[:-missing])
        assert meter.truncated


def test_tag_at_the_end_is_no_truncation() -> None:
    meter = AudioMeter(AudioFormat.parse("mp3_44100_128"))
    meter.feed(encoded_hum("mp3_44100_128", 0.3) + b"TAG" + bytes(125))

    assert not meter.truncated
    assert meter.format_mismatch is None


def stereo(codec: str, container: str, rate: int) -> bytes:
    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame(format="s16", layout="stereo", samples=rate)
        frame.planes[0].update(hum(2.0, rate))
        frame.sample_rate = rate
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return sink.getvalue()


def test_concatenated_ogg_streams_add_up() -> None:
    audio = encoded_hum("opus_48000_64", 0.5)

    assert measured_seconds(audio + audio, "opus_48000_64") == pytest.approx(1.0, abs=0.0001)


def test_wav_ends_where_its_header_says() -> None:
    audio = wav_bytes(hum(0.5, 24000), 24000)

    assert measured_seconds(audio + b"LIST" + bytes(5000), "wav_24000") == 0.5
