"""Conversion between all formats, whatever the input and its splits."""

from __future__ import annotations

import contextlib
import gc
import io
import random
import threading
import wave
import weakref
from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steadyvoice.audio.conversion import Converter, convert
from steadyvoice.audio.framing import AudioMeter
from steadyvoice.audio.wav import wav_bytes, wav_header
from steadyvoice.audio.word_tones import synthesize_tones, words_in
from steadyvoice.speech.errors import TTSNotAudioError
from steadyvoice.speech.format import FORMAT_NAMES, AudioFormat, Codec

from ..samples import FORMAT_OF_EACH_CODEC, PCM, SECONDS, decoded_samples, encoded_hum, frame_seconds, hum, level_at

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_ffmpeg_reads_every_format_that_is_written(name: str) -> None:
    format = AudioFormat.parse(name)
    demuxer = {
        Codec.PCM: "s16le",
        Codec.ULAW: "mulaw",
        Codec.ALAW: "alaw",
        Codec.OPUS: "ogg",
        Codec.AAC: "aac",
    }.get(format.codec, format.codec.value)
    options = {"sample_rate": str(format.sample_rate)} if format.codec is Codec.PCM else {}
    if format.codec in (Codec.ULAW, Codec.ALAW):
        options = {"sample_rate": str(format.sample_rate)}

    with av.open(io.BytesIO(encoded_hum(name)), "r", format=demuxer, options=options) as container:
        stream = container.streams.audio[0]
        decoded = list(container.decode(stream))

    assert {frame.rate for frame in decoded} == {format.sample_rate}
    assert {frame.layout.nb_channels for frame in decoded} == {1}
    seconds = sum(frame.samples for frame in decoded) / format.sample_rate
    assert seconds == pytest.approx(SECONDS, abs=frame_seconds(name))


@pytest.mark.parametrize("target", FORMAT_OF_EACH_CODEC)
@pytest.mark.parametrize("source", FORMAT_OF_EACH_CODEC)
def test_conversion_between_all_formats_keeps_tone_and_length(source: str, target: str) -> None:
    there = convert(encoded_hum(source), AudioFormat.parse(source), AudioFormat.parse(target))

    samples = decoded_samples(there, target)

    assert len(samples) / 8000 == pytest.approx(SECONDS, abs=frame_seconds(source) + frame_seconds(target))
    assert level_at(samples[800:-800], 440, 8000) == pytest.approx(7800, rel=0.1)


@pytest.mark.parametrize("name", ["mp3_44100_128", "mp3_24000_48", "aac_24000_64", "opus_48000_64", "flac_24000"])
def test_encoding_does_not_shift_sound(name: str) -> None:
    """An encoder's priming would delay the sound; alignments and crossfades depend on its position."""
    click = array("h", [0] * 24000)
    click[12000:12048] = array("h", [20000] * 48)

    samples = decoded_samples(convert(click.tobytes(), PCM, AudioFormat.parse(name)), name)

    loudest = max(range(len(samples)), key=lambda i: abs(samples[i]))
    assert loudest / 8000 == pytest.approx(0.501, abs=0.003)


@pytest.mark.parametrize("name", [n for n in FORMAT_NAMES if n.startswith(("mp3", "aac"))])
def test_bit_rate_is_as_requested(name: str) -> None:
    bitrate = AudioFormat.parse(name).bitrate
    assert bitrate is not None

    kilobits = len(encoded_hum(name, 3.0)) * 8 / 3.0 / 1000

    assert kilobits == pytest.approx(bitrate, rel=0.05 if name.startswith("mp3") else 0.9)


@settings(max_examples=25, deadline=None)
@given(
    source=st.sampled_from(FORMAT_OF_EACH_CODEC),
    target=st.sampled_from(FORMAT_OF_EACH_CODEC),
    cuts=st.lists(st.integers(0, 12000), max_size=12),
)
def test_splits_of_the_input_do_not_change_the_output(source: str, target: str, cuts: list[int]) -> None:
    audio = encoded_hum(source, 0.25)
    edges = [0, *sorted(min(cut, len(audio)) for cut in cuts), len(audio)]
    converter = Converter(AudioFormat.parse(source), AudioFormat.parse(target))

    pieces = [converter.feed(audio[a:b]) for a, b in pairwise(edges)]

    whole = convert(audio, AudioFormat.parse(source), AudioFormat.parse(target))
    assert b"".join(pieces) + converter.finish() == whole


@pytest.mark.parametrize("target", FORMAT_OF_EACH_CODEC)
def test_encoding_is_deterministic(target: str) -> None:
    assert encoded_hum(target) == encoded_hum(target)


