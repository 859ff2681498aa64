"""FLAC, cut into frames by their headers (RFC 9639). A frame does not tell its length: the next one does."""

from __future__ import annotations

from typing import NamedTuple

from steadyvoice.audio.frames import Coding, Frame

_LONGEST_HEADER = 16  # bytes


class _Header(NamedTuple):
    """What a frame's first bytes tell. `number` counts frames, or samples where the block size varies."""

    samples: int
    number: int
    counts_samples: bool

    def follows(self, earlier: _Header) -> bool:
        step = earlier.samples if self.counts_samples else 1
        return self.counts_samples == earlier.counts_samples and self.number == earlier.number + step


class FlacFrames:
    """Cuts a native FLAC stream."""

    lost = 0
    torn = False

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._coding: Coding | None = None
        self._in_metadata = False
        self._current: _Header | None = None  # of the frame that the buffer begins with
        self._searched = 0  # nothing starts before this place

    @property
    def begun(self) -> float:
        return self._current.samples / self._coding.rate if self._current and self._coding else 0.0

    def feed(self, data: bytes) -> list[Frame]:
        self._buffer += data
        if self._current is None and not self._frames_reached():
            return []
        frames = []
        while (at := self._next_header()) is not None:
            frames += self._take(at[0])
            self._current = at[1]
            self._searched = 2
        return frames

    def finish(self) -> list[Frame]:
        frames = self._take(len(self._buffer))
        self._current = None
        return frames

    def _take(self, end: int) -> list[Frame]:
        """Cut everything before `end` off: the frame that has just proved complete, or what is no frame."""
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        if self._current is None or self._coding is None:
            return []
        return [Frame(data, self._current.samples, self._coding)]

    def _frames_reached(self) -> bool:
        """Read past the marker and the metadata blocks, as far as they have come."""
        buffer = self._buffer
        if self._coding is None and not self._in_metadata:
            start = buffer.find(b"fLaC")
            if start < 0:
                del buffer[: max(0, len(buffer) - 3)]
                return False
            del buffer[: start + 4]
            self._in_metadata = True
        while self._in_metadata:
            length = int.from_bytes(buffer[1:4], "big") + 4
            if len(buffer) < 4 or len(buffer) < length:
                return False
            self._in_metadata = not buffer[0] & 0x80
            if buffer[0] & 0x7F == 0 and length >= 38:
                self._coding = _coding_of(bytes(buffer[4:38]))
            del buffer[:length]
        return self._coding is not None

    def _next_header(self) -> tuple[int, _Header] | None:
        """Find where the next frame starts. Sound may look like a header, so it must also count on."""
        at = self._searched
        while (at := self._buffer.find(b"\xff", at)) >= 0:
            header = _header(bytes(self._buffer[at : at + _LONGEST_HEADER]))
            if header and (self._current is None or header.follows(self._current)):
                return at, header
            if len(self._buffer) - at < _LONGEST_HEADER:
                self._searched = at  # perhaps a header whose end is still to come
                return None
            at += 1
        self._searched = len(self._buffer)
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
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc
