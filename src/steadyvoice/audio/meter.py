"""How many seconds of audio have come, told from the bytes alone: cheap enough for every chunk."""

from __future__ import annotations

from steadyvoice.audio.framing import framer_of
from steadyvoice.speech.format import AudioFormat


class Meter:
    """Counts the seconds in a stream of one format, whose bytes come split anywhere."""

    def __init__(self, format: AudioFormat) -> None:
        self.format = format
        self._framer = framer_of(format)
        self._samples: dict[int, int] = {}  # by samples per second: joined streams may change theirs
        self._frames = 0

    def feed(self, data: bytes) -> float:
        """Take the next bytes; give the seconds of audio seen so far."""
        for frame in self._framer.feed(data):
            rate = frame.coding.rate
            self._samples[rate] = self._samples.get(rate, 0) + frame.samples
            self._frames += 1
        return self.seconds

    @property
    def seconds(self) -> float:
        """Seconds of audio in the whole frames seen so far."""
        return sum(count / rate for rate, count in self._samples.items()) + self._framer.begun

    @property
    def parses(self) -> bool:
        """Whether at least one real frame or sample of the promised format has come."""
        return self._frames > 0 or self._framer.begun > 0
