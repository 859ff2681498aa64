"""Conformance of the provider, against a fake of its vendor."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
from steadyvoice_inworld import Inworld

from steadyvoice.speech.errors import TTSInvalidKeyError
from steadyvoice.testing import (
    FakeSpeech,
    ProviderCheck,
    Speak,
    VendorRequest,
    VendorResponse,
    vendor_provider_checks,
)


def respond(request: VendorRequest, speak: Speak) -> VendorResponse:
    """Answer as the vendor's `voice:stream`."""
    config = request.json["audioConfig"]
    assert config["audioEncoding"] == "PCM"
    speech = speak(request.json["text"], f"pcm_{config['sampleRateHertz']}")
    return VendorResponse(lines(speech), content_type="application/json")


def lines(speech: FakeSpeech) -> Iterator[bytes]:
    """Yield a line for each piece of the audio, with the words that begin in it."""
    for audio, words in speech.pieces():
        alignment = {
            "words": [word.text for word in words],
            "wordStartTimeSeconds": [word.start for word in words],
            "wordEndTimeSeconds": [word.stop for word in words],
        }
        result = {
            "audioContent": base64.b64encode(audio).decode(),
            "timestampInfo": {"wordAlignment": alignment} if words else None,
        }
        yield json.dumps({"result": result}).encode() + b"\n"


UNAUTHENTICATED = VendorResponse.of_json({"code": 16, "message": "invalid key", "details": []}, 401)
CHECKS = vendor_provider_checks(
    lambda url: Inworld("aW53b3JsZC1rZXk=", base_url=url),
    respond,
    errors={"unauthenticated": (UNAUTHENTICATED, TTSInvalidKeyError)},
)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_inworld_conforms(check: ProviderCheck) -> None:
    check()
