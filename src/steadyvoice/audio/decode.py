"""From frames of any format to 16-bit mono samples. PyAV is imported when the first frame needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadyvoice.audio.frames import Coding, Frame
from steadyvoice.audio.framing import framer_of
from steadyvoice.audio.mono import Mono
from steadyvoice.speech.errors import TTSNotAudioError
from steadyvoice.speech.format import AudioFormat

if TYPE_CHECKING:
    from av import AudioCodecContext, AudioFrame

Pcm = tuple[int, bytes]
"""Samples per second, and the samples: 16-bit, little-endian, mono."""

_PATIENCE = 256 * 1024  # bytes without a good frame before we stop believing


class Decoder:
    """Turns one stream into samples, at the rate the stream really has.

    A broken frame amid good ones is left out, as players do. A stream without a good one raises
    TTSNotAudioError: at its end, or after a quarter of a megabyte.
    """

    def __init__(self, format: AudioFormat) -> None:
        self._format = format
        self._framer = framer_of(format)
        self._coding: Coding | None = None
        self._context: AudioCodecContext | None = None
        self._mono = Mono()
        self._seen = 0  # bytes
        self._heard = False
        self.plain = False
        """Whether the last frame held 16-bit mono samples as they are."""

    def feed(self, data: bytes) -> list[Pcm]:
        """Decode what these bytes complete."""
        self._seen += len(data)
        pieces = self._decode(self._framer.feed(data))
        if not self._heard and self._seen > _PATIENCE:
            raise self._refusal()
        return pieces

    def finish(self) -> list[Pcm]:
        """Decode what was held back."""
        pieces = self._decode(self._framer.finish())
        if not self._heard:
            raise self._refusal()
        return pieces

    def _decode(self, frames: list[Frame]) -> list[Pcm]:
        pieces = [piece for frame in frames for piece in self._pieces(frame)]
        self._heard = self._heard or bool(pieces)
        return [(rate, pcm) for rate, pcm in pieces if pcm]

    def _pieces(self, frame: Frame) -> list[Pcm]:
        self.plain = frame.coding.plain
        if self.plain:
            return [(frame.coding.rate, frame.data)]
        return [self._trimmed(decoded, frame) for decoded in self._decoded(frame)]

    def _decoded(self, frame: Frame) -> list[AudioFrame]:
        from av import Packet
        from av.error import FFmpegError

        if self._context is None or frame.coding != self._coding:
            self._context = _context_for(frame.coding)
        self._coding = frame.coding
        try:
            return self._context.decode(Packet(frame.data))
        except (FFmpegError, ValueError):  # the latter for a codec that a damaged header left without parameters
            return []  # looked like a frame, and was none

    def _trimmed(self, decoded: AudioFrame, frame: Frame) -> Pcm:
        pcm = self._mono.feed(decoded)
        # High-efficiency AAC decodes to twice the rate in its header; it never needs trimming.
        if decoded.rate == frame.coding.rate:
            pcm = pcm[2 * frame.skip : 2 * (frame.skip + frame.samples)]
        return decoded.rate, pcm

    def _refusal(self) -> TTSNotAudioError:
        what = f"{self._seen} bytes came" if self._seen else "not a byte came"
        return TTSNotAudioError(f"not decodable as {self._format}: {what}, without a frame of audio")


def _context_for(coding: Coding) -> AudioCodecContext:
    from av import AudioCodecContext, CodecContext

    context = CodecContext.create(coding.codec, "r")
    assert isinstance(context, AudioCodecContext)  # noqa: S101  every codec we name is audio
    context.thread_count = 1
    if coding.setup:
        context.extradata = coding.setup
    if coding.codec.startswith("pcm_"):
        context.sample_rate = coding.rate
        context.layout = f"{coding.channels}c" if coding.channels > 2 else ("mono", "stereo")[coding.channels - 1]
    return context
