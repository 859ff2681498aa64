"""Resolved options: kept for repeated calls, and found anew where they depend on the text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steadyvoice import AsyncTTSService, SpeechRequest, SynthesisOffer
from steadyvoice.service.options import ResolvedOptions
from steadyvoice.speech.errors import TTSBadRequestError

from .scripted_provider import ScriptedProvider, read_chunks

pytestmark = pytest.mark.looptime


class Particular(ScriptedProvider):
    """Looks at the text before it offers anything, and will not have none."""

    steady = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.read: list[str] = []

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Say how it would speak this."""
        if not request.text:
            raise TTSBadRequestError("text: there is none")
        self.read.append(request.text)
        return replace(super().offer(request), for_any_text=self.steady)


async def speak_all(provider: Particular, *texts: str) -> None:
    async with AsyncTTSService([provider]) as tts:
        style = ResolvedOptions.resolve({"format": "pcm_8000"})
        for text in texts:
            await read_chunks(tts.open_stream(text, style, hold=False), 10_000)


async def test_provider_that_depends_on_the_text_makes_an_offer_for_each() -> None:
    provider = Particular()
    await speak_all(provider, "one", "two")
    assert provider.read == ["one", "two"]


async def test_provider_independent_of_the_text_makes_one_offer() -> None:
    provider = Particular()
    provider.steady = True
    await speak_all(provider, "one", "two")
    assert provider.read == ["one"]
