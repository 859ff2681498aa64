"""Short pieces of audio for tests, in every format."""

from __future__ import annotations

import math
from array import array

from steadyvoice.audio.conversion import convert
from steadyvoice.speech.format import AudioFormat, Codec

FORMAT_OF_EACH_CODEC = (
    "mp3_44100_128",
    "mp3_24000_48",
    "wav_24000",
    "pcm_16000",
    "pcm_44100",
    "opus_48000_64",
    "ulaw_8000",
    "alaw_8000",
    "aac_24000_64",
    "flac_24000",
)
PCM = AudioFormat.parse("pcm_24000")
SECONDS = 0.7


def hum(seconds: float, rate: int, hertz: float = 440.0) -> bytes:
    """Return a steady tone in 16-bit mono samples."""
    step = 2 * math.pi * hertz / rate
    return array("h", [round(8000 * math.sin(step * i)) for i in range(round(seconds * rate))]).tobytes()


def encoded_hum(name: str, seconds: float = SECONDS) -> bytes:
    return convert(hum(seconds, 24000), PCM, AudioFormat.parse(name))


def decoded_samples(audio: bytes, name: str) -> array[int]:
    return array("h", convert(audio, AudioFormat.parse(name), AudioFormat.parse("pcm_8000")))


def level_at(samples: array[int], hertz: float, rate: int) -> float:
    """Return the amplitude of one frequency."""
    step = 2 * math.pi * hertz / rate
    real = sum(sample * math.cos(step * i) for i, sample in enumerate(samples))
    imaginary = sum(sample * math.sin(step * i) for i, sample in enumerate(samples))
    return 2 * math.hypot(real, imaginary) / len(samples)


def frame_seconds(name: str) -> float:
    format = AudioFormat.parse(name)
    match format.codec:
        case Codec.MP3:
            return (1152 if format.sample_rate > 24000 else 576) / format.sample_rate
        case Codec.AAC:
            return 1024 / format.sample_rate
        case _:
            return 0.001  # raw, or trimmed by its container
