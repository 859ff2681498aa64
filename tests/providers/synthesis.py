"""Synthesis by one provider, and its collected result."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

from steadyvoice.providers.base import Accepted, AudioChunk, Provider
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest

PCM = AudioFormat.parse("pcm_24000")


@dataclass
class SynthesisResult:
    """Audio and alignment of one request."""

    chunks: list[AudioChunk] = field(default_factory=list)
    rate: int = 0

    @property
    def samples(self) -> array[int]:
        return array("h", b"".join(chunk.data for chunk in self.chunks))

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    @property
    def alignment(self) -> Alignment:
        return Alignment.joined([(0.0, chunk.alignment or Alignment()) for chunk in self.chunks])


def pcm_request(text: str, **options: Any) -> SpeechRequest:
    return SpeechRequest(text, options.pop("format", PCM), **options)


async def synthesize(provider: Provider, text: str, **options: Any) -> SynthesisResult:
    request = pcm_request(text, **options)
    offer = provider.offer(request)
    first, *rest = [piece async for piece in provider.speak(request, offer, connection_timeout=10)]
    assert isinstance(first, Accepted)
    return SynthesisResult([piece for piece in rest if isinstance(piece, AudioChunk)], offer.format.sample_rate)
