"""Audio formats, named as in ElevenLabs' `output_format`: codec, sample rate and bit rate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import PurePath

from steadyvoice.speech.errors import TTSUnsupportedFormatError


class Codec(Enum):
    """Codec or container of an audio format. All formats are mono."""

    PCM = "pcm"  # signed 16-bit little-endian samples, no header
    WAV = "wav"  # the same behind a RIFF header
    MP3 = "mp3"
    OPUS = "opus"  # in an Ogg container
    ULAW = "ulaw"  # 8-bit logarithmic samples, no header
    ALAW = "alaw"
    AAC = "aac"  # in ADTS frames
    FLAC = "flac"

    __hash__ = object.__hash__  # Enum's is a Python call


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Audio format: codec, samples per second, and kilobits per second where the codec has a bit rate."""

    codec: Codec  # codec and container
    sample_rate: int  # Hz
    bitrate: int | None = None  # kbit/s, None where it does not apply

    # Called for every request, with one of a few names; bounded, because callers may send any.
    @classmethod
    @lru_cache(256)
    def parse(cls, name: str) -> AudioFormat:
        """Parse a name such as `mp3_44100_128`, or a codec such as `mp3`, which means its default format.

        Raises TTSUnsupportedFormatError, which lists the supported names.

        >>> AudioFormat.parse("wav")
        AudioFormat(codec=<Codec.WAV: 'wav'>, sample_rate=24000, bitrate=None)
        """
        full = DEFAULT_FORMATS.get(name, name)
        if full not in FORMAT_NAMES:
            raise TTSUnsupportedFormatError(
                f"unknown audio format {name!r}: use one of {', '.join(FORMAT_NAMES)}, "
                f"or just {', '.join(DEFAULT_FORMATS)}"
            )
        codec, rate, *bitrate = full.split("_")
        return cls(Codec(codec), int(rate), int(bitrate[0]) if bitrate else None)

    @classmethod
    def of_file(cls, path: str | PurePath) -> AudioFormat:
        """Return the default format for a file's extension. Raises TTSUnsupportedFormatError for an unknown extension.

        >>> AudioFormat.of_file("chapter-1.ogg").name
        'opus_48000_64'

        - `path`: file, which need not exist.
        """
        extension = PurePath(path).suffix.lower().removeprefix(".")
        name = {"ogg": "opus", "raw": "pcm", "ul": "ulaw", "al": "alaw"}.get(extension, extension)
        if name not in DEFAULT_FORMATS:
            raise TTSUnsupportedFormatError(
                f"unknown file extension of {PurePath(path).name!r}: "
                f"use {', '.join('.' + known for known in DEFAULT_FORMATS)}, or name a format"
            )
        return cls.parse(name)

    @property
    def name(self) -> str:
        """Name, such as `mp3_44100_128`."""
        return _name(self.codec, self.sample_rate, self.bitrate)

    @property
    def mime_type(self) -> str:
        """Media type for a Content-Type header."""
        return _MIME_TYPES[self.codec]

    @property
    def extension(self) -> str:
        """File extension, without the dot."""
        return "ogg" if self.codec is Codec.OPUS else self.codec.value

    @property
    def bytes_per_second(self) -> float | None:
        """Bytes per second: exact for raw samples, and for WAV after its header; None where frames vary in size."""
        if self.codec in (Codec.PCM, Codec.WAV):
            return 2.0 * self.sample_rate
        if self.codec in (Codec.ULAW, Codec.ALAW):
            return float(self.sample_rate)
        return None

    @property
    def samples(self) -> AudioFormat:
        """Format from which this one is made by a header alone: samples for a WAV, and any other itself."""
        return AudioFormat(Codec.PCM, self.sample_rate) if self.codec is Codec.WAV else self

    @property
    def is_concatenable(self) -> bool:
        """True if two pieces, concatenated, are again valid audio of this format."""
        return self.codec in (Codec.PCM, Codec.ULAW, Codec.ALAW, Codec.MP3, Codec.AAC)

    def __str__(self) -> str:
        return self.name


@lru_cache(256)
def _name(codec: Codec, sample_rate: int, bitrate: int | None) -> str:
    return "_".join(str(part) for part in (codec.value, sample_rate, bitrate) if part is not None)


# https://elevenlabs.io/docs/api-reference/text-to-speech/convert, `output_format`
ELEVENLABS_FORMAT_NAMES = (
    "mp3_22050_32",
    "mp3_24000_48",
    *(f"mp3_44100_{kbps}" for kbps in (32, 64, 96, 128, 192)),
    *(f"pcm_{rate}" for rate in (8000, 16000, 22050, 24000, 32000, 44100, 48000)),
    *(f"wav_{rate}" for rate in (8000, 16000, 22050, 24000, 32000, 44100, 48000)),
    *(f"opus_48000_{kbps}" for kbps in (32, 64, 96, 128, 192)),
    "ulaw_8000",
    "alaw_8000",
)

# aac and flac are what OpenAI-compatible servers offer besides.
FORMAT_NAMES = (
    *ELEVENLABS_FORMAT_NAMES,
    "aac_24000_64",
    "aac_44100_128",
    "flac_24000",
    "flac_44100",
    "flac_48000",
)

DEFAULT_FORMATS = {
    "mp3": "mp3_44100_128",
    "wav": "wav_24000",
    "pcm": "pcm_24000",
    "opus": "opus_48000_64",
    "ulaw": "ulaw_8000",
    "alaw": "alaw_8000",
    "aac": "aac_44100_128",
    "flac": "flac_24000",
}

_MIME_TYPES = {
    Codec.PCM: "audio/pcm",
    Codec.WAV: "audio/wav",
    Codec.MP3: "audio/mpeg",
    Codec.OPUS: "audio/ogg",
    Codec.ULAW: "audio/basic",
    Codec.ALAW: "audio/x-alaw-basic",
    Codec.AAC: "audio/aac",
    Codec.FLAC: "audio/flac",
}
