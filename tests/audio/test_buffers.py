"""Audio buffers, and an encoder that continues behind the frames of another."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.audio.buffers import BufferLimitError, CompandedBuffer, Mp3FrameBuffer, RecentOutput, SampleBuffer
from steadyvoice.audio.codec import encoder_for
from steadyvoice.audio.conversion import convert
from steadyvoice.audio.mpeg import Mp3Framer
from steadyvoice.speech.format import AudioFormat

PCM = AudioFormat.parse("pcm_44100")
MP3 = AudioFormat.parse("mp3_44100_128")
HUM = array("h", (round(8000 * math.sin(i / 20)) for i in range(88_200)))
ENCODED = convert(HUM.tobytes(), PCM, MP3)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4), st.lists(st.floats(0, 0.005), max_size=4))
def test_samples_are_released_once_in_order_up_to_the_limit(data: bytes, cuts: list[int], places: list[float]) -> None:
    buffer = SampleBuffer(PCM, 44100)
    gone = b""
    edges = [0, *sorted(cuts), len(data)]
    for a, b, upto in zip(edges, edges[1:], [*places, 0.0, 0.0, 0.0, 0.0, 0.0], strict=False):
        buffer.feed(data[a:b])
        gone += buffer.release(upto)
        assert len(gone) // 2 <= max([0, *(round(place * 44100) for place in places)])
    gone += buffer.release()
    assert gone == data[: len(data) // 2 * 2]


@given(st.binary(max_size=300), st.integers(0, 300), st.lists(st.floats(0, 0.04), max_size=4))
def test_companded_samples_are_released_unmodified_up_to_the_limit(data: bytes, cut: int, places: list[float]) -> None:
    telephone = AudioFormat.parse("ulaw_8000")
    buffer, gone = CompandedBuffer(telephone), b""
    buffer.feed(data[:cut])
    for upto in sorted(places):
        gone += buffer.release(upto)
        assert buffer.released == len(gone) == min(cut, len(data), max(len(gone), round(upto * 8000)))
    buffer.feed(data[cut:])
    assert buffer.received == len(data) / 8000
    held = data[len(gone) :]
    assert buffer.tail(1.0) == held
    samples = convert(held[:40], telephone, AudioFormat.parse("pcm_8000")) if held else b""
    assert buffer.head(40) == samples
    assert gone + buffer.release() == data


def test_companded_samples_have_a_limit() -> None:
    buffer = CompandedBuffer(AudioFormat.parse("alaw_8000"), limit=100)
    buffer.feed(bytes(100))
    with pytest.raises(BufferLimitError):
        buffer.feed(bytes(1))


@given(st.floats(0, 2.5), st.integers(1, 5000))
def test_complete_frames_are_released_unmodified_up_to_the_limit(upto: float, size: int) -> None:
    buffer = Mp3FrameBuffer(MP3)
    for offset in range(0, len(ENCODED), size):
        buffer.feed(ENCODED[offset : offset + size])
    out = buffer.release(upto)
    assert ENCODED.startswith(out)
    assert buffer.released == 1152 * len(Mp3Framer().feed(out)) <= upto * 44100
    assert (buffer.released + 1152 > int(upto * 44100)) or not buffer.pending[0]
    buffer.finish()
    assert out + buffer.release() == ENCODED


@given(st.lists(st.integers(0, 5000), max_size=8), st.floats(0, 2.5))
def test_received_seconds_are_those_of_the_complete_frames(sizes: list[int], upto: float) -> None:
    buffer, framer, samples, offset = Mp3FrameBuffer(MP3), Mp3Framer(), 0, 0
    for size in sizes:
        buffer.feed(ENCODED[offset : offset + size])
        samples += sum(frame.samples for frame in framer.feed(ENCODED[offset : offset + size]))
        buffer.release(upto)
        offset += size
        assert buffer.received == samples / 44100


@pytest.mark.parametrize("frames", [10, 33, 50])
def test_second_encoder_continues_a_stream_seamlessly(frames: int) -> None:
    """The decoded sound of a frame depends on the frame before, which is another encoder's here."""
    heard = array("h", convert(ENCODED, MP3, PCM))
    begun = b"".join(frame.data for frame in Mp3Framer().feed(ENCODED)[:frames])
    offset = frames * 1152
    second = encoder_for(MP3, after=heard[offset - 2304 : offset].tobytes())
    both = array("h", convert(begun + second.feed(heard[offset:].tobytes()) + second.finish(), MP3, PCM))
    usual = max(
        abs(a - b) for a, b in zip(heard[offset + 9216 :], both[offset + 9216 : len(heard) - 4608], strict=False)
    )
    seam = max(
        abs(a - b)
        for a, b in zip(heard[offset - 1152 : offset + 2304], both[offset - 1152 : offset + 2304], strict=True)
    )
    assert seam < 1.3 * usual < 1000


def test_recent_output_keeps_only_the_last_seconds() -> None:
    echo = RecentOutput(seconds=1.0)
    for second in range(100):
        echo.add(PCM, array("h", [second] * 4410).tobytes())
    samples = array("h", echo.samples(44100))
    assert 44100 <= len(samples) <= 44100 + 4410
    assert (samples[0], samples[-1]) == (90, 99)


def test_recent_output_has_the_limit_of_its_present_format() -> None:
    echo, slow = RecentOutput(seconds=1.0), AudioFormat.parse("pcm_8000")
    echo.add(PCM, bytes(88_200))
    for _ in range(30):
        echo.add(replace(slow), bytes(1600))  # an equal format need not be the same object
    assert 8000 <= len(echo.samples(8000)) // 2 <= 8000 + 800


def test_recent_frames_are_decoded_together_with_pending_ones() -> None:
    echo, buffer = RecentOutput(), Mp3FrameBuffer(MP3)
    buffer.feed(ENCODED)
    echo.add(MP3, buffer.release(1.0))
    held, count = buffer.pending
    samples = array("h", echo.samples(44100, held, MP3))
    assert len(samples) == buffer.released + count
    assert samples == array("h", convert(ENCODED, MP3, PCM))[: len(samples)]


def test_recent_output_of_another_format_is_not_mixed_in() -> None:
    echo = RecentOutput()
    assert echo.samples(44100) == b""
    echo.add(PCM, HUM.tobytes())
    assert len(echo.samples(44100, ENCODED, MP3)) == len(convert(ENCODED, MP3, PCM))
