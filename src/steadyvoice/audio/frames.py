"""Frames: the pieces that audio is cut into before it is measured or decoded. No decoding here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Coding:
    """Parameters that a decoder needs before the first frame. `codec` is FFmpeg's name for it."""

    codec: str
    rate: int  # samples per second
    channels: int = 1
    setup: bytes = b""  # the codec's own header, such as FLAC's STREAMINFO
    is_plain_pcm: bool = field(init=False, repr=False, compare=False)
    """Whether the bytes are 16-bit mono samples already. No property: it is read for each frame."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_plain_pcm", self.codec == "pcm_s16le" and self.channels == 1)


class Frame(NamedTuple):
    """Piece of audio that decodes on its own.

    `samples` of it are audible (per channel, at the coding's rate), after the first `skip`.
    """

    # A tuple and no dataclass: a second of streaming has hundreds of them.
    data: bytes
    samples: int
    coding: Coding
    skip: int = 0


class Framer(Protocol):
    """Parser that cuts the bytes of one format, split anywhere, into frames. Stray bytes are skipped."""

    @property
    def pending_seconds(self) -> float:
        """Seconds in a frame that has come but whose end is known only when the next one starts."""

    @property
    def stray_bytes(self) -> int:
        """Bytes since the last frame that belong to none."""

    @property
    def truncated(self) -> bool:
        """Whether the bytes so far end within a frame, where this format shows that."""

    @property
    def misreports_length(self) -> bool:
        """Whether the container holds several streams, or places them wrongly: players believe its header."""

    @property
    def declared_frames(self) -> int | None:
        """Number of frames by the container's header, if it declares one."""

    @property
    def declares_length(self) -> bool:
        """Whether the container declares its length at the beginning, so that nothing may be appended to it."""

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes and return the frames that they complete."""

    def finish(self) -> list[Frame]:
        """Return the frames that were held back at the end of the stream."""


class SampleFramer:
    """Framer of raw samples of a fixed width: every byte is audio."""

    pending_seconds = 0.0
    stray_bytes = 0
    truncated = misreports_length = declares_length = False
    declared_frames = None

    def __init__(self, coding: Coding, width: int) -> None:
        self._coding = coding
        self._width = width  # bytes of one sample of every channel
        self._rest = b""

    def has_layout(self, coding: Coding, width: int) -> bool:
        """Whether these samples have that coding and that width in bytes."""
        return self._coding == coding and self._width == width

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes and return all whole samples as one frame."""
        if self._rest:
            data = self._rest + data
        count = len(data) // self._width
        whole = count * self._width
        self._rest = data[whole:]
        return [Frame(data[:whole], count, self._coding)] if count else []

    def finish(self) -> list[Frame]:
        """Drop an incomplete sample."""
        return []
