"""FLAC framer by frame headers (RFC 9639). A frame ends where the next header begins: no header gives its length."""

from __future__ import annotations

import re
from typing import NamedTuple

from steadyvoice.audio.frames import Coding, Frame

_LONGEST_HEADER = 16  # bytes
_STREAMINFO = 4 + 34  # bytes of the first metadata block, its own header included
_STREAM = b"fLaC[\\0\x80]\\0\\0\\x22"  # its mark, and the head of a STREAMINFO
_SYNC = re.compile(rb"\xff(?:[\xf8\xf9]|\Z)|" + _STREAM)
_LONGEST_MARK = 8  # bytes
_LONGEST_FRAME = 1024 * 1024
"""Bytes, twice what two channels of 32 bits take. Longer runs without a next header are not a frame."""


def with_sample_count(head: bytes, samples: int) -> bytes:
    """Return a stream's first bytes with the sample count in STREAMINFO, which a streaming encoder does not know."""
    if len(head) < _TOTAL_AT + 8 or not re.match(_STREAM, head, re.DOTALL):
        return head
    packed = int.from_bytes(head[_TOTAL_AT : _TOTAL_AT + 8], "big") >> 36 << 36 | samples
    return head[:_TOTAL_AT] + packed.to_bytes(8, "big") + head[_TOTAL_AT + 8 :]


_TOTAL_AT = 18  # bytes into a stream: rate, channels and width, and the 36 bits of the number of samples


class FlacSampleCounter:
    """Counter of the samples in a FLAC stream, for its header."""

    def __init__(self) -> None:
        self._framer = FlacFramer()
        self._count = 0

    def feed(self, data: bytes) -> None:
        """Add the next bytes."""
        self._count += sum(frame.samples for frame in self._framer.feed(data))

    def finish(self) -> int:
        """Return the number of samples at the end of the stream."""
        return self._count + sum(frame.samples for frame in self._framer.finish())


class _Header(NamedTuple):
    """Parsed header of a frame. `number` counts frames, or samples where the block size varies."""

    samples: int
    number: int
    counts_samples: bool

    def follows(self, earlier: _Header) -> bool:
        step = earlier.samples if self.counts_samples else 1
        return self.counts_samples == earlier.counts_samples and self.number == earlier.number + step


