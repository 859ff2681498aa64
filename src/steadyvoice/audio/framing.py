"""Which framer cuts which format."""

from __future__ import annotations

from steadyvoice.audio.flac import FlacFrames
from steadyvoice.audio.frames import Coding, Framer, Samples
from steadyvoice.audio.headers import AacFrames, Mp3Frames
from steadyvoice.audio.ogg import OpusFrames
from steadyvoice.audio.wav import WavFrames
from steadyvoice.speech.format import AudioFormat, Codec


def framer_of(format: AudioFormat) -> Framer:
    """Make a framer for one stream of this format."""
    match format.codec:
        case Codec.PCM:
            return Samples(Coding("pcm_s16le", format.sample_rate), 2)
        case Codec.ULAW:
            return Samples(Coding("pcm_mulaw", format.sample_rate), 1)
        case Codec.ALAW:
            return Samples(Coding("pcm_alaw", format.sample_rate), 1)
        case Codec.WAV:
            return WavFrames()
        case Codec.MP3:
            return Mp3Frames()
        case Codec.AAC:
            return AacFrames()
        case Codec.OPUS:
            return OpusFrames()
        case Codec.FLAC:
            return FlacFrames()
