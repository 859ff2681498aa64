"""Requests in a vendor's dialect: choice of the voice, and which provider is sent which options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from steadyvoice import AudioFormat, ElevenLabs, OpenAICompatible, SpeechRequest, Tone
from steadyvoice.providers.base import Provider
from steadyvoice.service.options import options_from_request, validate_options
from steadyvoice.service.pipeline.candidates import Candidate, GuardedProvider, find_candidates
from steadyvoice.service.resilience.error_handler import TTSErrorHandler
from steadyvoice.speech.errors import TTSVoiceUnknownError
from steadyvoice.speech.request import VoiceSubstitution
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.openai import speech as openai_speech
from tests.service.conftest import MakeService

GEORGE, BRIAN = "JBFqnCBsd6RMkjVDRZzb", "nPczCjzI2devNBz1zQrb"
AT_OPENAIS = openai_speech.decode_request(
    openai_speech.OpenAISpeechRequest("Hi", "tts-1", "nova", "pcm", settings={"instructions": "x"})
)
AT_ELEVENLABS = elevenlabs_speech.decode_request(
    elevenlabs_speech.ElevenLabsSpeechRequest("Hi", settings={"brand": "new"}), BRIAN
)


def ours(**voices: str) -> ElevenLabs:
    return ElevenLabs("sk_test", voices=voices)


def theirs(**voices: str) -> OpenAICompatible:
    return OpenAICompatible("sk_test", voices=voices)


def parts(request: SpeechRequest, *providers: Provider, substitution: VoiceSubstitution = "any") -> list[Candidate]:
    speakers = [GuardedProvider(provider, TTSErrorHandler(provider.name)) for provider in providers]
    return find_candidates(request, speakers, substitution).for_text(request.text)[0]


def voices(request: SpeechRequest, *providers: Provider, substitution: VoiceSubstitution = "any") -> list[str]:
    return [part.voice for part in parts(request, *providers, substitution=substitution)]


def test_unknown_vendor_voice_uses_the_order_of_providers() -> None:
    """Every client of such a door must name some voice: that is no reason to pass over the first provider."""
    assert voices(AT_OPENAIS, ours(), theirs(), Tone()) == [f"elevenlabs/{GEORGE}", "openai/nova", "tone/tone"]
    assert voices(AT_ELEVENLABS, theirs(), ours()) == ["openai/alloy", f"elevenlabs/{BRIAN}"]


def test_provider_with_the_voice_comes_first() -> None:
    assert voices(AT_OPENAIS, theirs(), ours(nova=BRIAN)) == [f"elevenlabs/{BRIAN}", "openai/nova"]
    assert voices(AT_OPENAIS, ours(), theirs(nova="shimmer")) == ["openai/shimmer", f"elevenlabs/{GEORGE}"]


def test_voice_substitution_never_requires_the_named_voice() -> None:
    assert voices(AT_OPENAIS, ours(), theirs(), Tone(), substitution="never") == ["openai/nova"]
    assert voices(AT_OPENAIS, ours(), Tone(), substitution="never") == [f"elevenlabs/{GEORGE}"]
    assert voices(AT_OPENAIS, theirs(), ours(nova=BRIAN), substitution="never") == [f"elevenlabs/{BRIAN}"]


def test_vendor_voice_is_spoken_by_any_provider() -> None:
    assert voices(AT_ELEVENLABS, Tone()) == ["tone/tone"]
    with pytest.raises(TTSVoiceUnknownError):
        parts(replace(AT_ELEVENLABS, unknown_voice="refuse"), Tone())


async def test_options_from_request_restores_the_request(make_service: MakeService) -> None:
    pcm = AudioFormat.parse("pcm_8000")
    asked = replace(AT_ELEVENLABS, format=pcm, language="de", seed=5, previous_text="So.", next_text="Then.", speed=1.1)
    options = options_from_request(asked)
    validate_options(options)
    assert SpeechRequest(asked.text, **options) == asked  # type: ignore[misc, arg-type]

    heard: list[SpeechRequest] = []

    class Listening(Tone):
        def offer(self, request: SpeechRequest) -> Any:
            heard.append(request)
            return super().offer(request)

    await make_service(Listening()).synthesize(asked.text, **options)
    assert (heard[0].voice, heard[0].dialect, heard[0].options) == (BRIAN, "elevenlabs", {"brand": "new"})