class FlacFramer:
    """Framer of a native FLAC stream.

    Only the frame at hand is held: metadata, pictures included, is skipped as it comes, and so are stray bytes.
    """

    truncated = False
    misreports_length = declares_length = False  # a FLAC stream is never passed on as it is
    declared_frames = None

    def __init__(self) -> None:
        self.stray_bytes = 0
        self._buffer = bytearray()
        self._coding: Coding | None = None
        self._in_metadata = False
        self._skip = 0  # bytes of metadata still to come
        self._current: _Header | None = None  # of the frame that the buffer begins with
        self._searched = 0  # offset before which no header begins

    @property
    def pending_seconds(self) -> float:
        return self._current.samples / self._coding.rate if self._current and self._coding else 0.0

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes and return the frames that they complete."""
        if self._skip:
            step = min(self._skip, len(data))
            self._skip -= step
            data = data[step:]
        self._buffer += data
        if self._current is None and not self._frames_reached():
            return []
        frames: list[Frame] = []
        while (at := self._next_header()) is not None:
            frames += self._take(at[0])
            self._current = at[1]
            self._searched = 2
            if self._current is None:  # another stream begins: an answer may be several, concatenated
                self._coding, self._searched = None, 0
                if not self._frames_reached():
                    return frames
        # Bytes that never show a next header are given up, so that noise does not fill memory.
        if self._current is None or len(self._buffer) > _LONGEST_FRAME:
            self._current = None
            self._drop(self._searched)
        return frames

    def finish(self) -> list[Frame]:
        """Return the frames that were held back at the end of the stream."""
        frames = self._take(len(self._buffer))
        self._current = None
        return frames

    def _take(self, end: int) -> list[Frame]:
        """Remove everything before `end`: a frame that proved complete is returned, stray bytes are dropped."""
        if self._current is None or self._coding is None:
            self._drop(end)
            return []
        with memoryview(self._buffer) as view:
            data = bytes(view[:end])
        del self._buffer[:end]
        self.stray_bytes = 0
        return [Frame(data, self._current.samples, self._coding)]

    def _drop(self, end: int) -> None:
        """Drop stray bytes."""
        self.stray_bytes += end
        del self._buffer[:end]
        self._searched = 0

    def _frames_reached(self) -> bool:
        """Read past the marker and the metadata blocks, and return whether audio frames follow in the buffer."""
        while self._coding is None and not self._in_metadata:
            start = self._buffer.find(b"fLaC")
            if start < 0:
                self._drop(max(0, len(self._buffer) - 3))
                return False
            self._drop(start)
            del self._buffer[:4]
            self._in_metadata = True
            self._read_metadata()  # may end without a STREAMINFO: then another stream may begin behind it
        if self._in_metadata:
            self._read_metadata()
        return self._coding is not None and not self._in_metadata and not self._skip

    def _read_metadata(self) -> None:
        """Read the metadata blocks that the buffer begins with."""
        buffer, at = self._buffer, 0
        while self._in_metadata:
            if len(buffer) - at < 4:
                break
            kind, length = buffer[at] & 0x7F, int.from_bytes(buffer[at + 1 : at + 4], "big") + 4
            if kind == 0 and length >= _STREAMINFO:
                if len(buffer) - at < _STREAMINFO:
                    break
                self._coding = _coding_of(bytes(buffer[at + 4 : at + _STREAMINFO]))
            self._in_metadata = not buffer[at] & 0x80
            step = min(length, len(buffer) - at)
            self._skip = length - step
            at += step
        del buffer[:at]

    def _next_header(self) -> tuple[int, _Header | None] | None:
        """Find where the next frame starts, or another stream (then without a header).

        Coded sound may look like a header, so its number must also continue that of the frame before.
        """
        at = self._searched
        while found := _SYNC.search(self._buffer, at):
            at = found.start()
            if self._buffer[at] != 0xFF:
                return at, None
            header = _header(bytes(self._buffer[at : at + _LONGEST_HEADER]))
            if header and (self._current is None or header.follows(self._current)):
                return at, header
            if len(self._buffer) - at < _LONGEST_HEADER:
                self._searched = at  # may be a header of which more bytes have to come
                return None
            at += 1
        self._searched = max(self._searched, len(self._buffer) - _LONGEST_MARK + 1)
        return None


def _coding_of(streaminfo: bytes) -> Coding:
    packed = int.from_bytes(streaminfo[10:14], "big")
    return Coding("flac", packed >> 12, (packed >> 9 & 7) + 1, streaminfo)


def _header(head: bytes) -> _Header | None:
    try:
        return _checked_header(head)
    except IndexError:
        return None  # the header is not complete


def _checked_header(head: bytes) -> _Header | None:
    if head[1] & 0xFE != 0xF8:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    number, at = _coded_number(head)
    if at == 0 or size_code == 0 or rate_code == 15 or head[3] >> 4 > 10 or head[3] & 1:
        return None
    match size_code:
        case 6:
            samples, at = head[at] + 1, at + 1
        case 7:
            samples, at = int.from_bytes(head[at : at + 2], "big") + 1, at + 2
        case 1:
            samples = 192
        case _:
            samples = 144 << size_code if size_code < 6 else 1 << size_code
    at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if _crc8(head[:at]) != head[at]:
        return None
    return _Header(samples, number, bool(head[1] & 1))


def _coded_number(head: bytes) -> tuple[int, int]:
    """Return a number of one to seven bytes, coded as in UTF-8, and the offset behind it (0: invalid)."""
    first = head[4]
    if first < 0x80:
        return first, 5
    length = 8 - (first ^ 0xFF).bit_length()
    if length < 2 or length > 7:
        return 0, 0
    number = first & (0x7F >> length)
    for byte in head[5 : 4 + length]:
        if byte & 0xC0 != 0x80:
            return 0, 0
        number = number << 6 | byte & 0x3F
    return number, 4 + length


def _crc8(data: bytes) -> int:
    """Return the checksum of a header, by the polynomial x^8 + x^2 + x + 1."""
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def _crc8_of(byte: int) -> int:
    for _ in range(8):
        byte = (byte << 1 ^ 0x07) & 0xFF if byte & 0x80 else byte << 1
    return byte


_CRC8 = bytes(map(_crc8_of, range(256)))
