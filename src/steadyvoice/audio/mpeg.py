"""MPEG audio: framers for MP3, and for AAC in ADTS, whose frame headers give the length of each frame.

Sources: ISO/IEC 11172-3 and 13818-3 (MPEG audio), 13818-7 (ADTS), https://id3.org/id3v2.4.0-structure,
and http://gabriel.mp3-tech.org/mp3infotag.html for what LAME and FFmpeg write into the first frame.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import NamedTuple

from steadyvoice.audio.frames import MAX_DISTINCT_BYTES_OF_SILENCE, SOUND_BYTES, Coding, Frame


class FrameHeader(NamedTuple):
    """Parsed header of a frame. `length` is in bytes and includes the header."""

    length: int
    samples: int
    coding: Coding
    tag_at: int = 0  # where an encoder's tag would stand


class FrameRun(NamedTuple):
    """Pattern of consecutive frames that differ only in their padding, matched by one regular expression."""

    header: FrameHeader
    pattern: re.Pattern[bytes]
    shortest: int  # bytes in a frame; the padded ones have one more


def _candidate(second: Callable[[int], bool], third: Callable[[int], bool]) -> re.Pattern[bytes]:
    """Return the pattern of places where frames may begin again after other bytes, found in one pass.

    A place is one that may hold a header, by the possible values of its second and third byte, or a tag; at the end of
    the data, the beginning of either.
    """
    seconds, thirds = (re.escape(bytes(byte for byte in range(256) if may_be(byte))) for may_be in (second, third))
    frame = b"\xff(?:[%b](?:[%b]|\\Z)|\\Z)" % (seconds, thirds)
    return re.compile(frame + b"|I(?:D3|D?\\Z)|A(?:PETAGEX|(?:PE?|PET|PETA|PETAG|PETAGE)?\\Z)")


_MP3_CANDIDATE = _candidate(
    lambda byte: byte & 0xE6 == 0xE2 and byte & 0x18 != 0x08, lambda byte: byte >> 4 not in (0, 15) and byte & 12 != 12
)
_ADTS_CANDIDATE = _candidate(lambda byte: byte & 0xF6 == 0xF0, lambda byte: byte >> 2 & 15 < 13)


class _Scanner:
    """Scanner that steps from header to header, over ID3 and APE tags, and resynchronizes after anything else.

    Each byte is inspected and copied a fixed number of times, however the bytes are split and whatever they are; no
    more than a frame is held. Tags are skipped without being held.
    """

    __slots__ = ("_buffer", "_candidate", "_in_step", "_needed", "_read", "_size", "_skip", "stray_bytes")

    def __init__(self, size: int, read: Callable[[bytes], FrameHeader | None], candidate: re.Pattern[bytes]) -> None:
        self.stray_bytes = 0
        self._size = size  # bytes in a header
        self._read = read
        self._candidate = candidate
        self._buffer = bytearray()
        self._needed = 0  # bytes in the buffer below which a scan would find nothing new
        self._skip = 0  # bytes of a tag still to come
        self._in_step = True

    @property
    def truncated(self) -> bool:
        """True if the remaining bytes begin a frame that is not complete."""
        head = bytes(self._buffer[: self._size])  # empty, where the last frame ended with the last byte
        return self._in_step and len(head) == self._size and self._read(head) is not None

    def _scan(self, data: bytes, *, last: bool = False) -> list[tuple[bytes, FrameHeader]]:
        """Add the next bytes and return the frames that are complete; with `last`, no more bytes will come."""
        found: list[tuple[bytes, FrameHeader]] = []
        # The rest of a tag is dropped before it gets into the buffer. A tag that claimed 256 MB once kept a gateway
        # busy past its deadline, with 588 MB held.
        if self._skip:
            step = min(self._skip, len(data))
            self._skip -= step
            data = data[step:]
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._needed and not last:
            return found
        at, needed = 0, 0
        while True:
            if self._skip:
                step = min(self._skip, len(buffer) - at)
                self._skip -= step
                at += step
            if buffer[at : at + 1] != b"\xff" and (tag := _tag_at(buffer, at)) is not None:
                if len(buffer) - at < tag.head:
                    break
                self._skip = tag.length(bytes(buffer[at : at + tag.head]))
                continue
            if len(buffer) - at < self._size:
                break
            header = self._read(bytes(buffer[at : at + self._size]))
            if header is not None and not self._in_step:
                confirmed = self._confirmed(at + header.length, last)
                if confirmed is None:
                    needed = header.length + self._size
                    break
                header = header if confirmed else None
            if header is None:
                passed, at = at, self._next_candidate(at + 1)
                self.stray_bytes += at - passed
                continue
            end = at + header.length
            if end > len(buffer):
                needed = header.length
                break
            self._in_step = True
            self.stray_bytes = 0
            with memoryview(buffer) as view:  # a slice of the bytearray itself would copy twice
                frame = bytes(view[at:end])
            found.append((frame, header))
            at = end
        del buffer[:at]
        self._needed = needed
        return found

    def _confirmed(self, follows: int, last: bool) -> bool | None:
        """Return whether another header follows where this one says; None while those bytes have not come.

        Among other bytes, one place in two thousand looks like a header.
        """
        following = bytes(self._buffer[follows : follows + self._size])
        if len(following) == self._size:
            return self._read(following) is not None
        return follows == len(self._buffer) if last else None

    def _next_candidate(self, start: int) -> int:
        self._in_step = False
        found = self._candidate.search(self._buffer, start)
        return found.start() if found else len(self._buffer)


class Mp3Framer(_Scanner):
    """Framer of MPEG layer III. An encoder's tag is not audio, but gives the number of samples to skip."""

    __slots__ = ("_delay", "_has_audio", "declared_frames", "declares_length", "misreports_length")

    pending_seconds = 0.0

    def __init__(self) -> None:
        super().__init__(4, _mp3_header, _MP3_CANDIDATE)
        self._delay = 0  # samples still to skip
        self._has_audio = False
        self.declared_frames: int | None = None  # by the encoder's tag
        self.misreports_length = False
        self.declares_length = False

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes and return the frames that they complete."""
        return self._audio_frames(self._scan(data))

    def finish(self) -> list[Frame]:
        """Return the frames that were held back at the end of the stream."""
        return self._audio_frames(self._scan(b"", last=True))

    def skim(self, data: bytes, coding: Coding | None, *, to_sound: bool) -> tuple[int, int] | None:
        """Add the next bytes and count their samples and frames, at a hundredth of the cost of cutting frames.

        Returns None, and adds nothing, where each frame has to be inspected: before a tag, out of step, of another
        `coding` (None: than the first of these frames), or, with `to_sound`, where the last frame does not show at once
        that it is no silence.
        """
        if self._delay or self._skip or not self._in_step:
            return None
        buffer = self._buffer
        if len(buffer) + len(data) < self._needed:
            buffer += data
            return 0, 0
        pending = bytes(buffer) + data if buffer else data
        counted = count_frames(pending, coding, to_sound=to_sound)
        if counted is None:
            return None
        samples, frames, coding, at, self._needed = counted
        buffer[:] = pending[at:]
        if frames:
            self.stray_bytes, self._has_audio = 0, True
        return samples, frames

    def resume(self, rest: bytes, *, has_audio: bool) -> None:
        """Go on where `count_frames` has counted all but the `rest`."""
        self._buffer[:] = rest
        self._has_audio = has_audio

    def take_rest(self) -> bytes | None:
        """Remove and return the bytes of an incomplete frame; None unless the frames behind them may be measured."""
        if self._delay or self._skip or not self._in_step:
            return None
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._needed = 0
        return rest

    def _audio_frames(self, found: Iterable[tuple[bytes, FrameHeader]]) -> list[Frame]:
        frames = []
        for data, header in found:
            if (
                data[header.tag_at : header.tag_at + 4] in (b"Xing", b"Info")
                or data[_VBRI_AT : _VBRI_AT + 4] == b"VBRI"
            ):
                self._delay = _encoder_delay(data, header.tag_at)
                # A tag behind audio begins another file: several were concatenated, and the first tag counts one only.
                self.misreports_length |= self._has_audio
                self.declares_length = True
                self.declared_frames = _declared_frames(data, header.tag_at)
                continue
            self._has_audio = True
            skip = min(self._delay, header.samples) if self._delay else 0
            self._delay -= skip
            frames.append(Frame(data, header.samples - skip, header.coding, skip))
        return frames


def count_frames(
    data: bytes, coding: Coding | None, *, to_sound: bool
) -> tuple[int, int, Coding | None, int, int] | None:
    """Count the frames at the beginning of `data`, at a hundredth of the cost of cutting them.

    Returns samples, frames, their coding, where the rest begins, and below how many bytes it is no frame; or None where
    each frame has to be inspected: see Mp3Framer.skim.
    """
    at, end_of_data, needed, frames, samples, last = 0, len(data), 0, 0, 0, 0
    while at + 4 <= end_of_data:
        run = _mp3_run(data[at : at + 4])
        if run is None or run.header.coding is not (coding := coding or run.header.coding):
            return None
        shortest = run.shortest
        if at + shortest > end_of_data:
            needed = shortest
            break
        # Each padded frame adds a byte: after `shortest` of them, the number of frames would be ambiguous.
        found = run.pattern.match(data, at, at + shortest * (shortest - 1))
        end = found.end() if found else at
        if end == at:
            if at + run.header.length <= end_of_data:  # the frame is complete, and differs from the others
                return None
            needed = run.header.length
            break
        frames += (count := (end - at) // shortest)
        samples += count * run.header.samples
        at, last = end, shortest
    # The last frame of a stream is often filled up with equal bytes: then all of it counts, but for the padding.
    if to_sound and frames and len(set(data[at - min(last, SOUND_BYTES) : at])) <= MAX_DISTINCT_BYTES_OF_SILENCE:
        # Where its beginning sounds, the rest of the frame, which takes longer, need not be looked at.
        begins_quiet = len(set(data[at - last : at - last + SOUND_BYTES])) <= MAX_DISTINCT_BYTES_OF_SILENCE
        if begins_quiet and len(set(data[at - last : at])) <= MAX_DISTINCT_BYTES_OF_SILENCE:
            return None
    return samples, frames, coding, at, needed


def begins_frame(data: bytes) -> bool:
    """Return whether these bytes begin a frame."""
    return len(data) >= 4 and _mp3_header(data[:4]) is not None


def measure_run(data: bytearray, most: float) -> tuple[int, int, bool] | None:
    """Return bytes and samples of the similar frames at the beginning of `data`, and whether there may be others.

    They have `most` samples at most. Returns None where each frame has to be inspected.
    """
    size = len(data)
    run = _mp3_run(bytes(data[:4])) if size >= 4 else None
    if run is None:
        return None if size >= 4 else (0, 0, False)
    samples, shortest = run.header.samples, run.shortest
    # Each padded frame adds a byte: after `shortest` of them, the number of frames would be ambiguous.
    wanted = min(size // shortest, int(most // samples) if most < size * samples else size)
    count = min(wanted, shortest - 1)
    found = run.pattern.match(data, 0, count * (shortest + 1))
    end = found.end() if found else 0
    if not end and count and size > run.header.length:
        return None
    frames = end // shortest
    return end, frames * samples, frames < wanted and end > 0


class AacFramer(_Scanner):
    """Framer of AAC in ADTS."""

    __slots__ = ()

    pending_seconds = 0.0
    misreports_length = declares_length = False  # ADTS has no header for the whole stream
    declared_frames = None

    def __init__(self) -> None:
        super().__init__(7, _adts_header, _ADTS_CANDIDATE)

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes and return the frames that they complete."""
        return [Frame(frame, head.samples, head.coding) for frame, head in self._scan(data)]

    def finish(self) -> list[Frame]:
        """Return the frames that were held back at the end of the stream."""
        return [Frame(frame, head.samples, head.coding) for frame, head in self._scan(b"", last=True)]


