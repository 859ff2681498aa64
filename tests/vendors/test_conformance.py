"""Conformance of the further vendors' providers, by the kit that authors of plugins use."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from xml.etree import ElementTree

import pytest

from steadyvoice.speech.format import AudioFormat
from steadyvoice.testing import (
    FakeSpeech,
    ProviderCheck,
    Speak,
    VendorRequest,
    VendorResponse,
    vendor_provider_checks,
)
from steadyvoice.wire import azure, cartesia, deepgram, google, polly

from .vendors import VENDORS


def deepgram_speech(request: VendorRequest, speak: Speak) -> VendorResponse:
    asked = {
        name: request.query[name]
        for name in ("encoding", "container", "sample_rate", "bit_rate")
        if name in request.query
    }
    speech = speak(request.json["text"], _name(deepgram.FORMATS, asked))
    return VendorResponse(speech.audio, content_type=speech.format.mime_type, headers={"dg-request-id": "r1"})


def azure_speech(request: VendorRequest, speak: Speak) -> VendorResponse:
    text = "".join(ElementTree.fromstring(request.body).itertext())
    speech = speak(text, _name(azure.FORMATS, request.headers["x-microsoft-outputformat"]))
    return VendorResponse(speech.audio, content_type=speech.format.mime_type, headers={"x-requestid": "r1"})


def polly_speech(request: VendorRequest, speak: Speak) -> VendorResponse:
    fields = request.json
    speech = speak(fields["Text"], _name(polly.FORMATS, (fields["OutputFormat"], fields["SampleRate"])))
    return VendorResponse(speech.audio, content_type=speech.format.mime_type, headers={"x-amzn-requestid": "r1"})


def google_speech(request: VendorRequest, speak: Speak) -> VendorResponse:
    config = request.json["audioConfig"]
    speech = speak(
        request.json["input"]["text"], _name(google.FORMATS, (config["audioEncoding"], config["sampleRateHertz"]))
    )
    return VendorResponse.of_json({"audioContent": base64.b64encode(speech.audio).decode()}, 200)


def cartesia_speech(request: VendorRequest, speak: Speak) -> VendorResponse:
    speech = speak(request.json["transcript"], _name(cartesia.FORMATS, request.json["output_format"]))
    if request.path.endswith("/bytes"):
        return VendorResponse(speech.audio, content_type=speech.format.mime_type, headers={"x-request-id": "r1"})
    return VendorResponse(cartesia_events(speech), content_type="text/event-stream")


def cartesia_events(speech: FakeSpeech) -> Iterator[bytes]:
    """Yield server-sent events as the vendor's stream with word times has them."""
    for audio, words in speech.pieces():
        chunk = {"type": "chunk", "data": base64.b64encode(audio).decode(), "done": False, "status_code": 206}
        times = {
            "words": [word.text for word in words],
            "start": [word.start for word in words],
            "end": [word.stop for word in words],
        }
        for event in (chunk, {"type": "timestamps", "done": False, "status_code": 206, "word_timestamps": times}):
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
    yield b'event: done\ndata: {"type": "done", "done": true, "status_code": 200}\n\n'


def _name(formats: Mapping[AudioFormat, object], asked: object) -> str:
    return next(
        format_.name for format_, fields in formats.items() if fields == asked and isinstance(format_, AudioFormat)
    )


ANSWERS: dict[str, Callable[[VendorRequest, Speak], VendorResponse]] = {
    "azure": azure_speech,
    "cartesia": cartesia_speech,
    "deepgram": deepgram_speech,
    "google": google_speech,
    "polly": polly_speech,
}


def _make(name: str, url: str) -> object:
    return VENDORS[name].make("key-of-conformance", base_url=url)


CHECKS = [
    pytest.param(check, id=f"{name} {check}")
    for name, answer in ANSWERS.items()
    for check in vendor_provider_checks(partial(_make, name), answer)  # type: ignore[arg-type]
]


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_provider_conforms(check: ProviderCheck) -> None:
    check()


def test_every_vendor_is_covered() -> None:
    assert ANSWERS.keys() == VENDORS.keys()
