"""WAV files with any samples, sizes and chunks, as other programs write them, and a strict parser."""

from __future__ import annotations

import struct
from dataclasses import dataclass

RATE = 24_000

Kind = tuple[int, int]
"""Format tag and bits of a sample."""

KINDS: dict[str, Kind] = {
    "16-bit": (1, 16),
    "8-bit": (1, 8),
    "24-bit": (1, 24),
    "32-bit": (1, 32),
    "float32": (3, 32),
    "float64": (3, 64),
    "A-law": (6, 8),
    "mu-law": (7, 8),
}


def samples(kind: Kind, seconds: float = 0.5) -> bytes:
    """Return a square wave in samples of this kind."""
    return b"".join(_sample(value, kind) for value in _wave(seconds))


def pcm(seconds: float = 0.5) -> bytes:
    """Return a square wave in 16-bit samples."""
    return samples((1, 16), seconds)


def _wave(seconds: float) -> list[int]:
    return [8192 if offset // 24 % 2 else -8192 for offset in range(round(seconds * RATE))]


def _sample(value: int, kind: Kind) -> bytes:
    match kind:
        case (1, 8):
            # Samples of 8 bits are unsigned, unlike all others.
            return bytes([(value >> 8) + 128])
        case (1, 16):
            return struct.pack("<h", value)
        case (1, 24):
            # Little-endian: the first byte of four is the least significant one.
            return struct.pack("<i", value << 16)[1:]
        case (1, 32):
            return struct.pack("<i", value << 16)
        case (3, 32):
            return struct.pack("<f", value / 32768)
        case (3, 64):
            return struct.pack("<d", value / 32768)
        case (6, 8):
            return bytes([0x8A if value > 0 else 0x0A])
        case _:
            return bytes([0x9F if value > 0 else 0x1F])


def chunk(name: bytes, content: bytes, *, size: int | None = None, pad: bool = True) -> bytes:
    """Return a chunk, with its true size unless another is given."""
    declared_size = len(content) if size is None else size
    return name + struct.pack("<I", declared_size) + content + (b"\0" if pad and len(content) % 2 else b"")


def fmt(kind: Kind = (1, 16), *, rate: int = RATE, channels: int = 1, extensible: bool = False) -> bytes:
    """Return a `fmt ` chunk."""
    tag, bits = kind
    width = channels * bits // 8
    named = struct.pack("<HHIIHH", 0xFFFE if extensible else tag, channels, rate, rate * width, width, bits)
    if extensible:
        named += struct.pack("<HHIH", 22, bits, 0, tag) + bytes.fromhex("000000001000800000aa00389b71")
    return chunk(b"fmt ", named)


def wav(*chunks: bytes, size: int | None = None, mark: bytes = b"RIFF") -> bytes:
    """Return a file of these chunks."""
    content = b"WAVE" + b"".join(chunks)
    return mark + struct.pack("<I", len(content) if size is None else size) + content


@dataclass(frozen=True)
class ParsedWav:
    """Content of a WAV, read strictly."""

    tag: int
    channels: int
    rate: int
    bits: int
    data: bytes


def parse_strictly(audio: bytes, *, open_end: bool = False) -> ParsedWav:
    """Read a WAV of one `fmt ` and one `data` chunk. Raises AssertionError where a size is not true.

    With `open_end`, both sizes have to be 0xFFFFFFFF instead.
    """
    mark, riff, wave, fmt, size = struct.unpack_from("<4sI4s4sI", audio)
    assert (mark, wave, fmt, size) == (b"RIFF", b"WAVE", b"fmt ", 16)
    tag, channels, rate, second, width, bits = struct.unpack_from("<HHIIHH", audio, 20)
    name, length = struct.unpack_from("<4sI", audio, 36)
    assert name == b"data"
    assert (riff, length) == ((0xFFFFFFFF,) * 2 if open_end else (len(audio) - 8, len(audio) - 44))
    assert (second, width) == (rate * channels * bits // 8, channels * bits // 8)
    return ParsedWav(tag, channels, rate, bits, audio[44:])