class _TagKind(NamedTuple):
    """Kind of tag: its mark, the bytes of its head, and the function that reads its length from the head."""

    mark: bytes
    head: int
    length: Callable[[bytes], int]


def _tag_at(buffer: bytearray, at: int) -> _TagKind | None:
    """Return the kind of tag that begins at `at`, or that the few bytes there may begin."""
    if not buffer.startswith((b"I", b"A"), at):
        return None
    begin = bytes(buffer[at : at + 8])
    return next((tag for tag in _TAGS if begin.startswith(tag.mark) or tag.mark.startswith(begin)), None)


def _ape_length(head: bytes) -> int:
    """Return the bytes in an APE tag with this header: items, footer, and the header itself.

    https://wiki.hydrogenaudio.org/index.php?title=APE_Tags_Header. A footer in its place ends a tag without a header.
    """
    size, flags = int.from_bytes(head[12:16], "little"), int.from_bytes(head[20:24], "little")
    return 32 + size if flags & 0x20000000 else 32


def _id3_length(head: bytes) -> int:
    """Return the bytes in an ID3v2 tag, including its ten-byte header and a footer."""
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)


_TAGS = (_TagKind(b"ID3", 10, _id3_length), _TagKind(b"APETAGEX", 32, _ape_length))
_VBRI_AT = 36  # offset in bytes, the same in every kind of frame
_MP3_RATES = (44100, 48000, 32000)
_MP3_KBPS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_KBPS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


