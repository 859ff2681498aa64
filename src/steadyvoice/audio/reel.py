"""Holds one voice's audio until it may go out: as samples, as MP3 frames nobody touches, or as mere bytes."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from steadyvoice.audio.convert import Converter
from steadyvoice.audio.frames import Frame
from steadyvoice.audio.headers import Mp3Frames
from steadyvoice.speech.format import AudioFormat, Codec


class Reel(Protocol):
    """Takes bytes as they come, and gives them out from the front."""

    @property
    def untouched(self) -> bool:
        """Whether what goes out is what came in. If not, samples go out."""

    @property
    def here(self) -> float:
        """Seconds of audio that came, whether still held or out already."""
        ...

    @property
    def gone(self) -> int:
        """Samples that are out."""
        ...

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""

    def finish(self) -> None:
        """No more will come: what a decoder held back is here too."""

    def out(self, seconds: float | None = None) -> bytes:
        """Give what is held, up to so many seconds from the beginning of the audio, or all."""


class Bytes:
    """Any format, as it came. It goes out as a whole."""

    untouched = True
    here, gone = 0.0, 0  # nobody asks: bytes are not looked into

    def __init__(self) -> None:
        self._held: list[bytes] = []

    @property
    def held(self) -> bytes:
        return b"".join(self._held)

    def feed(self, data: bytes) -> None:
        self._held.append(data)

    def finish(self) -> None:
        """Nothing was held back."""

    def out(self, seconds: float | None = None) -> bytes:
        held, self._held = self._held, []
        return held[0] if len(held) == 1 else b"".join(held)


class Mp3Reel:
    """MP3 frames as they came, without tags: one is out once its last sample may be heard."""

    untouched = True

    def __init__(self, format: AudioFormat) -> None:
        self.rate = format.sample_rate
        self._framer = Mp3Frames()
        self._held: deque[Frame] = deque()
        self._came = 0  # samples
        self._gone = 0

    @property
    def here(self) -> float:
        return self._came / self.rate

    @property
    def gone(self) -> int:
        """Samples that are out."""
        return self._gone

    def feed(self, data: bytes) -> None:
        self._take(self._framer.feed(data))

    def finish(self) -> None:
        self._take(self._framer.finish())

    def out(self, seconds: float | None = None) -> bytes:
        upto = self._came if seconds is None else int(seconds * self.rate)
        ready = []
        while self._held and self._gone + self._held[0].samples <= upto:
            frame = self._held.popleft()
            self._gone += frame.samples
            ready.append(frame.data)
        return b"".join(ready)

    @property
    def held(self) -> tuple[bytes, int]:
        """The frames still held, and how many samples a decoder makes of them."""
        return b"".join(frame.data for frame in self._held), sum(frame.samples + frame.skip for frame in self._held)

    def _take(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._held.append(frame)
            self._came += frame.samples


class SampleReel:
    """Any format, decoded to 16-bit mono samples of one rate."""

    untouched = False

    def __init__(self, source: AudioFormat, rate: int) -> None:
        samples = AudioFormat(Codec.PCM, rate)
        self.plain = source == samples
        """Whether nothing has to be decoded."""
        self._rate = rate
        self._converter = Converter(source, samples)
        self._held = bytearray()
        self._gone = 0

    @property
    def here(self) -> float:
        return (self._gone + len(self._held) // 2) / self._rate

    @property
    def gone(self) -> int:
        """Samples that are out."""
        return self._gone

    @property
    def held(self) -> bytes:
        """The samples still held. Half a sample may have come behind them."""
        return bytes(self._held[: len(self._held) // 2 * 2])

    def feed(self, data: bytes) -> None:
        self._held += self._converter.feed(data)

    def finish(self) -> None:
        self._held += self._converter.finish()

    def out(self, seconds: float | None = None) -> bytes:
        whole = len(self._held) // 2
        count = whole if seconds is None else min(whole, max(0, round(seconds * self._rate) - self._gone))
        ready = bytes(self._held[: 2 * count])
        del self._held[: 2 * count]
        self._gone += count
        return ready


class Echo:
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

    def samples(self, rate: int, then: bytes = b"", format: AudioFormat | None = None) -> bytes:
        """Decode it to samples of this rate, together with what came behind it, in this format, and is not out yet."""
        format = format or self._format
        out = self._chunks if format == self._format else ()
        if format is None or not (out or then):
            return b""
        converter = Converter(format, AudioFormat(Codec.PCM, rate))
        return converter.feed(b"".join((*out, then))) + converter.finish()
