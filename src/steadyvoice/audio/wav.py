"""WAV: framer of files with any kind of samples, and headers for 16-bit mono.

Sources: http://soundfile.sapp.org/doc/WaveFormat/ and Microsoft's page on WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import re
import struct
from enum import Enum

from steadyvoice.audio.frames import Coding, Frame, SampleFramer

_UNKNOWN_SIZE = 0xFFFFFFFF  # size of a file that is still being written; FFmpeg uses the same
# From this size on, a size is a placeholder: sox and others write the largest number they have.
_PLACEHOLDER_SIZE = 0x7FFFF000
_ENDLESS = 1 << 62  # bytes
_READ = {b"fmt ": 40, b"ds64": 16}  # bytes of a chunk that are read, whatever size it claims
_MAX_UNKNOWN_CHUNK = 1 << 26  # bytes in a chunk of unknown name; loud samples that look like one claim more
_FILE_MARKS = (b"RIFF", b"RF64", b"BW64")
_FILE = re.compile(b"(?:RIFF|RF64|BW64)....WAVE", re.DOTALL)
_KNOWN_CHUNK = re.compile(b"RIFF|RF64|BW64|LIST|data|fact|fmt |JUNK|junk|PAD |FLLR|bext|iXML|id3 |ID3 |cue |smpl|inst")
_UNKNOWN_CHUNK = re.compile(b"[A-Za-z_][A-Za-z0-9_]{2}[A-Za-z0-9_ ]")
_HEADER_MARK = re.compile(
    rb"(?:RIFF|RF64|BW64)....WAVE|LIST....(?:INFO|adtl)|(?:id3 |ID3 )....ID3[\x02-\x04]", re.DOTALL
)
"""Head of a file or of its tags: eight fixed bytes, which samples show by chance once in 10^19."""
_PARTIAL_MARK = re.compile(
    rb"(?:R(?:I(?:F(?:F.{0,7})?)?|F(?:6(?:4.{0,7})?)?)?|BW?|BW6(?:4.{0,7})?|L(?:I(?:S(?:T.{0,7})?)?)?"
    rb"|id?|id3(?: .{0,7})?|ID?|ID3(?: .{0,7})?)\Z",
    re.DOTALL,
)
_MARK_LENGTH = 12  # bytes
_ZEROS = re.compile(b"\0+")
_MOST_CHANNELS = 8
_CODECS = {
    (1, 8): "pcm_u8",
    (1, 16): "pcm_s16le",
    (1, 24): "pcm_s24le",
    (1, 32): "pcm_s32le",
    (1, 64): "pcm_s64le",
    (3, 32): "pcm_f32le",
    (3, 64): "pcm_f64le",
    (6, 8): "pcm_alaw",
    (7, 8): "pcm_mulaw",
}


class _State(Enum):
    """Parser state: the part of a WAV stream that comes next."""

    FILE = "the head of a file"
    CHUNK = "the head of a chunk"
    SKIPPED = "a chunk without samples"
    SAMPLES = "samples"
    AFTER_SAMPLES = "what follows the declared end of samples"


def wav_bytes(pcm: bytes, rate: int) -> bytes:
    """Return complete 16-bit mono samples, `rate` per second, behind a header with their true size."""
    return wav_header(rate, len(pcm)) + pcm


def wav_header(rate: int, size: int | None = None) -> bytes:
    """Return the 44 bytes before 16-bit mono samples. `size` is that of the samples in bytes; None: unknown."""
    data = _UNKNOWN_SIZE if size is None else size
    riff = _UNKNOWN_SIZE if size is None else size + 36
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", data
    )


class WavFramer:
    """Framer of a WAV stream: cuts the samples out of its `data` chunks, in the coding that its `fmt ` chunk names.

    Sizes in headers are hints. Writers of streams leave 0, 0xFFFFFFFF or a guess, servers put the header of the first
    sentence before the samples of all, and several files come end to end. So samples end where another chunk or another
    file begins, and continue behind their declared end where neither does.
    """

    stray_bytes = 0
    misreports_length = declares_length = False  # a WAV stream is never passed on as it is
    declared_frames = None
    truncated = False  # a complete stream may be shorter than its header says

    def __init__(self) -> None:
        self._held = b""  # beginning of a header, or bytes that may be one
        self._state = _State.FILE
        self._samples: SampleFramer | None = None  # None before the first `data` chunk
        self._coding: tuple[Coding, int] | None = None
        self._skip = 0  # bytes that remain of a chunk without samples
        self._left: int | None = None  # bytes that remain of the `data` chunk; None: its end is unknown
        self._long_size: int | None = None  # size of the `data` chunk by the 64-bit extension
        self._zeros = 0  # zero bytes behind the declared end of samples
        self._empty = False  # the `data` chunk declares a size of zero
        self._expects_padding = False  # a chunk of odd size has just ended, which a byte of padding should follow

    @property
    def pending_seconds(self) -> float:
        """Seconds in bytes that are held as the possible beginning of a header."""
        if self._coding is None or self._state is not _State.SAMPLES:
            return 0.0
        coding, width = self._coding
        return len(self._held) // width / coding.rate

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes and return the frames that they complete."""
        if self._held:
            data, self._held = self._held + data, b""
        frames: list[Frame] = []
        at = 0
        while at < len(data):
            match self._state:
                case _State.SAMPLES:
                    end = self._take_samples(data, at, frames)
                case _State.SKIPPED:
                    end = self._pass_over(data, at)
                case _State.FILE:
                    end = self._open_file(data, at)
                case _State.CHUNK:
                    end = self._open_chunk(data, at)
                case _State.AFTER_SAMPLES:
                    end = self._end_samples(data, at, frames)
            if end is None:
                self._held = data[at:]
                break
            at = end
        return frames

    def finish(self) -> list[Frame]:
        """Return the frames that were held back at the end of the stream."""
        held, self._held = self._held, b""
        if self._samples and self._state is _State.AFTER_SAMPLES and self._empty:
            # A size of 0 is a placeholder: the zeros are silence, and samples.
            return self._samples.feed(bytes(self._zeros) + held)
        return self._samples.feed(held) if self._samples and self._state is _State.SAMPLES else []

    # Each of these reads from the offset `at` and returns the offset where it stopped; None if it needs more bytes.

    def _take_samples(self, data: bytes, at: int, frames: list[Frame]) -> int | None:
        """Read samples up to their declared end, or to a mark within them."""
        assert self._samples is not None  # noqa: S101 - it was made when the chunk began
        end = len(data) if self._left is None else min(len(data), at + self._left)
        # A mark ends the samples even before their declared end: of two files in one answer, only the first would be
        # heard otherwise.
        mark = _find_mark(data, at, end)
        stop = end if mark is None else min(end, mark.start())
        if stop > at:
            frames += self._samples.feed(data[at:stop])
        if self._left is not None:
            self._left -= stop - at
        if self._left == 0:
            self._state = _State.AFTER_SAMPLES
        elif mark and stop < len(data):
            return self._read_mark(mark, at)
        return stop

    def _pass_over(self, data: bytes, at: int) -> int | None:
        """Skip a chunk. Behind samples, a mark within it ends it: a wrong size must not hide the next file."""
        end = min(len(data), at + self._skip)
        mark = _find_mark(data, at, end) if self._samples else None
        stop = end if mark is None else min(end, mark.start())
        self._skip -= stop - at
        if not self._skip:
            self._state = _State.CHUNK
        elif mark and stop < len(data):
            return self._read_mark(mark, at)
        return stop

    def _read_mark(self, mark: re.Match[bytes], at: int) -> int | None:
        if mark.re is _PARTIAL_MARK:
            return mark.start() if mark.start() > at else None
        self._state, self._expects_padding = _State.CHUNK, False
        return mark.start()

    def _end_samples(self, data: bytes, at: int, frames: list[Frame]) -> int | None:
        """Look for a chunk or a file behind the declared end and any padding. Without one, samples continue."""
        # Zeros are counted, and become samples only if more samples follow. Passed on at once, endless zeros were a
        # silence of a minute and a half; counted, they are refused after a megabyte without audio.
        padding = _ZEROS.match(data, at)
        if padding:
            self._zeros += padding.end() - at
            return padding.end()
        if len(data) - at < 8:
            return None
        if _is_chunk(data, at):
            self._state = _State.CHUNK
            return at
        assert self._samples is not None  # noqa: S101 - they were made when the chunk began
        frames += self._samples.feed(bytes(self._zeros))
        self._state, self._left = _State.SAMPLES, None
        return at

    def _open_file(self, data: bytes, at: int) -> int | None:
        if len(data) - at < 12:
            return None
        self._coding, self._long_size, self._expects_padding = None, None, False
        if _FILE.match(data, at):
            self._state = _State.CHUNK
            return at + 12
        self._state, self._skip = _State.SKIPPED, _ENDLESS  # bytes that are not a WAV file hold no chunks
        return at

    def _open_chunk(self, data: bytes, at: int) -> int | None:
        """Read the head of a chunk, and its parameters of the samples."""
        if len(data) - at < 8 + self._expects_padding:
            return None
        if self._expects_padding:  # some writers omit the padding
            self._expects_padding = False
            if not _is_chunk(data, at):
                return at + 1
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind in _FILE_MARKS:
            self._state = _State.FILE
            return at
        read = min(size, _READ.get(kind, 0))
        if len(data) - at < 8 + read:
            return None
        content = data[at + 8 : at + 8 + read]
        match kind:
            case b"data" if self._coding:
                self._begin_samples(size)
                return at + 8
            case b"fmt ":
                self._coding = _parse_format_chunk(content)
            case b"ds64" if len(content) == 16:
                self._long_size = int.from_bytes(content[8:], "little")
        self._state, self._skip, self._expects_padding = _State.SKIPPED, size, bool(size % 2)
        if not size:
            self._state = _State.CHUNK
        return at + 8

    def _begin_samples(self, size: int) -> None:
        assert self._coding is not None  # noqa: S101 - the caller has looked
        coding, width = self._coding
        if self._samples is None or not self._samples.has_layout(coding, width):
            self._samples = SampleFramer(coding, width)
        if size == _UNKNOWN_SIZE and self._long_size:
            self._left = self._long_size
        else:
            self._left = size if size < _PLACEHOLDER_SIZE else None
        self._zeros, self._empty = 0, self._left == 0
        self._state = _State.SAMPLES if self._left != 0 else _State.AFTER_SAMPLES


