"""WAV: read with whatever samples it holds, written as 16-bit mono.

Source: http://soundfile.sapp.org/doc/WaveFormat/ and Microsoft's page
on WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import struct

from steadyvoice.audio.frames import Coding, Frame, Samples

_UNKNOWN = 0xFFFFFFFF  # the size of what is still being made; FFmpeg writes the same
_FORM_READ = 40  # bytes of a `fmt ` chunk that tell something, whatever size it claims
_MOST_CHANNELS = 8
_CODECS = {
    (1, 8): "pcm_u8",
    (1, 16): "pcm_s16le",
    (1, 24): "pcm_s24le",
    (1, 32): "pcm_s32le",
    (3, 32): "pcm_f32le",
    (3, 64): "pcm_f64le",
    (6, 8): "pcm_alaw",
    (7, 8): "pcm_mulaw",
}


def wav_bytes(pcm: bytes, rate: int) -> bytes:
    """Wrap finished 16-bit mono samples, at `rate` per second, with the true sizes in the header."""
    return wav_header(rate, len(pcm)) + pcm


def wav_header(rate: int, size: int | None = None) -> bytes:
    """Write the 44 bytes before 16-bit mono samples. `size` in bytes; None while it is unknown."""
    data = _UNKNOWN if size is None else size
    riff = _UNKNOWN if size is None else size + 36
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", data
    )


class WavFrames:
    """Cuts a WAV: everything in its `data` chunk is audio, in the form its `fmt ` chunk names."""

    begun = 0.0
    lost = 0
    torn = False  # sizes in the headers of streams are not to be believed

    def __init__(self) -> None:
        self._head = b""
        self._samples: Samples | None = None
        self._left: int | None = None  # bytes of the data chunk still to come; None without end
        self._skip = 0  # bytes of a chunk that is of no interest
        self._riff_seen = False
        self._form: tuple[Coding, int] | None = None

    def feed(self, data: bytes) -> list[Frame]:
        if self._samples is None:
            data = self._after_header(self._head + data)
        if self._samples is None:
            self._head = data
            return []
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return self._samples.feed(data)

    def finish(self) -> list[Frame]:
        return []

    def _after_header(self, data: bytes) -> bytes:
        """Read chunks until the audio starts. Gives what is left to read."""
        while self._samples is None:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
            if not self._riff_seen:
                if len(data) < 12:
                    break
                self._riff_seen = True
                # Without its mark nothing in here is a chunk: one that never ends hides it all.
                self._skip = 12 if data[:4] == b"RIFF" and data[8:12] == b"WAVE" else 1 << 62
                continue
            if len(data) < 8:
                break
            size = int.from_bytes(data[4:8], "little")
            match data[:4]:
                case b"data" if self._form:
                    self._begin_audio(size, *self._form)
                    return data[8:]
                case b"fmt " if len(data) < 8 + min(size, _FORM_READ):
                    break
                case b"fmt ":
                    self._form = _form_of(data[8 : 8 + min(size, _FORM_READ)])
            self._skip = 8 + size + size % 2
        return data

    def _begin_audio(self, size: int, coding: Coding, width: int) -> None:
        self._samples = Samples(coding, width)
        # Writers of streams leave 0, 0xFFFFFFFF or the largest number they have.
        self._left = size if 0 < size < 0x7FFFF000 else None


def _form_of(chunk: bytes) -> tuple[Coding, int] | None:
    """Read a `fmt ` chunk: how samples are coded, and bytes in one sample of all channels."""
    if len(chunk) < 16:
        return None
    tag, channels, rate, _, width, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == 0xFFFE and len(chunk) >= 26:
        tag = int.from_bytes(chunk[24:26], "little")
    codec = _CODECS.get((tag, bits))
    if codec is None or rate == 0 or not 0 < channels <= _MOST_CHANNELS or width != channels * bits // 8:
        return None
    return Coding(codec, rate, channels), width