_coding = cache(Coding)  # one object for each, so that they are compared by identity


@lru_cache(maxsize=256)  # a stream has a handful of different headers
def _mp3_header(head: bytes) -> FrameHeader | None:
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    sync = head[0] == 0xFF and head[1] >> 5 == 7
    # Index 0 is "free format", whose frames do not give their length. No speech vendor sends it.
    if not sync or version == 1 or layer != 1 or index in (0, 15) or rate_index == 3 or head[3] & 3 == 2:
        return None
    mpeg1 = version == 3
    rate = _MP3_RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    kbps = (_MP3_KBPS_1 if mpeg1 else _MP3_KBPS_2)[index]
    samples = 1152 if mpeg1 else 576
    length = samples * 125 * kbps // rate + (head[2] >> 1 & 1)
    mono = head[3] >> 6 == 3
    side_info = {(True, True): 17, (True, False): 32, (False, True): 9, (False, False): 17}[mpeg1, mono]
    return FrameHeader(length, samples, _coding("mp3float", rate, 1 if mono else 2), 4 + side_info)


@lru_cache(maxsize=256)
def _mp3_run(head: bytes) -> FrameRun | None:
    header, twin = _mp3_header(head), head[:2] + bytes([head[2] ^ 2]) + head[3:]
    padded = _mp3_header(twin)
    if header is None or padded is None:
        return None
    frames = [_untagged_pattern(each, of) for each, of in ((head, header), (twin, padded))]
    # The possessive quantifier keeps no positions to return to: they would take memory for each frame.
    pattern = re.compile(b"(?:" + b"|".join(frames) + b")*+", re.DOTALL)
    return FrameRun(header, pattern, min(header.length, padded.length))