def _find_mark(data: bytes, at: int, end: int) -> re.Match[bytes] | None:
    """Find the first mark that begins before `end`, or a possible beginning of one at the end of the data."""
    rest = _MARK_LENGTH - 1
    mark = _HEADER_MARK.search(data, at, end + rest)
    if mark or end < len(data):
        return mark
    return _PARTIAL_MARK.search(data, max(at, end - rest))


def _is_chunk(data: bytes, at: int) -> bool:
    """Return whether a chunk begins at `at`."""
    if _KNOWN_CHUNK.match(data, at):
        return True
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    return size < _MAX_UNKNOWN_CHUNK and _UNKNOWN_CHUNK.match(data, at) is not None


def _parse_format_chunk(chunk: bytes) -> tuple[Coding, int] | None:
    """Parse a `fmt ` chunk: the coding of samples, and bytes in one sample of all channels. None if unsupported.

    The fields of bytes per second and per block are ignored: they follow from the others, and are often wrong.
    """
    if len(chunk) < 16:
        return None
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == 0xFFFE and len(chunk) >= 26:
        tag = int.from_bytes(chunk[24:26], "little")
    width = (bits + 7) // 8  # samples of 12 or 20 bits fill the upper part of whole bytes
    codec = _CODECS.get((tag, 8 * width))
    if codec is None or rate == 0 or not 0 < channels <= _MOST_CHANNELS:
        return None
    return Coding(codec, rate, channels), channels * width