@pytest.mark.parametrize("source", FORMAT_OF_EACH_CODEC)
def test_input_byte_by_byte_gives_the_same_output(source: str) -> None:
    audio = encoded_hum(source, 0.1)
    converter = Converter(AudioFormat.parse(source), AudioFormat.parse("pcm_8000"))

    dripped = b"".join(converter.feed(bytes([byte])) for byte in audio) + converter.finish()

    assert dripped == convert(audio, AudioFormat.parse(source), AudioFormat.parse("pcm_8000"))


@pytest.mark.parametrize("target", FORMAT_OF_EACH_CODEC)
def test_output_streams_while_input_arrives(target: str) -> None:
    converter = Converter(AudioFormat.parse("mp3_44100_128"), AudioFormat.parse(target))
    audio = encoded_hum("mp3_44100_128", 2.0)

    early = converter.feed(audio[: len(audio) // 2])
    late = converter.feed(audio[len(audio) // 2 :]) + converter.finish()

    seconds = len(decoded_samples(early, target)) / 8000
    assert seconds == pytest.approx(1.0, abs=0.3)
    assert late


@pytest.mark.parametrize("name", ["mp3_22050_32", "mp3_44100_128", "aac_44100_128", "opus_48000_64"])
def test_quick_encoding_keeps_the_sound(name: str) -> None:
    plain, target = AudioFormat.parse("pcm_44100"), AudioFormat.parse(name)
    samples, _ = synthesize_tones("We are in a hurry.", sample_rate=44_100)
    hasty = Converter(plain, target, quick=True)
    audio = hasty.feed(samples) + hasty.finish()
    assert audio != convert(samples, plain, target)
    assert words_in(audio, name) == ["We", "are", "in", "a", "hurry."]


@pytest.mark.parametrize("name", FORMAT_OF_EACH_CODEC)
def test_equal_formats_pass_unchanged(name: str) -> None:
    converter = Converter(AudioFormat.parse(name), AudioFormat.parse(name))

    assert converter.feed(b"\x00anything") == b"\x00anything"
    assert converter.finish() == b""


def test_streamed_wav_declares_an_unknown_size() -> None:
    audio = encoded_hum("wav_24000")

    assert audio[:4] == b"RIFF"
    assert audio[4:8] == audio[40:44] == b"\xff\xff\xff\xff"
    assert len(audio) == 44 + round(SECONDS * 24000) * 2


def test_complete_wav_declares_its_true_size() -> None:
    with wave.open(io.BytesIO(wav_bytes(hum(0.5, 16000), 16000))) as reader:
        assert (reader.getnchannels(), reader.getsampwidth(), reader.getframerate()) == (1, 2, 16000)
        assert reader.readframes(reader.getnframes()) == hum(0.5, 16000)


def test_wav_header_wins_over_the_declared_format() -> None:
    """Servers declare 24 kHz mono and send the rate of their engine."""
    stereo = array("h", [value for value in array("h", hum(0.5, 44100)) for _ in range(2)]).tobytes()
    header = bytearray(wav_header(44100, len(stereo)))
    header[22:24] = (2).to_bytes(2, "little")
    header[28:34] = (4 * 44100).to_bytes(4, "little") + (4).to_bytes(2, "little")

    samples = decoded_samples(bytes(header) + stereo, "wav_24000")

    assert len(samples) / 8000 == pytest.approx(0.5, abs=0.001)
    assert level_at(samples, 440, 8000) == pytest.approx(8000, rel=0.05)


@pytest.mark.parametrize("size", [1, 100, 1_000_000])
def test_noise_survives_flac(size: int) -> None:
    """FLAC frames are found by their headers, and noise may look like one."""
    pcm = random.Random(3).randbytes(96_000)
    flac = AudioFormat.parse("flac_24000")
    audio = convert(pcm, PCM, flac)
    converter = Converter(flac, PCM)

    back = b"".join(converter.feed(audio[offset : offset + size]) for offset in range(0, len(audio), size))

    assert back + converter.finish() == pcm
    assert AudioMeter(flac).feed(audio) == 2.0


def test_chunks_behind_the_samples_of_a_wav_are_skipped() -> None:
    audio = wav_bytes(hum(0.5, 24000), 24000) + b"LIST" + (4000).to_bytes(4, "little") + b"x" * 4000

    assert convert(audio, AudioFormat.parse("wav_24000"), PCM) == hum(0.5, 24000)


def test_concatenated_mp3s_of_two_rates_become_one_stream() -> None:
    joined = encoded_hum("mp3_44100_128") + encoded_hum("mp3_24000_48")

    samples = decoded_samples(joined, "mp3_44100_128")

    apart = [decoded_samples(encoded_hum(name), name) for name in ("mp3_44100_128", "mp3_24000_48")]
    assert len(samples) == pytest.approx(sum(map(len, apart)), abs=8)
    assert level_at(samples[-4000:-400], 440, 8000) == pytest.approx(7800, rel=0.1)


def test_encoder_delay_is_removed() -> None:
    """FFmpeg's own files begin with ID3 and a Xing frame, which gives the length of the silence before the sound."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=24000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=24000)
        frame.planes[0].update(hum(1.0, 24000))
        frame.sample_rate = 24000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    samples = decoded_samples(sink.getvalue(), "mp3_24000_48")

    assert sink.getvalue()[:3] == b"ID3"
    assert b"Info" in sink.getvalue()[:400]
    assert abs(samples[20]) > 1000
    assert len(samples) / 8000 == pytest.approx(1.0, abs=0.03)


def test_garbage_between_frames_is_skipped() -> None:
    audio = encoded_hum("mp3_44100_128", 1.0)
    half = len(audio) // 2

    samples = decoded_samples(audio[:half] + b"\xff\xfb\x90 rubbish \xff" * 50 + audio[half:], "mp3_44100_128")

    assert len(samples) / 8000 == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("name", [n for n in FORMAT_OF_EACH_CODEC if not n.startswith(("pcm", "ulaw", "alaw"))])
@pytest.mark.parametrize(
    "rubbish",
    [b"", b'{"detail": "no"}', b"<html>502</html>", b"RIFF\0\0\0\0AVI ", b"OggS", b"fLaC", bytes(5000), b"\xff" * 5000],
)
def test_input_without_audio_is_refused(name: str, rubbish: bytes) -> None:
    with pytest.raises(TTSNotAudioError, match=f"not decodable as {name}"):
        convert(rubbish, AudioFormat.parse(name), PCM)


def test_endless_garbage_is_refused_early() -> None:
    converter = Converter(AudioFormat.parse("mp3_44100_128"), PCM)

    with pytest.raises(TTSNotAudioError, match="no frame of audio"):
        any(converter.feed(b"lorem ipsum " * 100) for _ in range(1000))


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(FORMAT_OF_EACH_CODEC), noise=st.binary(max_size=2000))
def test_any_bytes_convert_or_raise_not_audio(name: str, noise: bytes) -> None:
    with contextlib.suppress(TTSNotAudioError):
        convert(noise, AudioFormat.parse(name), AudioFormat.parse("pcm_8000"))


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(FORMAT_OF_EACH_CODEC), place=st.floats(0, 1), noise=st.binary(max_size=300))
@example(name="flac_24000", place=0.008531730998700528, noise=b"\x00\x00")  # a codec without parameters
def test_damaged_audio_converts_or_raises_not_audio(name: str, place: float, noise: bytes) -> None:
    audio = encoded_hum(name, 0.3)
    offset = int(place * len(audio))
    damaged = audio[:offset] + noise + audio[offset + len(noise) :]
    with contextlib.suppress(TTSNotAudioError):
        convert(damaged, AudioFormat.parse(name), AudioFormat.parse("pcm_8000"))


@pytest.fixture
def garbage_collector_disabled(frozen_heap: None) -> Iterator[None]:
    """Native memory has to be freed by reference counting, not by the garbage collector."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("garbage_collector_disabled")
@pytest.mark.parametrize("end", ["dropped", "closed", "finished"])
@pytest.mark.parametrize("target", FORMAT_OF_EACH_CODEC)
def test_dropped_converter_frees_its_memory(target: str, end: str) -> None:
    source = "flac_24000" if target != "flac_24000" else "opus_48000_64"
    audio = encoded_hum(source)
    threads = threads_of_this_process()
    converter = Converter(AudioFormat.parse(source), AudioFormat.parse(target))
    converter.feed(audio[: len(audio) // 2])
    gone = weakref.ref(converter)

    if end == "closed":
        converter.close()
        assert threads_of_this_process() == threads
    if end == "finished":
        converter.finish()
        assert threads_of_this_process() == threads
    del converter

    assert gone() is None
    assert threads_of_this_process() == threads


@pytest.mark.parametrize("target", ["pcm_16000", "wav_24000", "ulaw_8000"])
def test_decoding_and_resampling_start_no_threads(target: str) -> None:
    """FFmpeg's filters would start a thread for each processor, for each of hundreds of streams."""
    threads = threads_of_this_process()
    converter = Converter(AudioFormat.parse("mp3_44100_128"), AudioFormat.parse(target))

    converter.feed(encoded_hum("mp3_44100_128"))

    assert threads_of_this_process() == threads


def threads_of_this_process() -> int:
    """Return the number of threads, FFmpeg's included where the system shows them."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()


def test_closed_converter_refuses_more() -> None:
    converter = Converter(PCM, AudioFormat.parse("mp3_44100_128"))
    converter.close()

    with pytest.raises(ValueError, match="create a new one"):
        converter.feed(b"\0\0")
    assert converter.finish() == b""
