"""From 16-bit mono samples to any format. PyAV is imported only for what needs an encoder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol
from weakref import finalize

from steadyvoice.audio.resample import framed
from steadyvoice.audio.wav import wav_header
from steadyvoice.speech.format import AudioFormat, Codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av import AudioStream, Packet
    from av.container import OutputContainer


class Encoder(Protocol):
    """Streams samples, at the format's rate, into one piece of audio."""

    def feed(self, pcm: bytes) -> bytes:
        """Take samples; give the bytes that are ready."""

    def finish(self) -> bytes:
        """Give the last bytes, and let go of everything."""

    def close(self) -> None:
        """Let go of everything at once: nothing more is fed or given. After `finish` it changes nothing."""


def encoder_of(format: AudioFormat, *, after: bytes = b"", quick: bool = False) -> Encoder:
    """Make an encoder for one stream of this format. A `quick` one searches less for what would sound best.

    For a stream that another encoder began, `after` holds the samples of its last frames, so that this one's first
    frame fits behind them: what a decoder makes of a frame depends on the one before.
    """
    match format.codec:
        case Codec.PCM:
            return _Plain()
        case Codec.WAV:
            return _Plain(wav_header(format.sample_rate))
        case _:
            recipe = _RECIPES[format.codec]
            return _Encoded(format, recipe.quick() if quick else recipe, after)


class _Plain:
    """The samples themselves, behind a header where there is one."""

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
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How FFmpeg makes one format.

    An encoder starts with frames of nothing, its priming, which players of a bare stream play as silence.
    So we fill it up to whole frames and leave these out: sound stays where it was. The price is that a sound
    at full level from the very first sample is faded in over some 20 ms.
    """

    codec: str
    container: str
    sample_format: str = "s16"
    priming: int = 0  # samples
    codec_options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    haste: dict[str, str] = field(default_factory=dict)  # codec options of who is in a hurry

    def quick(self) -> _Recipe:
        return replace(self, codec_options={**self.codec_options, **self.haste})


_RECIPES = {
    # 576 samples of LAME's and 529 of the decoder's. Without a reservoir each frame stands alone, so that
    # a stream may be cut, and another joined on, at any frame.
    Codec.MP3: _Recipe(
        "libmp3lame",
        "mp3",
        "s16p",
        1105,
        {"reservoir": "0"},
        {"write_xing": "0", "id3v2_version": "0"},
        haste={"compression_level": "7"},
    ),
    Codec.AAC: _Recipe("aac", "adts", "fltp", 1024, haste={"aac_coder": "fast"}),
    # Pages of 100 ms, for the usual second would be waited for.
    Codec.OPUS: _Recipe(
        "libopus", "ogg", container_options={"page_duration": "100000"}, haste={"compression_level": "0"}
    ),
    Codec.FLAC: _Recipe("flac", "flac", container_options={"metadata_header_padding": "0"}),
    Codec.ULAW: _Recipe("pcm_mulaw", "mulaw"),
    Codec.ALAW: _Recipe("pcm_alaw", "alaw"),
}


class _Encoded:
    """What FFmpeg encodes and muxes into a sink of ours. It opens no file."""

    def __init__(self, format: AudioFormat, recipe: _Recipe, after: bytes) -> None:
        import av

        self._rate = format.sample_rate
        self._sink = _Sink()
        self._container = av.open(
            self._sink,
            "w",
            format=recipe.container,
            container_options={"fflags": "+bitexact", **recipe.container_options},
        )
        # A container and its streams hold on to each other, so only closing it frees their memory. Whoever has an
        # encoder closes it; this is for one that is dropped half-way.
        self._close = finalize(self, self._container.close)
        self._close.atexit = False
        self._stream = _stream(self._container, format, recipe)
        self._stream.codec_context.open()
        frame = self._stream.codec_context.frame_size or self._rate // 50
        self._block = frame * 2
        self._unheard = -(-recipe.priming // frame)  # packets to leave out
        self._rest = bytearray(2 * (self._unheard * frame - recipe.priming)) + after
        self._unheard += len(after) // self._block
        self._position = 0  # samples encoded
        self._started = False

    def feed(self, pcm: bytes) -> bytes:
        if not self._close.alive:  # FFmpeg would take the process down
            raise ValueError("this encoder is closed: make a new one for another stream")
        rest = self._rest
        rest += pcm
        whole = len(rest) // self._block * self._block
        for at in range(0, whole, self._block):
            self._encode(bytes(rest[at : at + self._block]))
        del rest[:whole]
        return self._sink.taken()

    def finish(self) -> bytes:
        if not self._close.alive:
            raise ValueError("this encoder is closed: make a new one for another stream")
        if self._rest:
            self._encode(bytes(self._rest))
        self._mux(self._stream.encode(None))
        self.close()
        return self._sink.taken()

    def close(self) -> None:
        self._close()  # a finalizer runs once

    def _encode(self, pcm: bytes) -> None:
        frame = framed(pcm, self._rate)
        frame.pts = self._position
        frame.time_base = Fraction(1, self._rate)
        self._position += frame.samples
        if self._started:
            self._mux(self._stream.encode(frame))
        else:
            self._started = True
            with _on_one_processor():
                self._mux(self._stream.encode(frame))

    def _mux(self, packets: Sequence[Packet[AudioStream]]) -> None:
        for packet in packets:
            if self._unheard:
                self._unheard -= 1
            else:
                self._container.mux(packet)


@contextmanager
def _on_one_processor() -> Iterator[None]:
    """Show FFmpeg a single processor while it starts.

    PyAV passes the first frame to a filter graph, which starts one idle thread for each processor that the calling
    thread may run on, for every encoder, and offers no setting for it. Where a thread's processors cannot be set
    (Windows, macOS), an encoder costs these threads until it is closed.
    """
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
    """What the muxer writes to."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes) -> int:
        self._bytes += data
        return len(data)

    def taken(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken


def _stream(container: OutputContainer, format: AudioFormat, recipe: _Recipe) -> AudioStream:
    from av import AudioStream

    stream = container.add_stream(recipe.codec, rate=format.sample_rate, options=dict(recipe.codec_options))
    assert isinstance(stream, AudioStream)  # noqa: S101  every codec we name is audio
    context = stream.codec_context
    context.layout = "mono"
    context.format = recipe.sample_format
    context.time_base = Fraction(1, format.sample_rate)
    if format.bitrate is not None:
        context.bit_rate = format.bitrate * 1000
    return stream
