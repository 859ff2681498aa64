"""OpenAI-compatible provider against a scripted vendor on a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from steadyvoice.providers.base import Accepted
from steadyvoice.providers.openai import OpenAICompatible
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSConfigurationError, TTSError
from steadyvoice.wire.openai.errors import error_body
from tests.providers.scripted_vendor import (
    ConnectionAction,
    ScriptedVendor,
    audio_response,
    chunked_response,
    collect_events,
    error_response,
    scripted_vendor,
    speech_request,
)

KEY = "sk-proj-test0123456789"


@pytest.fixture
async def vendor() -> AsyncIterator[ScriptedVendor]:
    async with scripted_vendor() as listening:
        yield listening


@pytest.fixture
async def provider(vendor: ScriptedVendor) -> AsyncIterator[OpenAICompatible]:
    made = OpenAICompatible(KEY, base_url=vendor.url, model="kokoro")
    yield made
    await made.aclose()


async def test_response_headers_become_accepted(vendor: ScriptedVendor, provider: OpenAICompatible) -> None:
    vendor.enqueue(chunked_response(b"one", b"two", content_type="audio/pcm", x_request_id="r-1"))

    result = await collect_events(
        provider, speech_request(speed=1.5, options={"instructions": "whisper", "input": "Other"})
    )

    assert result.accepted == [Accepted("r-1")]
    assert result.data == b"onetwo"
    request = vendor.requests[0]
    assert (request.method, request.target) == ("POST", "/v1/audio/speech")
    assert request.headers["authorization"] == f"bearer {KEY}"
    assert request.json == {
        "input": "Hello",
        "model": "kokoro",
        "voice": "alloy",
        "response_format": "pcm",
        "speed": 1.5,
        "instructions": "whisper",
    }


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_base_url_may_end_in_v1_or_not(vendor: ScriptedVendor, ending: str) -> None:
    provider = OpenAICompatible(KEY, base_url=vendor.url + ending)
    vendor.enqueue(audio_response())

    await collect_events(provider, speech_request())
    await provider.aclose()

    assert vendor.requests[0].target == "/v1/audio/speech"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "invalid_api_key", speech.TTSInvalidKeyError),
        (404, "model_not_found", speech.TTSModelUnknownError),
        (429, "insufficient_quota", speech.TTSQuotaExceededError),
        (429, "rate_limit_exceeded", speech.TTSBusyError),
        (500, None, speech.TTSServerError),
    ],
)
async def test_error_responses_have_their_kind(
    vendor: ScriptedVendor, provider: OpenAICompatible, status: int, code: str | None, kind: type[TTSError]
) -> None:
    vendor.enqueue(error_response(status, error_body(f"No, {KEY}.", type="t", code=code), retry_after_ms="1500"))

    with pytest.raises(TTSError) as refused:
        await collect_events(provider, speech_request())

    assert type(refused.value) is kind
    assert (refused.value.provider, refused.value.retry_after) == ("openai", 1.5)
    assert KEY not in f"{refused.value} {vars(refused.value)}"


async def test_success_in_json_or_empty_or_truncated_is_an_error(
    vendor: ScriptedVendor, provider: OpenAICompatible
) -> None:
    vendor.enqueue(error_response(200, {"audio": None}))
    vendor.enqueue(audio_response(b""))
    vendor.enqueue(chunked_response(b"one", end=False), ConnectionAction.CLOSE)

    for kind in (speech.TTSNotAudioError, speech.TTSEmptyAudioError, speech.TTSCutError):
        with pytest.raises(kind):
            await collect_events(provider, speech_request())


class TestOpenAIOffer:
    @pytest.mark.parametrize(
        ("formats", "asked", "offered", "sent"),
        [
            (None, "pcm_24000", "pcm_24000", "pcm"),
            (None, "flac_24000", "flac_24000", "flac"),
            (None, "mp3_44100_128", "pcm_24000", "pcm"),
            (None, "wav_8000", "pcm_24000", "pcm"),
            ({"pcm": "pcm_22050"}, "pcm_24000", "pcm_22050", "pcm"),
            ({"mp3": "mp3_24000_48", "flac": "flac_48000"}, "pcm_24000", "flac_48000", "flac"),
            ({"mp3": "mp3_24000_48", "opus": "opus_48000_64"}, "mp3_24000_48", "mp3_24000_48", "mp3"),
        ],
    )
    async def test_offer_has_the_requested_format_only_where_it_is_known(
        self, vendor: ScriptedVendor, formats: dict[str, str] | None, asked: str, offered: str, sent: str
    ) -> None:
        provider = OpenAICompatible(KEY, base_url=vendor.url, formats=formats)
        vendor.enqueue(audio_response())

        await collect_events(provider, speech_request(format=asked))
        await provider.aclose()

        assert provider.offer(speech_request(format=asked)).format.name == offered
        assert vendor.requests[0].json["response_format"] == sent

    def test_unknown_model_becomes_the_configured_one(self) -> None:
        genuine = OpenAICompatible(KEY)
        other = OpenAICompatible(KEY, base_url="http://kokoro:8880/v1", model="kokoro")

        assert genuine.offer(speech_request(model="tts-1-hd")).model == "tts-1-hd"
        assert genuine.offer(speech_request(model="eleven_v3")).model == "gpt-4o-mini-tts"
        assert other.offer(speech_request(model="tts-1-hd")).model == "kokoro"
        assert other.offer(speech_request()).model == "kokoro"

    def test_voices_come_from_the_map_then_from_the_request(self) -> None:
        provider = OpenAICompatible(KEY, voices={"narrator": "onyx"})

        assert provider.offer(speech_request(voice="narrator")).voice == "onyx"
        assert provider.offer(speech_request()).voice == "alloy"
        assert provider.offer(speech_request(voice="nova", unknown_voice="passthrough")).voice == "nova"
        assert not provider.offer(speech_request(voice="nova")).knows_voice

    def test_voice_passes_through_in_its_own_dialect_only(self) -> None:
        at_the_door = {"voice": "nova", "unknown_voice": "passthrough"}
        assert OpenAICompatible(KEY).offer(speech_request(**at_the_door, dialect="openai")).voice == "nova"
        assert OpenAICompatible(KEY).offer(speech_request(**at_the_door, dialect="elevenlabs")).voice == "alloy"

    def test_text_may_have_4096_characters(self) -> None:
        assert OpenAICompatible(KEY).offer(speech_request()).max_characters == 4096
        assert OpenAICompatible(KEY, max_characters=500).offer(speech_request()).max_characters == 500


class TestOpenAISettings:
    def test_openai_itself_requires_a_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)

        with pytest.raises(TTSConfigurationError, match="OPENAI_API_KEY"):
            OpenAICompatible()

    async def test_another_server_may_need_no_key(
        self, vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        provider = OpenAICompatible(base_url=vendor.url)
        vendor.enqueue(audio_response())

        await collect_events(provider, speech_request())
        await provider.aclose()

        assert "authorization" not in vendor.requests[0].headers

    @pytest.mark.parametrize(
        ("settings", "where"),
        [
            ({"base_url": "kokoro:8880"}, "base_url"),
            ({"api_key": "a\nb"}, "api_key"),
            ({"formats": {}}, "formats"),
            ({"formats": {"midi": "pcm_24000"}}, "formats"),
            ({"formats": {"pcm": "pcm_1"}}, "formats"),
            ({"max_characters": 0}, "max_characters"),
            ({"languages": "en"}, "languages"),
            ({"languages": []}, "languages"),
            ({"languages": [""]}, "languages"),
            ({"model": ""}, "model"),
            ({"voices": {"a": ""}}, "voices.a"),
            ({"proxy": "nowhere"}, "proxy"),
        ],
    )
    def test_impossible_setting_is_refused_by_its_path(self, settings: dict[str, Any], where: str) -> None:
        with pytest.raises(TTSConfigurationError) as refused:
            OpenAICompatible(**{"api_key": KEY, "name": "second"} | settings)

        assert refused.value.message.startswith(f"second.{where}: ")

    def test_key_is_not_in_the_repr(self) -> None:
        assert KEY not in repr(OpenAICompatible(KEY))
        assert "gpt-4o-mini-tts" in repr(OpenAICompatible(KEY))
