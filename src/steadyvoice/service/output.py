"""Joins what providers said, piece by piece, into one stream of the format the caller asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec

from steadyvoice.audio.convert import Converter
from steadyvoice.audio.encode import Encoder, encoder_of
from steadyvoice.audio.wav import wav_header
from steadyvoice.speech.format import AudioFormat, Codec

P = ParamSpec("P")


class Output:
    """Bytes of any format in, bytes of one format out. Bytes that are already right are not touched."""

    def __init__(self, target: AudioFormat) -> None:
        self.target = target
        self._samples = AudioFormat(Codec.PCM, target.sample_rate)
        self._decoder: Converter | None = None
        self._encoder: Encoder | None = None
        self._untouched = False
        self._anything = False  # came, of any piece
        self._something = False  # came, of this piece

    async def run(self, work: Callable[P, bytes], *args: P.args, **kwargs: P.kwargs) -> bytes:
        """Do some of the work below; converting in a thread, for others share the event loop."""
        if self._untouched:
            return work(*args, **kwargs)
        return await asyncio.to_thread(work, *args, **kwargs)

    def begin(self, source: AudioFormat, *, sole: bool) -> bytes:
        """A piece begins; `sole` when it is the whole utterance. What was pending before it comes out."""
        self._something = False
        self._untouched = source == self.target and (source.joinable or (sole and not self._anything))
        if self._untouched:
            return self._flush()
        self._decoder = Converter(source, self._samples)
        return b""

    def feed(self, data: bytes) -> bytes:
        """Take some of the piece."""
        self._anything = self._something = True
        if self._untouched or self._decoder is None:
            return data
        return self._encode(self._decoder.feed(data))

    def end(self) -> bytes:
        """The piece is over."""
        decoder, self._decoder = self._decoder, None
        return self._encode(decoder.finish()) if decoder and self._something else b""

    def drop(self) -> None:
        """The piece broke off: what is still inside the decoder is lost."""
        self._decoder = None

    def finish(self) -> bytes:
        """The utterance is over. Without any audio, this is a valid file of no length, where the format has one."""
        if not self._anything:
            self._encoder = encoder_of(self.target)
        return self._flush()

    def _encode(self, samples: bytes) -> bytes:
        if self._encoder is None:
            self._encoder = encoder_of(self.target)
        return self._encoder.feed(samples)

    def _flush(self) -> bytes:
        encoder, self._encoder = self._encoder, None
        return encoder.finish() if encoder else b""


def exactly_sized(wav: bytes) -> bytes:
    """Give a finished WAV its true length, if its header was written while that was unknown."""
    if wav[:4] != b"RIFF" or wav[36:44] != b"data\xff\xff\xff\xff":
        return wav
    return wav_header(int.from_bytes(wav[24:28], "little"), len(wav) - 44) + wav[44:]
