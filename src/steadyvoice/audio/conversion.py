"""Streaming conversion of audio from one format to another, and silence in any format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain

from steadyvoice.audio.codec import Decoder, Encoder, Pcm, encoder_for
from steadyvoice.audio.resampling import Resampler
from steadyvoice.speech.format import AudioFormat, Codec


class Converter:
    """Streaming converter of one stream of audio to another format, in memory.

    The bytes may be split anywhere; the splits do not change the result. The output is as long as the input, to within
    one frame of the codec (26 ms for `mp3_44100_*`). Equal formats pass unchanged. With `quick`, encoding takes about
    two thirds of the time and sounds a little worse.

    `feed` and `finish` raise TTSNotAudioError when there is nothing to decode.
    """

    def __init__(self, source: AudioFormat, target: AudioFormat, *, quick: bool = False) -> None:
        self.source = source
        self.target = target
        self._closed = False
        self._work = None if source == target else _Conversion(source, target, quick)

    @property
    def is_plain_pcm(self) -> bool:
        """True if the source holds samples that only have to be copied, as far as is known yet."""
        return self._work is None or self._work.is_plain_pcm

    def feed(self, data: bytes) -> bytes:
        """Add the next bytes of the source and return the bytes of the target that are ready, perhaps none."""
        if self._closed:
            raise ValueError("converter is finished: create a new one for another stream")
        return self._work.feed(data) if self._work else data

    def finish(self) -> bytes:
        """Return the last bytes of the target. No more can be fed."""
        work, self._work = self._work, None
        self._closed = True
        return work.finish() if work else b""

    def close(self) -> None:
        """Release all resources at once, also half-way."""
        self._closed = True
        work, self._work = self._work, None
        if work:
            work.close()


def convert(audio: bytes, source: AudioFormat, target: AudioFormat) -> bytes:
    """Convert a complete piece of audio. Raises TTSNotAudioError."""
    with closing(Converter(source, target)) as converter:
        return converter.feed(audio) + converter.finish()


class _Conversion:
    """Pipeline of decoder, resampler and encoder."""

    def __init__(self, source: AudioFormat, target: AudioFormat, quick: bool) -> None:
        self._decoder = Decoder(source)
        self._encoder: Encoder = encoder_for(target, quick=quick)
        self._rate = target.sample_rate
        self._resampler: Resampler | None = None
        self._samples_out = target.codec in (Codec.PCM, Codec.WAV)

    @property
    def is_plain_pcm(self) -> bool:
        same_rate = self._resampler is not None and self._resampler.source == self._rate
        return same_rate and self._samples_out and self._decoder.is_plain_pcm

    def feed(self, data: bytes) -> bytes:
        return self._encoded(self._decoder.feed(data))

    def finish(self) -> bytes:
        try:
            ready = self._encoded(self._decoder.finish())
            rest = self._resampler.finish() if self._resampler else b""
            return ready + self._encoder.feed(rest) + self._encoder.finish()
        finally:
            self.close()

    def close(self) -> None:
        self._encoder.close()

    def _encoded(self, pieces: Iterable[Pcm]) -> bytes:
        resampled = chain.from_iterable(self._resampled(rate, pcm) for rate, pcm in pieces)
        return self._encoder.feed(b"".join(resampled))

    def _resampled(self, rate: int, pcm: bytes) -> list[bytes]:
        """Resample to the target's rate. Joined streams may change their own rate on the way."""
        # Streams of several requests may be concatenated, each at the rate of its own voice.
        if self._resampler and self._resampler.source == rate:
            return [self._resampler.feed(pcm)]
        last = self._resampler.finish() if self._resampler else b""
        self._resampler = Resampler(rate, self._rate)
        return [last, self._resampler.feed(pcm)]


def silence(format: AudioFormat, seconds: float) -> Iterator[bytes]:
    """Yield one piece of silent audio, in chunks of about a second, as they are needed.

    Zero seconds give a valid empty piece, headers included.
    """
    encoder = encoder_for(format)
    left = round(seconds * format.sample_rate)
    try:
        while left > 0:
            count = min(left, format.sample_rate)
            left -= count
            if chunk := encoder.feed(bytes(2 * count)):
                yield chunk
        if chunk := encoder.finish():
            yield chunk
    finally:
        encoder.close()
