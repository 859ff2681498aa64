"""Resolved options: kept for repeated calls, and found anew where they depend on the text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, SpeechRequest, SynthesisOffer, Tone
from steadyvoice.service.options import ResolvedOptions
from steadyvoice.speech.errors import TTSBadRequestError, TTSConfigurationError

from .scripted_provider import ScriptedProvider, read_chunks

pytestmark = pytest.mark.looptime


class Particular(ScriptedProvider):
    """Provider that depends on the text, and refuses an empty one."""

    steady = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.read: list[str] = []

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Return how it would speak this."""
        if not request.text:
            raise TTSBadRequestError("text: must not be empty")
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


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        ([], "providers: at least one is needed"),
        (Tone(), r"providers: must be a list, such as \[ElevenLabs\(\), Tone\(\)\], got Tone"),
        ("tone", "providers: must be a list, .* got str"),
        (["tone"], r"providers: must be objects, such as Tone\(\), got 'tone'"),
        ([Tone(), Tone], r"providers: must be objects, Tone\(\), got <class"),
        (None, "providers: must be a list, .* got NoneType"),
    ],
)
def test_invalid_providers_are_refused_with_what_to_write_instead(providers: Any, message: str) -> None:
    with pytest.raises(TTSConfigurationError, match=message):
        AsyncTTSService(providers)


async def test_repeated_options_are_checked_by_type_as_well() -> None:
    """True equals 1, and both are equal keys: a set of options that is kept must not admit the other."""
    async with AsyncTTSService([ScriptedProvider()]) as tts:
        await tts.synthesize("Hello.", format="pcm_8000", cache=True, speed=1.0)
        with pytest.raises(TTSConfigurationError, match="cache"):
            await tts.synthesize("Hello.", format="pcm_8000", cache=1, speed=1.0)  # type: ignore[arg-type]


async def test_repeated_options_follow_changed_settings_and_fields() -> None:
    provider, fields = Particular(), {"seed": 1}
    async with AsyncTTSService([provider], on_midstream="error") as tts:
        for _ in range(2):
            assert (await tts.synthesize("Hello.", format="pcm_8000", options=fields)).outcome == "spoken"
            fields["seed"] = 2
        await tts.reconfigure(on_midstream="resume", providers=[ScriptedProvider(name="other")])
        assert (await tts.synthesize("Hello.", format="pcm_8000")).provider == "other"
