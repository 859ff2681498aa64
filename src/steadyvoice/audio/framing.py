"""Framers by format, and the meter that counts seconds of audio from frames without decoding them."""

from __future__ import annotations

from steadyvoice.audio.flac import FlacFramer
from steadyvoice.audio.frames import Coding, Frame, Framer, SampleFramer
from steadyvoice.audio.mpeg import AacFramer, Mp3Framer
from steadyvoice.audio.ogg import OpusFramer
from steadyvoice.audio.wav import WavFramer
from steadyvoice.speech.format import AudioFormat, Codec


def framer_for(format: AudioFormat) -> Framer:
    """Make a framer for one stream of this format."""
    match format.codec:
        case Codec.PCM:
            return SampleFramer(Coding("pcm_s16le", format.sample_rate), 2)
        case Codec.ULAW:
            return SampleFramer(Coding("pcm_mulaw", format.sample_rate), 1)
        case Codec.ALAW:
            return SampleFramer(Coding("pcm_alaw", format.sample_rate), 1)
        case Codec.WAV:
            return WavFramer()
        case Codec.MP3:
            return Mp3Framer()
        case Codec.AAC:
            return AacFramer()
        case Codec.OPUS:
            return OpusFramer()
        case Codec.FLAC:
            return FlacFramer()


MAX_STRAY_BYTES = 4096
"""Bytes in a row that belong to no frame, such as a tag or a seam leaves behind. More of them are something else."""


class AudioMeter:
    """Counts the seconds in a stream of one format, whose bytes come split anywhere.

    `frames` are those that the last bytes completed.
    """

    def __init__(self, format: AudioFormat) -> None:
        self.format = format
        self.frames: list[Frame] = []
        self._coding: Coding | None = None
        self._as_promised: Coding | None = None  # the last that was found to be
        self._framer = framer_for(format)
        self._samples: dict[int, int] = {}  # by samples per second: joined streams may change theirs
        self._frames = 0
        self._counted = 0.0  # seconds in whole frames

    def feed(self, data: bytes) -> float:
        """Take the next bytes; give the seconds of audio seen so far."""
        self.frames = self._framer.feed(data)
        for frame in self.frames:
            self._coding = frame.coding
            rate = frame.coding.rate
            self._samples[rate] = self._samples.get(rate, 0) + frame.samples
            self._frames += 1
        self._count()
        return self.seconds

    def pass_over(self, data: bytes) -> float:
        """Do the same when nobody will look at `frames`, which is cheaper: they may be none."""
        counted = self._framer.count(data) if isinstance(self._framer, Mp3Framer) else None
        if counted is None:
            return self.feed(data)
        self.frames = []
        for header, count in counted:
            self._coding = header.coding
            rate = header.coding.rate
            self._samples[rate] = self._samples.get(rate, 0) + header.samples * count
            self._frames += count
        if counted:
            self._count()
        return self.seconds

    @property
    def seconds(self) -> float:
        """Seconds of audio in the whole frames seen so far."""
        return self._counted + self._framer.begun

    @property
    def parses(self) -> bool:
        """Whether at least one real frame or sample of the promised format has come."""
        return self._frames > 0 or self._framer.begun > 0

    @property
    def broken_promise(self) -> str | None:
        """What came instead of what was promised, if it did."""
        coding = self._coding
        if self._framer.lost > MAX_STRAY_BYTES:
            return f"{self._framer.lost} bytes that are no {self.format}"
        if coding is None or coding is self._as_promised:
            return None
        # High-efficiency AAC is written with half the rate that it is heard with.
        rates = [coding.rate, 2 * coding.rate] if self.format.codec is Codec.AAC else [coding.rate]
        if self.format.sample_rate not in rates:
            return f"audio of {coding.rate} Hz, where {self.format} was promised"
        if coding.channels != 1:
            return f"audio of {coding.channels} channels, where one was promised"
        self._as_promised = coding
        return None

    @property
    def torn(self) -> bool:
        """Whether it ends within a frame, as far as that can be told."""
        return self._framer.torn

    def misleads(self, *, sole: bool) -> bool:
        """Whether players would take its length from a header that tells another: its own, or if it is not the `sole`
        piece, that of the whole.
        """
        framer = self._framer
        lies = framer.told is not None and abs(framer.told - self._frames) > 1  # some count the tag's own frame
        return lies or framer.misleads or (framer.tagged and not sole)

    def _count(self) -> None:
        if len(self._samples) == 1:
            [(rate, count)] = self._samples.items()
            self._counted = count / rate
        else:
            self._counted = sum(count / rate for rate, count in self._samples.items())
