"""Framers by format, and the meter that counts seconds of audio from frames without decoding them."""

from __future__ import annotations

from steadyvoice.audio.flac import FlacFramer
from steadyvoice.audio.frames import Coding, Frame, Framer, SampleFramer
from steadyvoice.audio.mpeg import AacFramer, Mp3Framer
from steadyvoice.audio.ogg import OpusFramer
from steadyvoice.audio.wav import WavFramer
from steadyvoice.speech.format import AudioFormat, Codec


def framer_for(format: AudioFormat) -> Framer:
    """Return a new framer for one stream of this format."""
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
"""Bytes in a row that may belong to no frame, as tags and joints of streams leave behind. More are not audio."""


class AudioMeter:
    """Meter of the seconds of audio in a stream of one format, whose bytes come split anywhere.

    `frames` holds the frames that the last bytes completed. Nothing is decoded, so every chunk can be measured.
    """

    __slots__ = (
        "_coding", "_framer", "_frames", "_matching", "_samples", "_skim", "format", "frames", "seconds", "skimmed",
    )  # fmt: skip

    def __init__(self, format: AudioFormat, framer: Framer | None = None) -> None:
        self.format = format
        self.frames: list[Frame] = []
        self._coding: Coding | None = None
        self._matching: Coding | None = None  # the last coding that was found to match the format
        self._framer = framer = framer or framer_for(format)
        self._skim = framer.skim if isinstance(framer, Mp3Framer | SampleFramer) else None
        self._samples: dict[int, int] = {}  # by sample rate, which may change where streams were joined
        self._frames = 0
        self.seconds = 0.0
        """Seconds of audio in the whole frames seen so far, and in one whose end is known only when the next begins."""
        self.skimmed = False
        """Whether the last bytes were only counted: they are of the expected format, and no frame was cut."""

    def resume(self, coding: Coding, samples: int, frames: int) -> None:
        """Begin with samples and frames of this coding that the framer has counted before."""
        self._coding, self._samples, self._frames = coding, {coding.rate: samples}, frames
        self._count()

    def feed(self, data: bytes) -> float:
        """Add the next bytes and return the seconds of audio seen so far."""
        self.skimmed, self.frames = False, self._framer.feed(data)
        for frame in self.frames:
            self._coding = frame.coding
            rate = frame.coding.rate
            self._samples[rate] = self._samples.get(rate, 0) + frame.samples
            self._frames += 1
        self._count()
        return self.seconds

    def skim(self, data: bytes, *, to_sound: bool = False) -> float:
        """Add the next bytes without cutting them into `frames`, if possible, and return the seconds of audio so far.

        Samples are only counted then, at a hundredth of the cost, and `skimmed` is True. With `to_sound` they are cut
        unless the last of them are clearly a sound.
        """
        counted = None
        if self._skim and self._matching:
            counted = self._skim(data, self._matching, to_sound=to_sound)
        if counted is None:
            return self.feed(data)
        self.skimmed, self.frames = True, []
        if counted and self._matching:
            rate = self._matching.rate
            samples = self._samples[rate] = self._samples.get(rate, 0) + counted[0]
            self._frames += counted[1]
            if len(self._samples) == 1:  # as in nearly all streams
                self.seconds = samples / rate
            else:
                self._count()
        return self.seconds

    @property
    def has_audio(self) -> bool:
        """True if at least one frame or sample of the expected format has come."""
        return self._frames > 0 or self._framer.pending_seconds > 0

    @property
    def is_coded(self) -> bool:
        """True if the audio is known to be anything else than 16-bit mono samples."""
        return self._coding is not None and not self._coding.is_plain_pcm

    @property
    def format_mismatch(self) -> str | None:
        """Description of audio that differs from the expected format; None while it matches."""
        coding = self._coding
        if self._framer.stray_bytes > MAX_STRAY_BYTES:
            return f"{self._framer.stray_bytes} bytes that are not {self.format}"
        if coding is None or coding is self._matching:
            return None
        # The headers of high-efficiency AAC give half of the rate at which it is played.
        rates = [coding.rate, 2 * coding.rate] if self.format.codec is Codec.AAC else [coding.rate]
        if self.format.sample_rate not in rates:
            return f"audio of {coding.rate} Hz, expected {self.format}"
        if coding.channels != 1:
            return f"audio of {coding.channels} channels, expected mono"
        self._matching = coding
        return None

    @property
    def truncated(self) -> bool:
        """True if the stream ends within a frame, where its format shows that."""
        return self._framer.truncated

    def misreports_length(self, *, sole: bool) -> bool:
        """Return whether players would read a wrong length from a header of this stream.

        Unless it is the `sole` piece of an utterance, any length in its header is wrong for the whole.
        """
        framer = self._framer
        declared = framer.declared_frames
        # Some encoders count the frame that holds their tag, others do not: one frame of difference is none.
        wrong = declared is not None and abs(declared - self._frames) > 1
        return wrong or framer.misreports_length or (framer.declares_length and not sole)

    def _count(self) -> None:
        counted = sum(count / rate for rate, count in self._samples.items())
        self.seconds = counted + self._framer.pending_seconds
