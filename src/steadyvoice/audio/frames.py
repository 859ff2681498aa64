"""Frames: the pieces that audio is cut into before it is measured or decoded. No decoding here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

# Samples up to the level of silence in both signs (ITU-T G.711).
_QUIET_SAMPLES = {
    "pcm_mulaw": bytes([*range(0xFB, 0x100), *range(0x7B, 0x80)]),
    "pcm_alaw": bytes([0xD5, 0xD4, 0x55, 0x54]),
}


@dataclass(frozen=True, slots=True)
class Coding:
    """Parameters that a decoder needs before the first frame. `codec` is FFmpeg's name for it."""

    codec: str
    rate: int  # samples per second
    channels: int = 1
    setup: bytes = b""  # the codec's own header, such as FLAC's STREAMINFO
    is_plain_pcm: bool = field(init=False, repr=False, compare=False)
    """Whether the bytes are 16-bit mono samples already. No property: it is read for each frame."""

    quiet: bytes = field(init=False, repr=False, compare=False)
    """Bytes of silence, where each sample stands for itself; empty in other codings."""

    def __post_init__(self) -> None:
        plain = self.codec == "pcm_s16le" and self.channels == 1
        object.__setattr__(self, "is_plain_pcm", plain)
        object.__setattr__(self, "quiet", b"\0" if plain else _QUIET_SAMPLES.get(self.codec, b""))


class Frame(NamedTuple):
    """Piece of audio that decodes on its own.

    `samples` of it are audible (per channel, at the coding's rate), after the first `skip`.
    """

    # A tuple and no dataclass: a second of streaming has hundreds of them.
    data: bytes
    samples: int
    coding: Coding
    skip: int = 0


MAX_DISTINCT_BYTES_OF_SILENCE = 24
"""Number of distinct bytes in a codec's frame up to which it may be silence.

Measured: silence has 3 (Opus) to 21 (MP3, most of it padding); the faintest noise that an encoder keeps has 39 or more.
"""

SOUND_BYTES = 64
"""Bytes at the end of a codec's frame that are looked at first: if they are no silence, the frame is none."""


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
        """True if the bytes so far end within a frame, where this format shows that."""

    @property
    def misreports_length(self) -> bool:
        """True if the container holds several streams, or places them wrongly: players believe its header."""

    @property
    def declared_frames(self) -> int | None:
        """Number of frames by the container's header, if it declares one."""

    @property
    def declares_length(self) -> bool:
        """True if the container declares its length at the beginning, so that nothing may be appended to it."""

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
        """Return whether these samples have that coding and that width in bytes."""
        return self._coding == coding and self._width == width

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes and return all whole samples as one frame."""
        if self._rest:
            data = self._rest + data
        count = len(data) // self._width
        complete = count * self._width
        self._rest = data[complete:]
        return [Frame(data[:complete], count, self._coding)] if count else []

    def skim(self, data: bytes, coding: Coding, *, to_sound: bool) -> tuple[int, int] | None:
        """Add the next bytes and return the number of samples, and of frames: one, as `feed` would return.

        None, without a change, where `feed` has to be used: with `to_sound`, if the bytes do not end in a sound.
        """
        if coding is not self._coding:
            return None
        count, left = divmod(len(self._rest) + len(data), self._width)
        end = len(data) - left  # of the last whole sample
        if to_sound and (end <= 0 or data[end - 1] in self._coding.quiet):
            return None
        self._rest = data[end:] if end > 0 else self._rest + data
        return count, 1 if count else 0

    def finish(self) -> list[Frame]:
        """Drop an incomplete sample."""
        return []
