"""Is anything to be heard? Asked of frames until something is, and decoded only where they leave it open."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from steadyvoice.audio.convert import Converter, convert
from steadyvoice.audio.frames import Frame
from steadyvoice.speech.format import AudioFormat, Codec

QUIET = 32
"""The loudest sample of what is still silence, of 32768: -60 dB, where A-law's and MP3's own noise lies well below."""


def sounds(frames: Iterable[Frame]) -> bool:
    """Whether something is surely to be heard in these. No decoding: False means that it has to be looked at."""
    return any(_sounds(frame) for frame in frames)


def silent_end(frames: Sequence[Frame]) -> float | None:
    """Seconds of silence at the end of these, as far as bytes tell without decoding; None when it is all of them."""
    seconds = 0.0
    for frame in reversed(frames):
        left = _up_to_the_last_sound(frame)
        seconds += (1 - left) * frame.samples / frame.coding.rate
        if left:
            return seconds
    return None


def _up_to_the_last_sound(frame: Frame) -> float:
    """As a share of it: samples are looked at one by one, a codec's frame as a whole."""
    quiet = b"\0" if frame.coding.plain else _QUIET_BYTES.get(frame.coding.codec)
    if not quiet:
        return float(_sounds(frame))
    return len(frame.data.rstrip(quiet)) / max(1, len(frame.data))


def loudest(audio: bytes, format: AudioFormat) -> int:
    """Decode a piece of audio for its loudest sample, from 0 to 32768. Raises TTSNotAudioError."""
    return _peak(convert(audio, format, AudioFormat(Codec.PCM, format.sample_rate)))


def audible(audio: bytes, format: AudioFormat, *, within: float) -> bool:
    """Decode a piece of audio until something is heard, or `within` so many seconds nothing is.

    A few bytes may decode to minutes of silence: they are decoded a little at a time, and nothing is kept.
    Raises TTSNotAudioError.
    """
    samples = AudioFormat(Codec.PCM, format.sample_rate)
    converter = Converter(format, samples)
    left = 2 * round(within * format.sample_rate)
    for at in range(0, len(audio), _DECODED):
        pcm = converter.feed(audio[at : at + _DECODED])
        if _peak(pcm) > QUIET:
            return True
        left -= len(pcm)
        if left <= 0:
            return False
    return _peak(converter.finish()) > QUIET


_DECODED = 1024
"""Bytes that are decoded at once. As silence in FLAC or Opus they may be a hundred seconds, some megabytes."""


def _sounds(frame: Frame) -> bool:
    if frame.coding.plain:
        return _peak(frame.data) > QUIET
    if quiet := _QUIET_BYTES.get(frame.coding.codec):
        return bool(frame.data.translate(None, quiet))
    return len(set(frame.data)) > _MONOTONOUS


def _peak(samples: bytes) -> int:
    numbers = array("h", samples[: len(samples) // 2 * 2])
    return max(max(numbers, default=0), -min(numbers, default=0))


# Samples up to QUIET in both signs (ITU-T G.711).
_QUIET_BYTES = {
    "pcm_mulaw": bytes([*range(0xFB, 0x100), *range(0x7B, 0x80)]),
    "pcm_alaw": bytes([0xD5, 0xD4, 0x55, 0x54]),
}

_MONOTONOUS = 24
"""Different bytes in a frame of a codec. Silence has 3 (Opus) to 21 (MP3, most of it padding); the faintest noise that
an encoder does not drop has 39 and more.
"""
