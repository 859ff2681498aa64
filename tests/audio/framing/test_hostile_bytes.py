"""Framers on hostile bytes: splits do not change the result, and little memory is held."""

from __future__ import annotations

import tracemalloc
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steadyvoice.audio.conversion import convert
from steadyvoice.audio.frames import Frame, Framer
from steadyvoice.audio.framing import AudioMeter, framer_for
from steadyvoice.audio.validation import FormatSniffer, NotAudio
from steadyvoice.speech.format import AudioFormat

FORMATS = ("pcm_24000", "wav_24000", "mp3_44100_128", "mp3_22050_32", "aac_24000_64", "opus_48000_64", "flac_24000")

JUNK = (
    b"\xff", b"\xff\xfb", b"\xff\xfb\x90\xc4", b"\xff\xf1", b"\xff\xf8", b"\xff\xf8\xc9\x08\x00\x00", b"ID3", b"ID",
    b"ID3\x04\x00\x00\x00\x00\x01\x10", b"ID3\x04\x00\x10\x00\x00\x00\x01", b"OggS", b"OggS\0\2", b"fLaC",
    b"fLaC\x84\0\0\x10", b"RIFF", b"fmt ", b"data", b"\0" * 40, bytes(range(256)), b"Xing", b"VBRI",
)  # fmt: skip


@cache
def audio(name: str) -> bytes:
    samples = b"".join((i * 7919 % 20_000 - 10_000).to_bytes(2, "little", signed=True) for i in range(8_000))
    return convert(samples, AudioFormat.parse("pcm_8000"), AudioFormat.parse(name))


def frames_of(framer: Framer, pieces: list[bytes]) -> list[Frame]:
    return [frame for piece in pieces for frame in framer.feed(piece)] + framer.finish()


def split_at(data: bytes, places: list[int]) -> list[bytes]:
    offset = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in pairwise(offset)]


JOINTS = (
    b"APETAGEX", b"APET", b"APETAGEX\xd0\x07\0\0\x40\0\0\0\1\0\0\0\0\0\0\xa0" + bytes(8), b"fLaC\0\0\0\x22",
    b"RIFF\x24\0\0\0WAVE", b"LIST\4\0\0\0INFO", b"data\2\0\0\0",
)  # fmt: skip
"""Bytes between concatenated streams."""


def parts_with(junk: tuple[bytes, ...]) -> st.SearchStrategy[list[bytes | tuple[int, int]]]:
    slices = st.tuples(st.integers(0, 5_000), st.integers(0, 3_000))
    return st.lists(st.sampled_from(junk) | slices | st.binary(max_size=50), max_size=12)


mixed, joined = parts_with(JUNK), parts_with(JUNK + JOINTS)


def assemble(name: str, parts: list[bytes | tuple[int, int]]) -> bytes:
    good = audio(name)
    return b"".join(part if isinstance(part, bytes) else good[part[0] : part[0] + part[1]] for part in parts)


@pytest.mark.parametrize("name", FORMATS)
@given(parts=joined, begins=st.booleans(), places=st.lists(st.integers(0, 1 << 30), max_size=40))
@example(parts=[b"fLaC\x84\0\0\x10", b"\0" * 17, (0, 66)], begins=False, places=[8])  # metadata, but no STREAMINFO
def test_splits_of_any_bytes_do_not_change_the_frames(
    name: str, parts: list[bytes | tuple[int, int]], begins: bool, places: list[int]
) -> None:
    data = (audio(name)[:4_000] if begins else b"") + assemble(name, parts)
    format_ = AudioFormat.parse(name)

    whole, split = framer_for(format_), framer_for(format_)
    ours, theirs = frames_of(whole, [data]), frames_of(split, split_at(data, places))
    if name.startswith(("pcm", "wav")):  # samples are no frames: how many come at once is as it comes
        assert b"".join(frame.data for frame in ours) == b"".join(frame.data for frame in theirs)
    else:
        assert ours == theirs
    assert whole.truncated == split.truncated

    one, many = AudioMeter(format_), AudioMeter(format_)
    one.skim(data)
    for piece in split_at(data, places):
        many.skim(piece)
    assert many.seconds == pytest.approx(one.seconds)


@pytest.mark.parametrize("name", FORMATS)
@given(parts=mixed, places=st.lists(st.integers(0, 1 << 30), max_size=40))
def test_sniffing_byte_by_byte_gives_the_same_verdict(
    name: str, parts: list[bytes | tuple[int, int]], places: list[int]
) -> None:
    data = assemble(name, parts)[:4_000]
    format_ = AudioFormat.parse(name)
    look = FormatSniffer(format_)
    for piece in split_at(data, places):
        look.feed(piece)
    verdict = look.verdict
    if isinstance(verdict, NotAudio) and verdict.reason.startswith(("text", "JSON", "HTML")):
        return  # what begins as text is refused at once, and would be redeemed by what follows in the same piece
    assert type(verdict) is type(FormatSniffer(format_).feed(data)) or len(data) < 12


ENDLESS = {
    "a tag that claims 256 MB": ("mp3_44100_128", b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f", bytes(1000)),
    "sync bits": ("mp3_44100_128", b"", b"\xff"),
    "sync bits for AAC": ("aac_24000_64", b"", b"\xff\xf1"),
    "metadata without end": ("flac_24000", b"fLaC", b"\4\xff\xff\xff" + bytes(1000)),
    "no frame of FLAC": ("flac_24000", b"fLaC\x80\0\0\x22" + bytes(10) + b"\5\xdc\0\xf0" + bytes(20), bytes(1000)),
    "a packet of Ogg": (
        "opus_48000_64", b"", b"OggS\0\1" + bytes(20) + b"\xff" + b"\xff" * 255 + bytes(255 * 255),
    ),
    "a form of WAV": ("wav_24000", b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff", bytes(1000)),
    "a chunk of WAV": ("wav_24000", b"RIFF\xff\xff\xff\xffWAVELIST\xff\xff\xff\xff", bytes(1000)),
}  # fmt: skip


@pytest.mark.parametrize("what", ENDLESS)
def test_endless_structures_are_not_held_in_memory(what: str) -> None:
    name, begin, block = ENDLESS[what]
    framer, chunk = framer_for(AudioFormat.parse(name)), block * (32_768 // len(block) or 1)
    framer.feed(begin)
    framer.feed(chunk)
    tracemalloc.start()
    try:
        for _ in range(50):
            framer.feed(chunk)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 300_000
    assert most < 1_300_000
