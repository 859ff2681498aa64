"""Buffers that hold one voice's audio until it may be released: as samples, as unmodified MP3 frames or
companded samples, or as bytes.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing
from io import BytesIO
from math import inf
from typing import Protocol

from steadyvoice.audio.conversion import Converter, convert
from steadyvoice.audio.frames import Frame
from steadyvoice.audio.mpeg import Mp3Framer, measure_run
from steadyvoice.speech.format import AudioFormat, Codec

# Every buffer has a limit in bytes, and holds each byte once. Before, three answers of 99,900 characters took 3.9 GB:
# as chunks, as their sum, and as samples.

_DECODE_STEP = 2048
"""Bytes that are decoded at once: in FLAC and Opus, a few of them may hold minutes of silence."""


class BufferLimitError(Exception):
    """Raised by a buffer that would exceed its limit, in bytes."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"more than {limit:.0f} bytes of audio")
        self.limit = limit


class AudioBuffer(Protocol):
    """Buffer that is fed at the end and released from the front."""

    @property
    def unmodified(self) -> bool:
        """True if the bytes released are those fed. If not, they are 16-bit mono samples."""

    @property
    def received(self) -> float:
        """Seconds of audio fed so far, whether held or released."""
        ...

    @property
    def released(self) -> int:
        """Number of samples released so far."""
        ...

    def feed(self, data: bytes) -> None:
        """Add the next bytes. Raises BufferLimitError."""

    def finish(self) -> None:
        """Add what a decoder held back, at the end of the audio."""

    def release(self, seconds: float | None = None) -> bytes:
        """Remove and return the audio held, up to so many seconds from the beginning of the audio, or all of it."""


class ByteBuffer:
    """Buffer of any format, unmodified, that is released as a whole."""

    unmodified = True
    received, released = 0.0, 0  # not known, and not needed: bytes are not parsed

    def __init__(self, format: AudioFormat, limit: float = inf) -> None:
        self._format, self._limit = format, limit
        self._only = b""  # a single chunk is kept as it is, so that it is not copied
        self._pending = BytesIO()

    def tail(self, seconds: float) -> bytes:
        """Return bytes that hold at least the last `seconds`; all of them in formats that cannot be cut anywhere."""
        held = self._only or self._pending.getbuffer()
        if not self._format.is_concatenable:
            return bytes(held)
        size = 2 * round(seconds * (self._format.bytes_per_second or 125 * (self._format.bitrate or 320)))
        begin = max(0, len(held) - size)
        return bytes(held[begin - begin % 2 :])

    def feed(self, data: bytes) -> None:
        if len(self._only) + self._pending.tell() + len(data) > self._limit:
            raise BufferLimitError(self._limit)
        if not self._only and not self._pending.tell():
            self._only = data
            return
        if self._only:
            self._pending.write(self._only)
            self._only = b""
        self._pending.write(data)

    def finish(self) -> None:
        """Do nothing: no bytes are held back."""

    def release(self, seconds: float | None = None) -> bytes:
        only, held, self._only, self._pending = self._only, self._pending, b"", BytesIO()
        return only or held.getvalue()


class Mp3FrameBuffer:
    """Buffer of unmodified MP3 frames, without tags. A frame is released once its last sample may be heard.

    Nearly all MP3 is a run of similar frames, which are not cut but measured when they are released.
    """

    unmodified = True

    def __init__(self, format: AudioFormat, limit: float = inf) -> None:
        self.rate, self._limit = format.sample_rate, limit
        self.released = 0
        """Number of samples released so far."""
        self._framer: Mp3Framer | None = None  # while frames have to be cut
        self._uncut = bytearray()  # bytes behind the frames that were cut
        self._size = 0  # bytes of these frames
        self._pending: deque[Frame] = deque()
        self._finished = False

    @property
    def received(self) -> float:
        """Seconds of audio fed so far, whether held or released."""
        self._cut()
        return (self.released + sum(frame.samples for frame in self._pending)) / self.rate

    def feed(self, data: bytes) -> None:
        self._uncut += data
        if self._size + len(self._uncut) > self._limit:
            raise BufferLimitError(self._limit)

    def finish(self) -> None:
        self._finished = True

    def release(self, seconds: float | None = None) -> bytes:
        end = inf if seconds is None else int(seconds * self.rate)
        ready, pending = list[bytes](), self._pending
        while True:
            while pending and self.released + pending[0].samples <= end:
                frame = pending.popleft()
                self._size -= len(frame.data)
                self.released += frame.samples
                ready.append(frame.data)
            uncut = self._uncut
            if pending or not uncut:
                break
            run = None if self._framer else measure_run(uncut, end - self.released)
            if run is None:
                if not self._cut():
                    break
                continue
            size, samples, may_go_on = run
            if size:
                with memoryview(uncut) as view:  # slicing the bytearray itself would copy twice
                    ready.append(bytes(view[:size]))
                del uncut[:size]
                self.released += samples
            if not may_go_on:
                break
        return ready[0] if len(ready) == 1 else b"".join(ready)

    @property
    def pending(self) -> tuple[bytes, int]:
        """The frames still held, and the number of samples that they decode to."""
        self._cut()
        frames = self._pending
        return b"".join(frame.data for frame in frames), sum(frame.samples + frame.skip for frame in frames)

    def tail(self, seconds: float) -> bytes:
        """Return frames that hold at least the last `seconds`, as far as they are still held."""
        self._cut()
        frames, left = list[bytes](), 2 * seconds * self.rate
        for frame in reversed(self._pending):
            frames.append(frame.data)
            if (left := left - frame.samples) <= 0:
                break
        return b"".join(reversed(frames))

    def _cut(self) -> bool:
        """Cut all bytes into frames, and return whether there are any."""
        framer = self._framer = self._framer or Mp3Framer()
        frames = framer.feed(bytes(self._uncut))
        self._uncut.clear()
        if self._finished:
            frames += framer.finish()
        self._pending += frames
        self._size += sum(len(frame.data) for frame in frames)
        if (rest := framer.take_rest()) is not None:  # what follows may be a run again
            self._framer, self._uncut = None, bytearray(rest)
        return bool(frames)


