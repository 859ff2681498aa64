"""Memory limit on the audio that one request holds, and estimates of how much of it a text takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO

from steadyvoice.audio.flac import FlacSampleCounter, with_sample_count
from steadyvoice.audio.wav import wav_header
from steadyvoice.providers.base import CHUNK_SIZE
from steadyvoice.speech.duration_estimate import estimate_duration
from steadyvoice.speech.errors import TTSTextTooLongError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.text import SECONDS_PER_CHARACTER, count_letters_and_digits

MAX_AUDIO_BYTES = 64 * 1024 * 1024
"""Default limit in bytes: an hour and ten minutes of MP3 at 128 kbit/s, eleven minutes of samples at 48 kHz."""

MIN_AUDIO_BYTES = 1024 * 1024
"""Bytes that are held before any of an answer is validated; a lower limit would reject every answer."""

_WIDE = "\u2e80"  # from here on, nearly all characters are Chinese, Japanese or Korean
_SECONDS_PER_WIDE_CHARACTER = 0.25
_LENGTH_MARGIN = 2.0  # times the expected duration, which a slow voice or a text full of numbers may take
_PADDING_FACTOR = 2.0  # times the longest expected duration: no voice speaks so slowly


def bytes_per_second(format: AudioFormat) -> float:
    """Return the bytes of one second, by the nominal rate where frames vary, and half of the samples' size for FLAC."""
    return format.bytes_per_second or 125.0 * (format.bitrate or 8 * format.sample_rate / 1000)


def usual_seconds(text: str, speed: float = 1.0) -> float:
    """Return the seconds that a text usually takes."""
    wide = 0 if text.isascii() else sum(character >= _WIDE for character in text)
    return (len(text) * SECONDS_PER_CHARACTER + wide * _SECONDS_PER_WIDE_CHARACTER) / speed


def refuse_too_large(text: str, format: AudioFormat, speed: float, max_bytes: int) -> None:
    """Raise TTSTextTooLongError if the whole audio of a text certainly exceeds so many bytes."""
    size = count_letters_and_digits(text) * SECONDS_PER_CHARACTER / speed * bytes_per_second(format)
    if size > max_bytes:
        raise TTSTextTooLongError(
            f"the audio of {len(text)} characters takes about {round(size / 1_000_000)} MB as {format}, and at most "
            f"{max_bytes} bytes are held for one answer (max_audio_bytes): use stream(), which holds none of it, "
            "a smaller format, or raise the limit"
        )


def fits(text: str, format: AudioFormat, speed: float, max_bytes: int) -> bool:
    """Return whether the whole audio of a text certainly fits into so many bytes, unless its voice does not stop."""
    return _LENGTH_MARGIN * usual_seconds(text, speed) * bytes_per_second(format) <= max_bytes


def characters_that_fit(format: AudioFormat, speed: float, max_bytes: int) -> int:
    """Return the number of characters whose audio, as samples, stays below `max_bytes` bytes."""
    return max(1, int(max_bytes / (_LENGTH_MARGIN * SECONDS_PER_CHARACTER / speed * 2 * format.sample_rate)))


def is_padded(text: str, seconds: float, speed: float = 1.0) -> bool:
    """Return whether so many seconds are far more than the text needs, which is the provider's fault."""
    return seconds > 10.0 + _PADDING_FACTOR * estimate_duration(text).longest / min(speed, 1.0)


async def collect_audio(chunks: AsyncIterator[bytes], format: AudioFormat, max_bytes: int) -> bytes:
    """Collect a whole answer, with its true length in the header of a WAV or a FLAC.

    Raises TTSTextTooLongError beyond `max_bytes` bytes.

    The bytes are held once: a single chunk, as is usual, is the answer, and of several none is kept beside the whole.
    """
    # BytesIO shares its buffer with the bytes it returns, so that the whole answer is not copied at its end.
    first, held, size = b"", BytesIO(), 0
    count = FlacSampleCounter() if format.codec is Codec.FLAC else None
    async for data in chunks:
        size += len(data)
        if size > max_bytes:
            raise TTSTextTooLongError(
                f"the audio has more than {max_bytes} bytes, which is all that is held for one answer "
                "(max_audio_bytes): use stream(), which holds none of it, a smaller format, or raise the limit"
            )
        if count:
            await _count_samples(count, data)
        if not first:
            first = data
            continue
        if not held.tell():
            held.write(first)
        held.write(data)
    head = bytes(held.getbuffer()[:_HEADER]) if held.tell() else first[:_HEADER]
    header = with_sample_count(head, count.finish()) if count else true_header(first, size)
    if header and format.codec in (Codec.WAV, Codec.FLAC):
        if not held.tell():
            held.write(first)
            first = b""
        held.seek(0)
        held.write(header)
    return held.getvalue() if held.tell() else first


_HEADER = 42  # bytes before the frames of a FLAC whose only metadata is its STREAMINFO


async def _count_samples(count: FlacSampleCounter, data: bytes) -> None:
    """Count samples block by block, because the event loop is shared."""
    for at in range(0, len(data), CHUNK_SIZE):
        if at:
            await asyncio.sleep(0)
        count.feed(data[at : at + CHUNK_SIZE])


def true_header(wav: bytes, size: int) -> bytes | None:
    """Return the header that a WAV of this size should have, if its own was written while that was unknown."""
    if wav[:4] != b"RIFF" or wav[36:44] != b"data\xff\xff\xff\xff":
        return None
    return wav_header(int.from_bytes(wav[24:28], "little"), size - 44)
