"""What all audio is cut into before anybody measures or decodes it: frames. No decoding here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Coding:
    """What a decoder must know before the first frame. `codec` is FFmpeg's name for it."""

    codec: str
    rate: int  # samples per second
    channels: int = 1
    setup: bytes = b""  # the codec's own header, such as FLAC's STREAMINFO

    @property
    def plain(self) -> bool:
        """Whether the bytes are 16-bit mono samples already."""
        return self.codec == "pcm_s16le" and self.channels == 1


class Frame(NamedTuple):
    """A piece that decodes on its own. A tuple, for there are hundreds in a second of streaming.

    `samples` of it are to be heard (per channel, at the coding's rate), after the first `skip`.
    """

    data: bytes
    samples: int
    coding: Coding
    skip: int = 0


class Framer(Protocol):
    """Cuts one format's bytes, which come split anywhere, into frames. What is no frame is left out."""

    @property
    def begun(self) -> float:
        """Seconds in a frame that has come but whose end cannot be known before the next one starts."""

    @property
    def lost(self) -> int:
        """Bytes since the last frame that belong to none."""

    @property
    def torn(self) -> bool:
        """Whether what has come ends within a frame, as far as this format lets one tell."""

    @property
    def misleads(self) -> bool:
        """Whether the container holds several streams, or places them wrongly: players believe it."""

    @property
    def told(self) -> int | None:
        """How many frames there are, as the container tells at its beginning."""

    @property
    def tagged(self) -> bool:
        """Whether it says anything of its length at its beginning, so that nothing may be laid behind it."""

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes and give the frames that are complete."""

    def finish(self) -> list[Frame]:
        """Give what was held back; no more bytes will come."""


class SampleFramer:
    """Raw samples of a fixed width: every byte is audio."""

    begun = 0.0
    lost = 0
    torn = misleads = tagged = False
    told = None

    def __init__(self, coding: Coding, width: int) -> None:
        self._coding = coding
        self._width = width  # bytes of one sample of every channel
        self._rest = b""

    def same(self, coding: Coding, width: int) -> bool:
        """Whether these are samples of that coding and width."""
        return self._coding == coding and self._width == width

    def feed(self, data: bytes) -> list[Frame]:
        if self._rest:
            data = self._rest + data
        count = len(data) // self._width
        whole = count * self._width
        self._rest = data[whole:]
        return [Frame(data[:whole], count, self._coding)] if count else []

    def finish(self) -> list[Frame]:
        return []  # a piece of a sample is no sample
