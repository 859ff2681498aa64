"""Decoding of frames to 16-bit mono samples, and encoding of samples to any format.

PyAV is imported when the first frame needs it: samples and WAV never do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol
from weakref import finalize

from steadyvoice.audio.frames import Coding, Frame
from steadyvoice.audio.framing import framer_for
from steadyvoice.audio.resampling import MonoConverter, pcm_frame
from steadyvoice.audio.wav import wav_header
from steadyvoice.speech.errors import TTSNotAudioError
from steadyvoice.speech.format import AudioFormat, Codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av import AudioCodecContext, AudioFrame, AudioStream, Packet
    from av.container import OutputContainer


Pcm = tuple[int, bytes]
"""Samples per second, and the samples: 16-bit, little-endian, mono."""

_MAX_UNDECODABLE = 256 * 1024  # bytes without a valid frame after which a stream is refused


class Decoder:
    """Decoder of one stream into samples, at the rate that the stream really has.

    A broken frame among valid ones is skipped, as players do. A stream without a valid frame raises TTSNotAudioError:
    at its end, or after a quarter of a megabyte.
    """

    def __init__(self, format: AudioFormat) -> None:
        self._format = format
        self._framer = framer_for(format)
        self._coding: Coding | None = None
        self._context: AudioCodecContext | None = None
        self._mono = MonoConverter()
        self._fed_bytes = 0  # bytes
        self._decoded_any = False
        self.is_plain_pcm = False
        """Whether the last frame held 16-bit mono samples, which need no decoding."""

    def feed(self, data: bytes) -> list[Pcm]:
        """Add the next bytes and decode the frames that they complete."""
        self._fed_bytes += len(data)
        pieces = self._decode(self._framer.feed(data))
        if not self._decoded_any and self._fed_bytes > _MAX_UNDECODABLE:
            raise self._refusal()
        return pieces

    def finish(self) -> list[Pcm]:
        """Decode the frames that were held back at the end of the stream."""
        pieces = self._decode(self._framer.finish())
        if not self._decoded_any:
            raise self._refusal()
        return pieces

    def _decode(self, frames: list[Frame]) -> list[Pcm]:
        pieces = [piece for frame in frames for piece in self._pieces(frame)]
        self._decoded_any = self._decoded_any or bool(pieces)
        return [(rate, pcm) for rate, pcm in pieces if pcm]

    def _pieces(self, frame: Frame) -> list[Pcm]:
        self.is_plain_pcm = frame.coding.is_plain_pcm
        if self.is_plain_pcm:
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
        except (FFmpegError, ValueError):  # PyAV raises ValueError where a damaged header left a codec unconfigured
            return []  # the bytes looked like a frame, but are damaged

    def _trimmed(self, decoded: AudioFrame, frame: Frame) -> Pcm:
        pcm = self._mono.feed(decoded)
        # High-efficiency AAC decodes to twice the rate in its header; it never needs trimming.
        if decoded.rate == frame.coding.rate:
            pcm = pcm[2 * frame.skip : 2 * (frame.skip + frame.samples)]
        return decoded.rate, pcm

    def _refusal(self) -> TTSNotAudioError:
        return TTSNotAudioError(f"not decodable as {self._format}: no frame of audio in {self._fed_bytes} bytes")


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


class Encoder(Protocol):
    """Encoder of a stream of samples, at the format's rate, into one stream of audio."""

    def feed(self, pcm: bytes) -> bytes:
        """Add samples and return the encoded bytes that are ready."""

    def finish(self) -> bytes:
        """Return the last bytes and release all resources."""

    def close(self) -> None:
        """Release all resources at once, without the last bytes. Does nothing after `finish`."""


def encoder_for(format: AudioFormat, *, after: bytes = b"", quick: bool = False) -> Encoder:
    """Return an encoder for one stream of this format.

    For a stream that another encoder began, `after` holds the samples of its last frames, so that the first frame here
    fits behind them: the decoded sound of a frame depends on the frame before. A `quick` encoder trades some quality
    for speed: it takes about two thirds of the time.
    """
    match format.codec:
        case Codec.PCM:
            return _RawEncoder()
        case Codec.WAV:
            return _RawEncoder(wav_header(format.sample_rate))
        case _:
            settings = _CODEC_SETTINGS[format.codec]
            return _FFmpegEncoder(format, settings.quick() if quick else settings, after)


class _RawEncoder:
    """Encoder that passes samples through, behind a header if the format has one."""

    def __init__(self, header: bytes = b"") -> None:
        self._header = header

    def feed(self, pcm: bytes) -> bytes:
        if not pcm:
            return b""
        header, self._header = self._header, b""
        return header + pcm

    def finish(self) -> bytes:
        header, self._header = self._header, b""
        return header

    def close(self) -> None:
        """Do nothing: no resources are held."""


