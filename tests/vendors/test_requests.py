"""Requests that a provider sends, and its understanding of the responses, against a scripted vendor on a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from steadyvoice import TTSConfigurationError
from steadyvoice.providers.base import Accepted
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


@every_vendor
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
    offer = vendor.make(KEY).offer(speech_request(vendor.foreign_text))
    assert offer.scripts is not None
    assert "Cyrillic" not in offer.scripts


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


def test_voice_of_deepgram_names_its_language() -> None:
    provider = VENDORS["deepgram"].make(KEY, voices={"default": "aura-2-ama-ja"})
    offer = provider.offer(speech_request("おはよう"))
    assert offer.scripts is not None
    assert "Hiragana" in offer.scripts
