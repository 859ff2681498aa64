"""Conformance of the built-in providers, by the kit that authors of plugins use."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Iterator

import pytest

from steadyvoice.providers.deepgram import Deepgram
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.providers.espeak import Espeak
from steadyvoice.providers.neural import Neural
from steadyvoice.providers.openai import OpenAICompatible
from steadyvoice.providers.tone import Tone
from steadyvoice.speech import errors as speech
from steadyvoice.testing import (
    FakeSpeech,
    ProviderCheck,
    Speak,
    VendorRequest,
    VendorResponse,
    local_provider_checks,
    vendor_provider_checks,
)
from steadyvoice.wire import deepgram

OPENAI_FORMATS = {"pcm": "pcm_24000", "wav": "wav_24000", "flac": "flac_24000"}


def openai_speech(request: VendorRequest, speak: Speak) -> VendorResponse:
    speech = speak(request.json["input"], OPENAI_FORMATS[request.json["response_format"]])
    return VendorResponse(speech.audio, content_type=speech.format.mime_type, headers={"x-request-id": "r1"})


def elevenlabs_speech(request: VendorRequest, speak: Speak) -> VendorResponse:
    spoken = speak(request.json["text"], request.query["output_format"])
    if request.path.endswith("/with-timestamps"):
        return VendorResponse(elevenlabs_lines(spoken), content_type="application/json")
    return VendorResponse(spoken.audio, content_type=spoken.format.mime_type, headers={"request-id": "r1"})


def elevenlabs_lines(spoken: FakeSpeech) -> Iterator[bytes]:
    """Yield JSON lines as the vendor's stream with timestamps has them."""
    for audio, words in spoken.pieces():
        begin, end = (words[0].begin, words[-1].end) if words else (0, 0)
        times = spoken.alignment
        with_blank = slice(begin, end + 1)
        alignment = {
            "characters": times.characters[with_blank],
            "character_start_times_seconds": times.starts[with_blank],
            "character_end_times_seconds": times.ends[with_blank],
        }
        line = {"audio_base64": base64.b64encode(audio).decode(), "alignment": alignment if words else None}
        yield json.dumps({**line, "normalized_alignment": line["alignment"]}).encode() + b"\n"


def deepgram_speech(request: VendorRequest, speak: Speak) -> VendorResponse:
    (format_,) = [name for name, query in deepgram.FORMATS.items() if query.items() <= request.query.items()]
    spoken = speak(request.json["text"], format_.name)
    return VendorResponse(spoken.audio, content_type=format_.mime_type, headers={"dg-request-id": "r1"})


def openai_error(status: int, code: str, **fields: str) -> VendorResponse:
    return VendorResponse.of_json({"error": {"message": "scripted", "code": code, **fields}}, status)


def elevenlabs_error(status: int, code: str) -> VendorResponse:
    return VendorResponse.of_json({"detail": {"status": code, "message": "scripted"}}, status)


OPENAI = vendor_provider_checks(
    lambda url: OpenAICompatible("sk-conformance-key", base_url=url),
    openai_speech,
    errors={
        "insufficient_quota": (openai_error(429, "insufficient_quota"), speech.TTSQuotaExceededError),
        "model_not_found": (openai_error(404, "model_not_found"), speech.TTSModelUnknownError),
    },
)
ELEVENLABS = vendor_provider_checks(
    lambda url: ElevenLabs("conformance-key", base_url=url),
    elevenlabs_speech,
    errors={
        "quota_exceeded": (elevenlabs_error(401, "quota_exceeded"), speech.TTSQuotaExceededError),
        "voice_not_found": (elevenlabs_error(404, "voice_not_found"), speech.TTSVoiceUnknownError),
    },
)
DEEPGRAM = vendor_provider_checks(lambda url: Deepgram("conformance-key", base_url=url), deepgram_speech)
NEURAL = local_provider_checks(Neural) if importlib.util.find_spec("hibari") else []
ESPEAK = local_provider_checks(Espeak)


@pytest.mark.parametrize("check", OPENAI, ids=str)
def test_openai_conforms(check: ProviderCheck) -> None:
    check()


@pytest.mark.parametrize("check", ELEVENLABS, ids=str)
def test_elevenlabs_conforms(check: ProviderCheck) -> None:
    check()


@pytest.mark.parametrize("check", DEEPGRAM, ids=str)
def test_deepgram_conforms(check: ProviderCheck) -> None:
    check()


@pytest.mark.parametrize("check", ESPEAK, ids=str)
def test_espeak_conforms(check: ProviderCheck) -> None:
    check()


@pytest.mark.slow
@pytest.mark.parametrize("check", NEURAL, ids=str)
def test_neural_conforms(check: ProviderCheck) -> None:
    check()


@pytest.mark.parametrize("check", local_provider_checks(Tone), ids=str)
def test_tone_conforms(check: ProviderCheck) -> None:
    check()