@dataclass(frozen=True, slots=True)
class _CodecSettings:
    """Settings of FFmpeg's encoder and muxer for one format."""

    codec: str
    container: str
    sample_format: str = "s16"
    # An encoder starts with frames of silence, its priming, which players of a bare stream play. It is filled up to
    # whole frames here, and these are dropped, so that sound stays where it was. The price is that a sound at full
    # level from the very first sample is faded in over some 20 ms.
    priming: int = 0  # samples
    codec_options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    quick_options: dict[str, str] = field(default_factory=dict)  # codec options that trade quality for speed

    def quick(self) -> _CodecSettings:
        """Return a copy with the options for speed."""
        return replace(self, codec_options={**self.codec_options, **self.quick_options})


_CODEC_SETTINGS = {
    # The priming is 576 samples of LAME's and 529 of the decoder's. Without a bit reservoir each frame decodes on its
    # own, so that a stream may be cut, and another one appended, at any frame.
    Codec.MP3: _CodecSettings(
        "libmp3lame",
        "mp3",
        "s16p",
        1105,
        {"reservoir": "0"},
        {"write_xing": "0", "id3v2_version": "0"},
        quick_options={"compression_level": "7"},
    ),
    Codec.AAC: _CodecSettings("aac", "adts", "fltp", 1024, quick_options={"aac_coder": "fast"}),
    # Pages of 100 ms: FFmpeg's default of one second would delay the first audio by that much.
    Codec.OPUS: _CodecSettings(
        "libopus", "ogg", container_options={"page_duration": "100000"}, quick_options={"compression_level": "0"}
    ),
    Codec.FLAC: _CodecSettings("flac", "flac", container_options={"metadata_header_padding": "0"}),
    Codec.ULAW: _CodecSettings("pcm_mulaw", "mulaw"),
    Codec.ALAW: _CodecSettings("pcm_alaw", "alaw"),
}


class _FFmpegEncoder:
    """Encoder and muxer by FFmpeg, into memory."""

    def __init__(self, format: AudioFormat, settings: _CodecSettings, after: bytes) -> None:
        import av

        self._rate = format.sample_rate
        self._sink = _Sink()
        self._container = av.open(
            self._sink,
            "w",
            format=settings.container,
            container_options={"fflags": "+bitexact", **settings.container_options},
        )
        # A container and its streams refer to each other, so only closing it frees their memory. The owner closes the
        # encoder; the finalizer is for an encoder that is dropped half-way.
        self._close = finalize(self, self._container.close)
        self._close.atexit = False
        self._stream = _add_stream(self._container, format, settings)
        self._stream.codec_context.open()
        frame = self._stream.codec_context.frame_size or self._rate // 50
        self._block = frame * 2
        self._dropped = -(-settings.priming // frame)  # packets of priming
        self._rest = bytearray(2 * (self._dropped * frame - settings.priming)) + after
        self._dropped += len(after) // self._block
        self._position = 0  # samples encoded
        self._started = False

    def feed(self, pcm: bytes) -> bytes:
        if not self._close.alive:  # encoding into a closed container would crash the process
            raise ValueError("encoder is closed: create a new one for another stream")
        rest = self._rest
        rest += pcm
        complete = len(rest) // self._block * self._block
        for at in range(0, complete, self._block):
            self._encode(bytes(rest[at : at + self._block]))
        del rest[:complete]
        return self._sink.taken()

    def finish(self) -> bytes:
        if not self._close.alive:
            raise ValueError("encoder is closed: create a new one for another stream")
        if self._rest:
            self._encode(bytes(self._rest))
        self._mux(self._stream.encode(None))
        self.close()
        return self._sink.taken()

    def close(self) -> None:
        self._close()  # a finalizer runs once

    def _encode(self, pcm: bytes) -> None:
        frame = pcm_frame(pcm, self._rate)
        frame.pts = self._position
        frame.time_base = Fraction(1, self._rate)
        self._position += frame.samples
        if self._started:
            self._mux(self._stream.encode(frame))
        else:
            self._started = True
            with _single_processor():
                self._mux(self._stream.encode(frame))

    def _mux(self, packets: Sequence[Packet[AudioStream]]) -> None:
        for packet in packets:
            if self._dropped:
                self._dropped -= 1
            else:
                self._container.mux(packet)


@contextmanager
def _single_processor() -> Iterator[None]:
    """Restrict the calling thread to one processor while an encoder starts.

    Where a thread's processors cannot be set (Windows, macOS), nothing is done.
    """
    # PyAV passes the first frame to a filter graph, which starts one idle thread for each processor that the calling
    # thread may run on, for every encoder, and offers no setting for it. Without this, an encoder keeps those threads
    # until it is closed.
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, {next(iter(allowed))})
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, allowed)


class _Sink:
    """File-like object in memory that the muxer writes to."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes) -> int:
        self._bytes += data
        return len(data)

    def taken(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken


def _add_stream(container: OutputContainer, format: AudioFormat, settings: _CodecSettings) -> AudioStream:
    from av import AudioStream

    stream = container.add_stream(settings.codec, rate=format.sample_rate, options=dict(settings.codec_options))
    assert isinstance(stream, AudioStream)  # noqa: S101  every codec we name is audio
    context = stream.codec_context
    context.layout = "mono"
    context.format = settings.sample_format
    context.time_base = Fraction(1, format.sample_rate)
    if format.bitrate is not None:
        context.bit_rate = format.bitrate * 1000
    return stream
