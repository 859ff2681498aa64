"""Recorded message: a file of the user's own that is played before silence, when no provider can speak.

The file is read and decoded once, when the service starts or is reconfigured, so that a missing or damaged file is an
error then and not in an outage.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from steadyvoice.service.pipeline.output import Output
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.format import AudioFormat, Codec

FORMAT = AudioFormat(Codec.PCM, 24_000)
"""Format in which a message is held. Telephones need less, and no local voice has more."""

MAX_SECONDS = 60.0
_MAX_FILE_BYTES = 32 * 1024 * 1024
_BLOCK = int(FORMAT.bytes_per_second or 0)  # bytes that are converted at once


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """Message in 16-bit mono samples at 24 kHz, and the file that it was read from."""

    path: Path
    samples: bytes = field(repr=False)

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.samples) / _BLOCK

    async def play(self, output: Output) -> AsyncGenerator[bytes, None]:
        """Yield the message in the output's format, joined to what came before."""
        pending = output.begin(FORMAT)
        for begin in range(0, len(self.samples), _BLOCK):
            output.feed(self.samples[begin : begin + _BLOCK])
            if data := pending + await output.run(output.emit):
                yield data
            pending = b""
        if data := await output.run(output.end):
            yield data


def load_recorded_message(path: str | os.PathLike[str], key: str) -> RecordedMessage:
    """Read and decode a file in any format that FFmpeg knows.

    Raises TTSConfigurationError, whose message begins with `key`, for a file that is missing, too long or no audio.
    """
    file = Path(path).expanduser()
    try:
        size = file.stat().st_size
        content = file.read_bytes() if size <= _MAX_FILE_BYTES else b""
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TTSConfigurationError(f"{key}: cannot read {str(file)!r}: {reason}") from None
    if size > _MAX_FILE_BYTES:
        raise TTSConfigurationError(f"{key}: {str(file)!r} has {size >> 20} MiB; at most {_MAX_FILE_BYTES >> 20}")
    samples = _decode(content)
    if not samples:
        raise TTSConfigurationError(f"{key}: {str(file)!r} is no audio that can be decoded; use WAV, MP3, FLAC or Ogg")
    if len(samples) > MAX_SECONDS * _BLOCK:
        raise TTSConfigurationError(f"{key}: {str(file)!r} is longer than {MAX_SECONDS:g} s; record a shorter message")
    return RecordedMessage(file, samples)


def _decode(content: bytes) -> bytes:
    """Return the samples of a file, and a little more than the longest message at most; b"" if it is no audio."""
    import av
    from av.error import FFmpegError

    samples = bytearray()
    resampler = av.AudioResampler(format="s16", layout="mono", rate=FORMAT.sample_rate)
    try:
        with av.open(BytesIO(content), "r") as container:
            if not container.streams.audio:
                return b""
            for decoded in container.decode(container.streams.audio[0]):
                for frame in resampler.resample(decoded):
                    samples += bytes(frame.planes[0])[: 2 * frame.samples]
                if len(samples) > MAX_SECONDS * _BLOCK:
                    return bytes(samples)
            for frame in resampler.resample(None):
                samples += bytes(frame.planes[0])[: 2 * frame.samples]
    except (FFmpegError, ValueError, EOFError):
        return b""
    return bytes(samples)
