"""The samples of a WAV end at the next mark, however it is split, and not at zeros, which may be silence."""

from __future__ import annotations

import pytest

from steadyvoice.audio.wav import WavFramer
from tests.audio.wav_files import chunk, fmt, pcm, wav

PCM = pcm(0.1)
ID3 = b"ID3\4\0\0\0\0\0\0"
UNKNOWN = 0xFFFFFFFF


def read(*pieces: bytes) -> bytes:
    frames = WavFramer()
    return b"".join(frame.data for piece in pieces for frame in frames.feed(piece)) + b"".join(
        frame.data for frame in frames.finish()
    )


@pytest.mark.parametrize(
    "behind",
    [wav(fmt(), chunk(b"data", PCM, size=UNKNOWN), mark=b"BW64"), chunk(b"id3 ", ID3), chunk(b"ID3 ", ID3)],
    ids=["BW64", "id3", "ID3"],
)
def test_mark_behind_samples_of_unknown_size_is_found_across_splits(behind: bytes) -> None:
    first = wav(fmt(), chunk(b"data", PCM, size=UNKNOWN))
    expected = PCM * (2 if behind.startswith(b"BW64") else 1)
    assert read(first + behind) == expected
    for cut in range(len(first) - 1, len(first) + 20):
        assert read((first + behind)[:cut], (first + behind)[cut:]) == expected


@pytest.mark.parametrize(
    "beginning", [b"B", b"BW", b"BW6", b"BW64....WA", b"i", b"id", b"id3", b"id3 ....ID3", b"ID3 "]
)
def test_incomplete_mark_belongs_to_the_samples(beginning: bytes) -> None:
    held = beginning + b"." * (len(beginning) % 2)
    assert read(wav(fmt(), chunk(b"data", PCM + beginning, size=UNKNOWN, pad=False)), held[len(beginning) :] + PCM) == (
        PCM + held + PCM
    )


@pytest.mark.parametrize("length", [2, 6, 4_800, 400_000])
def test_zeros_behind_a_size_of_zero_are_samples(length: int) -> None:
    silent = wav(fmt(), chunk(b"data", bytes(length), size=0))
    assert read(silent) == bytes(length)
    assert read(*(silent[offset : offset + 777] for offset in range(0, len(silent), 777))) == bytes(length)
    assert read(silent + PCM) == bytes(length) + PCM


def test_padding_behind_a_true_size_is_not_samples() -> None:
    assert read(wav(fmt(), chunk(b"data", PCM)) + bytes(4096)) == PCM
