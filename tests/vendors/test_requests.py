"""Requests that a provider sends, and its understanding of the responses, against a scripted vendor on a socket."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from steadyvoice import Azure, Polly, TTSConfigurationError
from steadyvoice.providers.base import Accepted
from steadyvoice.providers.vendor import VendorProvider
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.format import AudioFormat
from tests.providers.scripted_vendor import (
    ScriptedVendor,
    audio_response,
    chunked_response,
    collect_events,
    error_response,
    http_response,
    scripted_vendor,
    speech_request,
)

from .vendors import KEY, VENDORS, ErrorCase

FOREIGN_TEXT = "Доброе утро, это новости."

every_vendor = pytest.mark.parametrize("name", VENDORS)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedVendor]:
    async with scripted_vendor() as listening:
        yield listening


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, vendor in VENDORS.items() for case in vendor.errors], ids=str
)
async def test_error_responses_have_their_kind(server: ScriptedVendor, name: str, case: ErrorCase) -> None:
    status, headers, body, kind = case
    fields = {key.replace("-", "_"): value for key, value in headers.items()}
    quoting = fields | {"retry_after": "7"}
    if isinstance(body, bytes):
        server.enqueue(http_response(status, body + KEY.encode(), **quoting))
    else:
        server.enqueue(error_response(status, body, **quoting))
    provider = VENDORS[name].make(KEY, base_url=server.url)

    with pytest.raises(TTSError) as refused:
        await collect_events(provider, speech_request())
    await provider.aclose()

    assert type(refused.value) is kind
    assert (refused.value.provider, refused.value.status, refused.value.retry_after) == (name, status, 7)
    assert KEY not in f"{refused.value} {vars(refused.value)}"


@every_vendor
async def test_success_without_audio_is_an_error(server: ScriptedVendor, name: str) -> None:
    provider = VENDORS[name].make(KEY, base_url=server.url)
    server.enqueue(error_response(200, {"status": "ok"}))
    server.enqueue(audio_response(b""))
    for kind in (speech.TTSNotAudioError, speech.TTSEmptyAudioError):
        with pytest.raises(kind):
            await collect_events(provider, speech_request())
    await provider.aclose()


@pytest.mark.parametrize("name", sorted(set(VENDORS) - {"polly"}))  # which has the credentials of the machine
def test_key_is_required_and_never_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = VENDORS[name]
    monkeypatch.delenv(vendor.variable, raising=False)
    with pytest.raises(TTSConfigurationError, match=vendor.variable):
        vendor.make()
    with pytest.raises(TTSConfigurationError) as refused:
        vendor.make(f"Bearer {KEY}")
    assert KEY not in str(refused.value)
    assert KEY not in repr(vendor.make(KEY))
    monkeypatch.setenv(vendor.variable, f" {KEY}\r\n")
    assert vendor.make().credential.id == vendor.make(KEY).credential.id


@every_vendor
def test_foreign_scripts_are_refused_before_anything_is_sent(name: str) -> None:
    vendor = VENDORS[name]
    offer = vendor.make(KEY).offer(speech_request(FOREIGN_TEXT))
    assert (offer.scripts is None) == vendor.is_multilingual
    assert offer.scripts is None or "Cyrillic" not in offer.scripts


@pytest.mark.parametrize(
    ("name", "format"), [(name, format_) for name, vendor in VENDORS.items() for format_ in vendor.formats]
)
def test_formats_of_the_vendor_are_sent_as_they_are(name: str, format: str) -> None:
    offer = VENDORS[name].make(KEY).offer(speech_request(format=format))
    assert offer.format == AudioFormat.parse(format)


@every_vendor
def test_other_formats_are_converted_from_a_lossless_one(name: str) -> None:
    offer = VENDORS[name].make(KEY).offer(speech_request(format="aac_44100_128"))
    assert offer.format.codec.value in ("pcm", "wav")
    assert offer.max_characters == VENDORS[name].max_characters


async def test_request_to_deepgram(server: ScriptedVendor) -> None:
    provider = VENDORS["deepgram"].make(KEY, base_url=f"{server.url}/v1/speak", voices={"narrator": "aura-2-zeus-en"})
    server.enqueue(chunked_response(b"one", b"two", content_type="audio/l16", dg_request_id="r-1", dg_char_count="5"))
    request = speech_request(
        format="pcm_16000", voice="narrator", speed=4.0, options={"mip_opt_out": "true", "callback": "http://x"}
    )

    result = await collect_events(provider, request)
    await provider.aclose()

    assert (result.accepted, result.data) == ([Accepted("r-1", 5.0)], b"onetwo")
    received = server.requests[0]
    path, _, query = received.target.partition("?")
    assert (received.method, path, received.json) == ("POST", "/v1/speak", {"text": "Hello"})
    assert received.headers["authorization"] == f"token {KEY}"
    assert sorted(query.split("&")) == [
        "container=none",
        "encoding=linear16",
        "mip_opt_out=true",
        "model=aura-2-zeus-en",
        "sample_rate=16000",
        "speed=1.5",
    ]


async def test_request_to_azure(server: ScriptedVendor) -> None:
    provider = VENDORS["azure"].make(KEY, base_url=server.url, voices={"narrator": "de-DE-KatjaNeural"})
    server.enqueue(audio_response(x_requestid="r-1"))

    result = await collect_events(
        provider, speech_request('1 < 2 & "so"\x07', "pcm_24000", voice="narrator", speed=3.0)
    )
    await provider.aclose()

    assert result.accepted == [Accepted("r-1")]
    request = server.requests[0]
    assert (request.method, request.target) == ("POST", "/cognitiveservices/v1")
    assert request.headers["ocp-apim-subscription-key"] == KEY
    assert request.headers["content-type"] == "application/ssml+xml"
    assert request.headers["x-microsoft-outputformat"] == "raw-24khz-16bit-mono-pcm"
    root = ElementTree.fromstring(request.body)
    assert root.attrib["{http://www.w3.org/XML/1998/namespace}lang"] == "de-DE"
    (voice,) = root
    (prosody,) = voice
    assert (voice.attrib, prosody.attrib, prosody.text) == (
        {"name": "de-DE-KatjaNeural"},
        {"rate": "2"},
        '1 < 2 & "so" ',
    )


async def test_request_to_google_and_audio_that_comes_in_any_pieces(server: ScriptedVendor) -> None:
    provider = VENDORS["google"].make(KEY, base_url=server.url)
    audio = bytes(range(256)) * 40
    body = b'{\n "audioContent" : "%b",\n "other": "x"}' % base64.b64encode(audio)
    pieces = [body[place : place + 7] for place in range(0, len(body), 7)]
    server.enqueue(chunked_response(*pieces, content_type="application/json; charset=UTF-8"))

    result = await collect_events(provider, speech_request("Hello", "wav_24000", speed=1.5))
    await provider.aclose()

    assert result.data == audio
    assert server.requests[0].headers["x-goog-api-key"] == KEY
    assert server.requests[0].json == {
        "input": {"text": "Hello"},
        "voice": {"languageCode": "en-US", "name": "en-US-Neural2-C"},
        "audioConfig": {"audioEncoding": "LINEAR16", "sampleRateHertz": 24_000, "speakingRate": 1.5},
    }


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"audioContent": "QUJD', speech.TTSCutError),
        (b'{"audioContent": "%%%%"}', speech.TTSNotAudioError),
        (b'{"other": 1}', speech.TTSNotAudioError),
        (b"[" * 20_000, speech.TTSNotAudioError),
    ],
)
async def test_malformed_document_of_google_is_an_error(
    server: ScriptedVendor, body: bytes, kind: type[TTSError]
) -> None:
    provider = VENDORS["google"].make(KEY, base_url=server.url)
    server.enqueue(http_response(200, body, content_type="application/json"))
    with pytest.raises(kind):
        await collect_events(provider, speech_request())
    await provider.aclose()


async def test_request_to_cartesia_for_word_times(server: ScriptedVendor) -> None:
    provider = VENDORS["cartesia"].make(KEY, base_url=server.url)
    events = [
        {"type": "chunk", "data": base64.b64encode(b"one").decode(), "done": False},
        {"type": "timestamps", "word_timestamps": {"words": ["Hello"], "start": [0.0], "end": [0.4]}},
        {"type": "done", "done": True},
    ]
    body = b"".join(b"event: x\ndata: %b\n\n" % json.dumps(event).encode() for event in events)
    server.enqueue(chunked_response(body, content_type="text/event-stream", x_request_id="r-1"))

    result = await collect_events(provider, speech_request("Hello", "mp3_44100_128", timestamps=True, language="de"))
    await provider.aclose()

    assert (result.accepted, result.data) == ([Accepted("r-1")], b"one")
    assert [each.text for each in result.alignments] == ["Hello "]
    request = server.requests[0]
    assert request.target == "/tts/sse"
    assert (request.headers["x-api-key"], request.headers["cartesia-version"]) == (KEY, "2026-08-14")
    assert request.json == {
        "transcript": "Hello",
        "model_id": "sonic-3",
        "voice": {"mode": "id", "id": "6ccbfb76-1fc6-48f7-b71d-91ac6298247b"},
        "language": "de",
        "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 44_100},
        "add_timestamps": True,
    }


async def test_request_to_polly_is_signed_as_botocore_verifies(server: ScriptedVendor) -> None:
    provider = VENDORS["polly"].make("AKIAEXAMPLE", base_url=server.url)
    server.enqueue(audio_response(x_amzn_requestid="r-1", x_amzn_requestcharacters="5"))

    result = await collect_events(provider, speech_request("1 < 2", "pcm_16000", speed=1.5))
    await provider.aclose()

    assert result.accepted == [Accepted("r-1", 5.0)]
    request = server.requests[0]
    assert request.json == {
        "Text": '<speak><prosody rate="150%">1 &lt; 2</prosody></speak>',
        "TextType": "ssml",
        "VoiceId": "Joanna",
        "Engine": "neural",
        "OutputFormat": "pcm",
        "SampleRate": "16000",
    }
    again = AWSRequest(
        "POST", f"{server.url}/v1/speech", headers={"Content-Type": "application/json"}, data=request.body
    )
    again.context["timestamp"] = request.headers["x-amz-date"].upper()
    signer = SigV4Auth(Credentials("AKIAEXAMPLE", "secret-0123456789"), "polly", "eu-central-1")
    again.headers["X-Amz-Date"] = again.context["timestamp"]
    signature = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert request.headers["authorization"].endswith(f"signature={signature}")
    assert "/eu-central-1/polly/aws4_request" in request.headers["authorization"]


def test_region_is_required_and_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AZURE_SPEECH_REGION"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    makers: list[tuple[str, Callable[..., VendorProvider]]] = [
        ("azure", partial(Azure, KEY)),
        ("polly", partial(Polly, KEY, secret_key=KEY)),
    ]
    for name, make in makers:
        with pytest.raises(TTSConfigurationError, match=rf"{name}\.region: missing"):
            make()
        with pytest.raises(TTSConfigurationError, match=rf"{name}\.region: must be a region"):
            make(region="https://evil.example/")
    monkeypatch.setenv("AZURE_SPEECH_REGION", "westus")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert Azure(KEY).base_url == "https://westus.tts.speech.microsoft.com"
    assert Polly(KEY, secret_key=KEY).base_url == "https://polly.us-west-2.amazonaws.com"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Polly(KEY, secret_key=KEY).base_url == "https://polly.eu-west-1.amazonaws.com"


def test_voice_of_deepgram_names_its_language() -> None:
    provider = VENDORS["deepgram"].make(KEY, voices={"default": "aura-2-ama-ja"})
    offer = provider.offer(speech_request("おはよう"))
    assert offer.scripts is not None
    assert "Hiragana" in offer.scripts
