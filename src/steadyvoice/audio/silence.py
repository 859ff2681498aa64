"""Silence in any format, made as it is needed."""

from __future__ import annotations

from collections.abc import Iterator

from steadyvoice.audio.encode import encoder_of
from steadyvoice.speech.format import AudioFormat


def silence(format: AudioFormat, seconds: float) -> Iterator[bytes]:
    """Yield one piece of audio, in chunks of about a second. No seconds give an empty one, headers included."""
    encoder = encoder_of(format)
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
