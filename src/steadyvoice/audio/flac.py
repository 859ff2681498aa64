"""FLAC, cut into frames by their headers (RFC 9639). A frame does not tell its length: the next one does."""

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
"""Bytes, twice what two channels of 32 bits take. What goes on for longer without a next header is no frame."""


def with_sample_count(head: bytes, samples: int) -> bytes:
    """Write the number of samples into the STREAMINFO that a stream begins with: its encoder did not know it."""
    if len(head) < _TOTAL_AT + 8 or not re.match(_STREAM, head, re.DOTALL):
        return head
    packed = int.from_bytes(head[_TOTAL_AT : _TOTAL_AT + 8], "big") >> 36 << 36 | samples
    return head[:_TOTAL_AT] + packed.to_bytes(8, "big") + head[_TOTAL_AT + 8 :]


_TOTAL_AT = 18  # bytes into a stream: rate, channels and width, and the 36 bits of the number of samples


class FlacSampleCounter:
    """Counts the samples of a FLAC stream as it comes, for its header."""

    def __init__(self) -> None:
        self._framer = FlacFramer()
        self._count = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._count += sum(frame.samples for frame in self._framer.feed(data))

    def finish(self) -> int:
        """Return how many there are; no more bytes come."""
        return self._count + sum(frame.samples for frame in self._framer.finish())


class _Header(NamedTuple):
    """What a frame's first bytes tell. `number` counts frames, or samples where the block size varies."""

    samples: int
    number: int
    counts_samples: bool

    def follows(self, earlier: _Header) -> bool:
        step = earlier.samples if self.counts_samples else 1
        return self.counts_samples == earlier.counts_samples and self.number == earlier.number + step


class FlacFramer:
    """Cuts a native FLAC stream.

    Nothing is held but the frame at hand: metadata is passed over as it comes, and so is what belongs to no frame.
    """

    torn = False
    misleads = tagged = False  # it is never passed on as it is
    told = None

    def __init__(self) -> None:
        self.lost = 0
        self._buffer = bytearray()
        self._coding: Coding | None = None
        self._in_metadata = False
        self._skip = 0  # bytes of metadata still to come
        self._current: _Header | None = None  # of the frame that the buffer begins with
        self._searched = 0  # nothing starts before this place

    @property
    def begun(self) -> float:
        return self._current.samples / self._coding.rate if self._current and self._coding else 0.0

    def feed(self, data: bytes) -> list[Frame]:
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
            if self._current is None:  # another stream begins: several may come end to end
                self._coding, self._searched = None, 0
                if not self._frames_reached():
                    return frames
        if self._current is None or len(self._buffer) > _LONGEST_FRAME:
            self._current = None
            self._drop(self._searched)
        return frames

    def finish(self) -> list[Frame]:
        frames = self._take(len(self._buffer))
        self._current = None
        return frames

    def _take(self, end: int) -> list[Frame]:
        """Cut everything before `end` off: the frame that has just proved complete, or what is no frame."""
        if self._current is None or self._coding is None:
            self._drop(end)
            return []
        with memoryview(self._buffer) as view:
            data = bytes(view[:end])
        del self._buffer[:end]
        self.lost = 0
        return [Frame(data, self._current.samples, self._coding)]

    def _drop(self, end: int) -> None:
        """Pass over bytes that are no frame."""
        self.lost += end
        del self._buffer[:end]
        self._searched = 0

    def _frames_reached(self) -> bool:
        """Read past the marker and the metadata blocks, as far as they have come."""
        buffer = self._buffer
        if self._coding is None and not self._in_metadata:
            start = buffer.find(b"fLaC")
            if start < 0:
                self._drop(max(0, len(buffer) - 3))
                return False
            self._drop(start)
            del buffer[:4]
            self._in_metadata = True
        at = 0
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
        return self._coding is not None and not self._in_metadata and not self._skip

    def _next_header(self) -> tuple[int, _Header | None] | None:
        """Find where the next frame starts, or another stream, without a header. Sound may look like one, so it must
        also count on.
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
                self._searched = at  # perhaps a header whose end is still to come
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
        return None  # it ends too soon


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
    """Read a number of one to seven bytes, in the manner of UTF-8, and where it ends (0: it is none)."""
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
    """Checksum of a header: x^8 + x^2 + x + 1."""
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def _crc8_of(byte: int) -> int:
    for _ in range(8):
        byte = (byte << 1 ^ 0x07) & 0xFF if byte & 0x80 else byte << 1
    return byte


_CRC8 = bytes(map(_crc8_of, range(256)))