class CompandedBuffer:
    """Buffer of unmodified mu-law or A-law, where each byte is a sample: telephone audio is not decoded on its way."""

    unmodified = True

    def __init__(self, format: AudioFormat, limit: float = inf) -> None:
        self._format, self._rate, self._limit = format, format.sample_rate, limit
        self.released = 0
        """Number of samples released so far."""
        self._pending = bytearray()

    @property
    def received(self) -> float:
        """Seconds of audio fed so far, whether held or released."""
        return (self.released + len(self._pending)) / self._rate

    def head(self, count: int) -> bytes:
        """Return the first `count` samples still held, as 16-bit samples."""
        held = bytes(self._pending[: max(0, count)])
        return convert(held, self._format, AudioFormat(Codec.PCM, self._rate)) if held else b""

    def tail(self, seconds: float) -> bytes:
        """Return the last `seconds` that are still held, in the buffer's format."""
        return bytes(self._pending[max(0, len(self._pending) - round(seconds * self._rate)) :])

    def feed(self, data: bytes) -> None:
        self._pending += data
        if len(self._pending) > self._limit:
            raise BufferLimitError(self._limit)

    def finish(self) -> None:
        """Do nothing: no bytes are held back."""

    def release(self, seconds: float | None = None) -> bytes:
        count = len(self._pending)
        if seconds is not None:
            count = min(count, max(0, round(seconds * self._rate) - self.released))
        ready = bytes(self._pending[:count])
        del self._pending[:count]
        self.released += count
        return ready


class SampleBuffer:
    """Buffer of any format, decoded to 16-bit mono samples of one rate."""

    unmodified = False

    def __init__(self, source: AudioFormat, rate: int, limit: float = inf) -> None:
        samples = AudioFormat(Codec.PCM, rate)
        self._rate, self._limit = rate, limit
        self._step = None if source.bytes_per_second else _DECODE_STEP
        self._converter = Converter(source, samples)
        self._pending = bytearray()
        self._released = 0

    @property
    def is_plain_pcm(self) -> bool:
        """True if nothing has to be decoded, as far as is known yet."""
        return self._converter.is_plain_pcm

    @property
    def received(self) -> float:
        return (self._released + len(self._pending) // 2) / self._rate

    @property
    def released(self) -> int:
        """Number of samples released so far."""
        return self._released

    def head(self, count: int) -> bytes:
        """Return the first `count` samples still held."""
        return bytes(self._pending[: 2 * max(0, min(count, len(self._pending) // 2))])

    def tail(self, seconds: float) -> bytes:
        """Return the samples of the last `seconds`, as far as they are still held."""
        held = len(self._pending) // 2
        return bytes(self._pending[2 * max(0, held - round(seconds * self._rate)) : 2 * held])

    def feed(self, data: bytes) -> None:
        step = self._step or len(data) or 1
        for at in range(0, len(data), step):
            self._pending += self._converter.feed(data[at : at + step])
            if len(self._pending) > self._limit:
                raise BufferLimitError(self._limit)

    def finish(self) -> None:
        self._pending += self._converter.finish()

    def release(self, seconds: float | None = None) -> bytes:
        held = len(self._pending) // 2
        count = held if seconds is None else min(held, max(0, round(seconds * self._rate) - self._released))
        with memoryview(self._pending) as view:  # slicing the bytearray itself would copy twice
            ready = bytes(view[: 2 * count])
        del self._pending[: 2 * count]
        self._released += count
        return ready


class RecentOutput:
    """Last seconds of the audio sent, kept so that another voice can continue from it: its loudness, and its end."""

    def __init__(self, seconds: float = 3.0) -> None:
        self._seconds = seconds
        self._format: AudioFormat | None = None
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._limit = 0.0  # bytes

    def add(self, format: AudioFormat, data: bytes) -> None:
        """Add audio and drop what is older than the limit. Another format replaces everything."""
        if format is not self._format and format != self._format:
            self._format, self._size = format, 0
            self._limit = self._seconds * (format.bytes_per_second or (format.bitrate or 128) * 125)
            self._chunks.clear()
        self._chunks.append(data)
        self._size += len(data)
        while self._chunks and self._size - len(self._chunks[0]) >= self._limit:
            self._size -= len(self._chunks.popleft())

    def samples(
        self, rate: int, then: bytes = b"", format: AudioFormat | None = None, *, last: float | None = None
    ) -> bytes:
        """Return the audio as 16-bit mono samples of this rate, followed by the bytes `then`, which are of `format`.

        With `last`, only that many seconds at the end are decoded and returned, and no more is held meanwhile.
        """
        format = format or self._format
        out = self._chunks if format == self._format else ()
        if format is None or not (out or then):
            return b""
        with closing(Converter(format, AudioFormat(Codec.PCM, rate))) as converter:
            if last is None:
                return converter.feed(b"".join((*out, then))) + converter.finish()
            end, limit = bytearray(), 2 * round(last * rate)
            for chunk in (*out, then):
                for at in range(0, len(chunk), _DECODE_STEP):
                    end += converter.feed(chunk[at : at + _DECODE_STEP])
                    del end[: max(0, len(end) - limit)]
            end += converter.finish()
            return bytes(end[max(0, len(end) - limit) :])
