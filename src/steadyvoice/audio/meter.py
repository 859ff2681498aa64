"""How many seconds of audio have come, told from the bytes alone: cheap enough for every chunk."""

from __future__ import annotations

from steadyvoice.audio.framing import framer_of
from steadyvoice.speech.format import AudioFormat


class Meter:
    """Counts the seconds in a stream of one format, whose bytes come split anywhere."""

    def __init__(self, format: AudioFormat) -> None:
        self.format = format
        self._framer = framer_of(format)
        self._counted = 0.0
        self._frames = 0

    def feed(self, data: bytes) -> float:
        """Take the next bytes; give the seconds of audio seen so far."""
        for frame in self._framer.feed(data):
            self._counted += frame.samples / frame.coding.rate
            self._frames += 1
        return self.seconds

    @property
    def seconds(self) -> float:
        """Seconds of audio in the whole frames seen so far."""
        return self._counted + self._framer.begun

    @property
    def parses(self) -> bool:
        """Whether at least one real frame or sample of the promised format has come."""
        return self._frames > 0 or self._framer.begun > 0