def _untagged_pattern(head: bytes, header: FrameHeader) -> bytes:
    """Return the pattern of a frame with this head that is not an encoder's tag."""
    pattern, at = re.escape(head), len(head)
    for place, tags in sorted([(header.tag_at, b"Xing|Info"), (_VBRI_AT, b"VBRI")]):
        if place < header.length:
            pattern += b".{%d}(?!%s)" % (place - at, tags)
            at = place
    return pattern + b".{%d}" % (header.length - at)


def _declared_frames(frame: bytes, tag_at: int) -> int | None:
    """Return the number of frames by a Xing, LAME or VBRI tag; None if the tag has none."""
    if frame[_VBRI_AT : _VBRI_AT + 4] == b"VBRI":
        return int.from_bytes(frame[_VBRI_AT + 14 : _VBRI_AT + 18], "big")
    flags = frame[tag_at + 7 : tag_at + 8]
    return int.from_bytes(frame[tag_at + 8 : tag_at + 12], "big") if flags and flags[0] & 1 else None


def _encoder_delay(frame: bytes, tag_at: int) -> int:
    """Return the samples that LAME or FFmpeg put before the first real one, plus the decoder's own 529."""
    fields = frame[tag_at + 7 : tag_at + 8]
    if not fields or frame[tag_at : tag_at + 4] not in (b"Xing", b"Info"):
        return 0
    sizes = ((1, 4), (2, 4), (4, 100), (8, 4))  # frames, bytes, table of contents, quality
    lame_at = tag_at + 8 + sum(size for flag, size in sizes if fields[0] & flag)
    if frame[lame_at : lame_at + 4] not in (b"LAME", b"Lavc", b"Lavf"):
        return 0
    delay = int.from_bytes(frame[lame_at + 21 : lame_at + 24], "big") >> 12
    return delay + 529


_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


@lru_cache(maxsize=4096)  # the length of a frame is in its header, so a stream has hundreds of different ones
def _adts_header(head: bytes) -> FrameHeader | None:
    rate_index = head[2] >> 2 & 15
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    if head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or rate_index >= len(_AAC_RATES) or length < 7:
        return None
    blocks = (head[6] & 3) + 1
    channels = (head[2] & 1) << 2 | head[3] >> 6  # 0: the channels are described in the frame itself
    return FrameHeader(length, 1024 * blocks, _coding("aac", _AAC_RATES[rate_index], channels or 1))
