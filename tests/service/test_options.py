"""What is asked for again and again is worked out once; what depends on the text is asked for each."""

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


async def said(provider: Particular, *texts: str) -> None:
    async with AsyncTTSService([provider]) as tts:
        style = ResolvedOptions.resolve({"format": "pcm_8000"})
        for text in texts:
            await read_chunks(tts.open_stream(text, style, hold=False), 10_000)


async def test_who_goes_by_the_text_is_asked_once_for_each_and_never_for_none() -> None:
    provider = Particular()
    await said(provider, "one", "two")
    assert provider.read == ["one", "two"]


async def test_who_offers_the_same_for_every_text_is_asked_for_the_first_only() -> None:
    provider = Particular()
    provider.steady = True
    await said(provider, "one", "two")
    assert provider.read == ["one"]
