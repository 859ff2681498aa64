"""Holds one voice's audio until it may go out: as samples, as MP3 frames nobody touches, or as mere bytes."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from io import BytesIO
from math import inf
from typing import Protocol

from steadyvoice.audio.conversion import Converter
from steadyvoice.audio.frames import Frame
from steadyvoice.audio.mpeg import Mp3Framer
from steadyvoice.speech.format import AudioFormat, Codec

_DECODE_STEP = 2048
"""Bytes that are decoded at once: a few of them may hold minutes of silence, in FLAC and in Opus."""


class BufferLimitError(Exception):
    """Raised by a reel that would have to hold more bytes than it may."""

    def __init__(self, most: float) -> None:
        super().__init__(f"more than {most:.0f} bytes of audio")
        self.most = most


class AudioBuffer(Protocol):
    """Takes bytes as they come, and gives them out from the front."""

    @property
    def unmodified(self) -> bool:
        """Whether what goes out is what came in. If not, samples go out."""

    @property
    def received(self) -> float:
        """Seconds of audio that came, whether still held or out already."""
        ...

    @property
    def released(self) -> int:
        """Samples that are out."""
        ...

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""

    def finish(self) -> None:
        """No more will come: what a decoder held back is here too."""

    def release(self, seconds: float | None = None) -> bytes:
        """Give what is held, up to so many seconds from the beginning of the audio, or all."""


class ByteBuffer:
    """Any format, as it came. It goes out as a whole, and is held once."""

    unmodified = True
    received, released = 0.0, 0  # nobody asks: bytes are not looked into

    def __init__(self, format: AudioFormat, most: float = inf) -> None:
        self._format, self._most = format, most
        self._only = b""  # the first that came, until there is more
        self._held = BytesIO()

    def tail(self, seconds: float) -> bytes:
        """Give bytes that hold at least the last so many seconds. They begin anywhere, where the format lets them."""
        held = self._only or self._held.getbuffer()
        if not self._format.is_concatenable:
            return bytes(held)
        size = 2 * round(seconds * (self._format.bytes_per_second or 125 * (self._format.bitrate or 320)))
        begin = max(0, len(held) - size)
        return bytes(held[begin - begin % 2 :])

    def feed(self, data: bytes) -> None:
        if len(self._only) + self._held.tell() + len(data) > self._most:
            raise BufferLimitError(self._most)
        if not self._only and not self._held.tell():
            self._only = data
            return
        if self._only:
            self._held.write(self._only)
            self._only = b""
        self._held.write(data)

    def finish(self) -> None:
        """Nothing was held back."""

    def release(self, seconds: float | None = None) -> bytes:
        only, held, self._only, self._held = self._only, self._held, b"", BytesIO()
        return only or held.getvalue()


class Mp3FrameBuffer:
    """MP3 frames as they came, without tags: one is out once its last sample may be heard."""

    unmodified = True

    def __init__(self, format: AudioFormat, most: float = inf) -> None:
        self.rate, self._most = format.sample_rate, most
        self._framer = Mp3Framer()
        self._size = 0  # bytes held
        self._held: deque[Frame] = deque()
        self._came = 0  # samples
        self._gone = 0

    @property
    def received(self) -> float:
        return self._came / self.rate

    @property
    def released(self) -> int:
        """Samples that are out."""
        return self._gone

    def feed(self, data: bytes) -> None:
        self._take(self._framer.feed(data))

    def finish(self) -> None:
        self._take(self._framer.finish())

    def release(self, seconds: float | None = None) -> bytes:
        upto = self._came if seconds is None else int(seconds * self.rate)
        ready = []
        while self._held and self._gone + self._held[0].samples <= upto:
            frame = self._held.popleft()
            self._size -= len(frame.data)
            self._gone += frame.samples
            ready.append(frame.data)
        return b"".join(ready)

    @property
    def pending(self) -> tuple[bytes, int]:
        """The frames still held, and how many samples a decoder makes of them."""
        return b"".join(frame.data for frame in self._held), sum(frame.samples + frame.skip for frame in self._held)

    def tail(self, seconds: float) -> bytes:
        """Give the frames that hold at least the last so many seconds, and are still held."""
        frames, left = list[bytes](), 2 * seconds * self.rate
        for frame in reversed(self._held):
            frames.append(frame.data)
            if (left := left - frame.samples) <= 0:
                break
        return b"".join(reversed(frames))

    def _take(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._held.append(frame)
            self._size += len(frame.data)
            self._came += frame.samples
        if self._size > self._most:
            raise BufferLimitError(self._most)


class SampleBuffer:
    """Any format, decoded to 16-bit mono samples of one rate."""

    unmodified = False

    def __init__(self, source: AudioFormat, rate: int, most: float = inf) -> None:
        samples = AudioFormat(Codec.PCM, rate)
        self._rate, self._most = rate, most
        self._step = None if source.bytes_per_second else _DECODE_STEP
        self._converter = Converter(source, samples)
        self._held = bytearray()
        self._gone = 0

    @property
    def plain(self) -> bool:
        """Whether nothing has to be decoded, as far as is known."""
        return self._converter.plain

    @property
    def received(self) -> float:
        return (self._gone + len(self._held) // 2) / self._rate

    @property
    def released(self) -> int:
        """Samples that are out."""
        return self._gone

    def head(self, count: int) -> bytes:
        """Give the first so many samples still held. Half a sample may have come behind them."""
        return bytes(self._held[: 2 * max(0, min(count, len(self._held) // 2))])

    def tail(self, seconds: float) -> bytes:
        """Give the samples of the last so many seconds, as far as they are still held."""
        whole = len(self._held) // 2
        return bytes(self._held[2 * max(0, whole - round(seconds * self._rate)) : 2 * whole])

    def feed(self, data: bytes) -> None:
        step = self._step or len(data) or 1
        for at in range(0, len(data), step):
            self._held += self._converter.feed(data[at : at + step])
            if len(self._held) > self._most:
                raise BufferLimitError(self._most)

    def finish(self) -> None:
        self._held += self._converter.finish()

    def release(self, seconds: float | None = None) -> bytes:
        whole = len(self._held) // 2
        count = whole if seconds is None else min(whole, max(0, round(seconds * self._rate) - self._gone))
        with memoryview(self._held) as view:
            ready = bytes(view[: 2 * count])
        del self._held[: 2 * count]
        self._gone += count
        return ready


class RecentOutput:
    """The last seconds of what went out, for who must go on from there: how loud it was, and how it ended."""

    def __init__(self, seconds: float = 3.0) -> None:
        self._seconds = seconds
        self._format: AudioFormat | None = None
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, format: AudioFormat, data: bytes) -> None:
        """Remember some, and forget what is older than so many seconds. Another format begins anew."""
        if format != self._format:
            self._format, self._size = format, 0
            self._chunks.clear()
        self._chunks.append(data)
        self._size += len(data)
        most = self._seconds * (format.bytes_per_second or (format.bitrate or 128) * 125)
        while self._chunks and self._size - len(self._chunks[0]) >= most:
            self._size -= len(self._chunks.popleft())

    def samples(
        self, rate: int, then: bytes = b"", format: AudioFormat | None = None, *, last: float | None = None
    ) -> bytes:
        """Decode it to samples of this rate, together with what came behind it, in this format, and is not out yet.

        With `last`, only that many seconds at the end are kept, and no more is held meanwhile.
        """
        format = format or self._format
        out = self._chunks if format == self._format else ()
        if format is None or not (out or then):
            return b""
        with closing(Converter(format, AudioFormat(Codec.PCM, rate))) as converter:
            if last is None:
                return converter.feed(b"".join((*out, then))) + converter.finish()
            end, most = bytearray(), 2 * round(last * rate)
            for chunk in (*out, then):
                for at in range(0, len(chunk), _DECODE_STEP):
                    end += converter.feed(chunk[at : at + _DECODE_STEP])
                    del end[: max(0, len(end) - most)]
            end += converter.finish()
            return bytes(end[max(0, len(end) - most) :])
