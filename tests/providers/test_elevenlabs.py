"""ElevenLabs provider against a scripted vendor on a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from steadyvoice.providers.base import Accepted, Credit
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.speech import errors as speech
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSConfigurationError, TTSError, TTSNotAudioError
from steadyvoice.wire.elevenlabs.catalog import VOICES
from steadyvoice.wire.elevenlabs.errors import ErrorBodyVersion, error_body, validation_body
from steadyvoice.wire.elevenlabs.speech import SpeechResponseHeaders
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, timed_audio_body
from steadyvoice.wire.request_validation import ValidationIssue
from tests.providers.scripted_vendor import (
    CollectedEvents,
    ConnectionAction,
    ScriptedVendor,
    audio_response,
    chunked_response,
    collect_events,
    error_response,
    http_response,
    scripted_vendor,
    speech_request,
)

KEY = "sk_test_0123456789"
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
async def vendor() -> AsyncIterator[ScriptedVendor]:
    async with scripted_vendor() as listening:
        yield listening


@pytest.fixture
async def provider(vendor: ScriptedVendor) -> AsyncIterator[ElevenLabs]:
    made = ElevenLabs(KEY, base_url=vendor.url, wall_clock=lambda: NOON)
    yield made
    await made.aclose()


@pytest.fixture
async def timed(vendor: ScriptedVendor) -> AsyncIterator[ElevenLabs]:
    made = ElevenLabs(KEY, base_url=vendor.url, timestamps=True)
    yield made
    await made.aclose()


async def test_response_headers_become_accepted(vendor: ScriptedVendor, provider: ElevenLabs) -> None:
    vendor.enqueue(chunked_response(b"one", b"two", **dict[str, Any](SpeechResponseHeaders("r-1", 5, 2, 10).headers())))

    result = await collect_events(provider, speech_request())

    assert result.accepted == [Accepted("r-1", 5.0, 2, 10)]
    assert result.data == b"onetwo"


async def test_request_uses_the_streaming_endpoint_with_the_key_in_a_header(
    vendor: ScriptedVendor, provider: ElevenLabs
) -> None:
    vendor.enqueue(audio_response())
    await collect_events(provider, speech_request(options={"enable_logging": False, "text": "Other"}))

    request = vendor.requests[0]
    assert request.method == "POST"
    path, _, query = request.target.partition("?")
    assert path == f"/v1/text-to-speech/{VOICES['George']}/stream"
    assert set(query.split("&")) == {"output_format=mp3_44100_128", "enable_logging=false"}
    assert request.headers["xi-api-key"] == KEY
    assert request.json == {"text": "Hello", "model_id": "eleven_flash_v2_5"}
    assert KEY not in request.target + request.body.decode()


@pytest.mark.parametrize("generation", ErrorBodyVersion)
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "quota_exceeded", speech.TTSQuotaExceededError),
        (401, "invalid_api_key", speech.TTSInvalidKeyError),
        (401, "detected_unusual_activity", speech.TTSAccountFlaggedError),
        (404, "voice_not_found", speech.TTSVoiceUnknownError),
        (400, "max_character_limit_exceeded", speech.TTSTextTooLongError),
        (429, "too_many_concurrent_requests", speech.TTSConcurrencyError),
        (429, "system_busy", speech.TTSBusyError),
        (500, "internal_server_error", speech.TTSServerError),
    ],
)
async def test_error_responses_have_their_kind(
    vendor: ScriptedVendor,
    provider: ElevenLabs,
    generation: ErrorBodyVersion,
    status: int,
    code: str,
    kind: type[TTSError],
) -> None:
    vendor.enqueue(error_response(status, error_body(code, "No.", generation=generation), request_id="r-2"))

    with pytest.raises(TTSError) as refused:
        await collect_events(provider, speech_request())

    error = refused.value
    assert type(error) is kind
    assert (error.provider, error.status, error.code, error.request_id) == ("elevenlabs", status, code, "r-2")


async def test_validation_errors_of_a_422_are_a_bad_request(vendor: ScriptedVendor, provider: ElevenLabs) -> None:
    vendor.enqueue(
        error_response(422, validation_body([ValidationIssue("missing", ("body", "text"), "Field required")]))
    )

    with pytest.raises(speech.TTSBadRequestError, match=r"body\.text: Field required"):
        await collect_events(provider, speech_request())


@pytest.mark.parametrize("header", ["7", "Tue, 24 Nov 2026 12:00:07 GMT"])
async def test_retry_after_is_in_seconds(vendor: ScriptedVendor, provider: ElevenLabs, header: str) -> None:
    vendor.enqueue(error_response(429, error_body("system_busy", "Later."), retry_after=header))

    with pytest.raises(speech.TTSBusyError) as refused:
        await collect_events(provider, speech_request())

    assert refused.value.retry_after == 7.0


async def test_key_repeated_by_the_vendor_is_redacted(vendor: ScriptedVendor, provider: ElevenLabs) -> None:
    vendor.enqueue(error_response(401, error_body("invalid_api_key", f"Bad key {KEY}", request_id=KEY)))

    with pytest.raises(speech.TTSInvalidKeyError) as refused:
        await collect_events(provider, speech_request())

    assert KEY not in f"{refused.value} {vars(refused.value)}"


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("application/json", b'{"audio": null}', "application/json"),
        ("text/html; charset=utf-8", b"<html><title>Welcome</title></html>", "Welcome"),
        ("TEXT/plain", b"hello", "hello"),
    ],
)
async def test_readable_success_is_not_audio(
    vendor: ScriptedVendor, provider: ElevenLabs, content_type: str, body: bytes, message: str
) -> None:
    vendor.enqueue(audio_response(body, content_type=content_type, request_id="r-3"))

    with pytest.raises(speech.TTSNotAudioError, match=message) as refused:
        await collect_events(provider, speech_request())

    assert refused.value.request_id == "r-3"


async def test_error_with_status_200_keeps_its_kind(vendor: ScriptedVendor, provider: ElevenLabs) -> None:
    vendor.enqueue(error_response(200, error_body("quota_exceeded", "Out.")))

    with pytest.raises(speech.TTSQuotaExceededError):
        await collect_events(provider, speech_request())


async def test_empty_success_is_an_error(vendor: ScriptedVendor, provider: ElevenLabs) -> None:
    vendor.enqueue(audio_response(b"", request_id="r-4"))
    vendor.enqueue(chunked_response())

    for _ in range(2):
        result = CollectedEvents()
        with pytest.raises(speech.TTSEmptyAudioError):
            await collect_events(provider, speech_request(), into=result)
        assert len(result.accepted) == 1


async def test_audio_with_timestamps_has_alignments(vendor: ScriptedVendor, timed: ElevenLabs) -> None:
    first = Alignment(("H", "i"), (0.0, 0.1), (0.1, 0.2))
    second = Alignment(("!",), (0.2,), (0.3,))
    lines = b"".join(
        json.dumps(timed_audio_body(TimedAudio(data, times))).encode() + b"\n"
        for data, times in [(b"one", first), (b"two", None), (b"three", second)]
    )
    vendor.enqueue(chunked_response(lines[:50], lines[50:-1], content_type="application/json"))

    result = await collect_events(timed, speech_request("Hi!"))

    assert vendor.requests[0].target.startswith(f"/v1/text-to-speech/{VOICES['George']}/stream/with-timestamps?")
    assert result.data == b"onetwothree"
    assert result.alignments == [first, second]


async def test_lines_of_one_read_are_one_chunk_up_to_an_error_line(vendor: ScriptedVendor, timed: ElevenLabs) -> None:
    first = Alignment(("H", "i"), (0.0, 0.1), (0.1, 0.2))
    second = Alignment(("!",), (0.2,), (0.3,))
    lines = [
        json.dumps(timed_audio_body(TimedAudio(data, times, times))).encode() + b"\n"
        for data, times in [(b"one", first), (b"two", None), (b"three", second)]
    ]
    error = json.dumps(error_body("quota_exceeded", "Out.")).encode() + b"\n"
    vendor.enqueue(chunked_response(b"".join([*lines, error, lines[0]]), content_type="application/json"))
    result = CollectedEvents()

    with pytest.raises(speech.TTSQuotaExceededError):
        await collect_events(timed, speech_request("Hi!"), into=result)

    assert result.data == b"onetwothree"
    assert result.alignments == [Alignment.joined([(0.0, first), (0.0, second)])]


async def test_truncated_line_of_timed_audio_is_an_error(vendor: ScriptedVendor, timed: ElevenLabs) -> None:
    line = json.dumps(timed_audio_body(TimedAudio(b"one"))).encode()
    vendor.enqueue(chunked_response(line + b"\n" + line[:20], content_type="application/json"))
    result = CollectedEvents()

    with pytest.raises(speech.TTSNotAudioError):
        await collect_events(timed, speech_request(), into=result)

    assert result.data == b"one"


async def test_error_between_timed_audio_is_the_vendors_error(vendor: ScriptedVendor, timed: ElevenLabs) -> None:
    vendor.enqueue(
        chunked_response(json.dumps(error_body("quota_exceeded", "Out.")).encode(), content_type="application/json")
    )

    with pytest.raises(speech.TTSQuotaExceededError):
        await collect_events(timed, speech_request())


@pytest.mark.parametrize(
    "body", ['{"detail": {"code": "odd", "message": "Hm."}}\n', '{\n "error": "Hm."\n}', '{"a": 1}', "[]"]
)
async def test_response_without_audio_has_the_same_kind_with_and_without_timestamps(
    vendor: ScriptedVendor, timed: ElevenLabs, provider: ElevenLabs, body: str
) -> None:
    errors = []
    for asked in (timed, provider):
        vendor.enqueue(http_response(200, body.encode(), content_type="application/json"))
        with pytest.raises(speech.TTSNotAudioError, match="HTTP 200") as caught:
            await collect_events(asked, speech_request())
        errors.append(caught.value)

    assert str(errors[0]) == str(errors[1])
    assert str(errors[0].body).strip() == str(errors[1].body).strip() == body.strip()


async def test_invalid_line_after_timed_audio_is_a_vendor_error(vendor: ScriptedVendor, timed: ElevenLabs) -> None:
    line = json.dumps(timed_audio_body(TimedAudio(b"one"))).encode()
    vendor.enqueue(
        chunked_response(line + b"\n" + json.dumps(error_body("odd", "Hm.")).encode(), content_type="application/json")
    )

    with pytest.raises(speech.TTSServerError, match="in the middle of the answer"):
        await collect_events(timed, speech_request())


async def test_web_page_is_not_timed_audio(vendor: ScriptedVendor, timed: ElevenLabs) -> None:
    vendor.enqueue(http_response(200, b"<html>", content_type="text/html"))

    with pytest.raises(speech.TTSNotAudioError):
        await collect_events(timed, speech_request())


async def test_options_that_are_not_json_are_a_bad_request(vendor: ScriptedVendor, provider: ElevenLabs) -> None:
    with pytest.raises(speech.TTSBadRequestError, match="options"):
        await collect_events(provider, speech_request(options={"voice_settings": {"stability": {1, 2}}}))

    assert not vendor.requests


class TestElevenLabsOffer:
    def provider(self, **settings: Any) -> ElevenLabs:
        return ElevenLabs(KEY, voices={"narrator": "nnn"}, **settings)

    def test_voice_in_the_map_is_used(self) -> None:
        offer = self.provider().offer(speech_request(voice="narrator"))

        assert (offer.voice, offer.knows_voice) == ("nnn", True)

    def test_default_voice_is_always_in_the_map(self) -> None:
        assert self.provider().offer(speech_request()).voice == VOICES["George"]
        assert ElevenLabs(KEY, voices={"default": "mine"}).offer(speech_request()).voice == "mine"

    @pytest.mark.parametrize(
        ("unknown_voice", "voice", "knows"),
        [("passthrough", "stranger", True), ("default", VOICES["George"], True), ("refuse", VOICES["George"], False)],
    )
    def test_unknown_voice_passes_through_or_is_substituted(self, unknown_voice: str, voice: str, knows: bool) -> None:
        offer = self.provider().offer(speech_request(voice="stranger", unknown_voice=unknown_voice))

        assert (offer.voice, offer.knows_voice) == (voice, knows)

    @pytest.mark.parametrize(
        ("dialect", "voice", "knows"),
        [("elevenlabs", "stranger", False), ("openai", VOICES["George"], False), (None, "stranger", True)],
    )
    def test_voice_passes_through_in_its_own_dialect_only(self, dialect: str | None, voice: str, knows: bool) -> None:
        offer = self.provider().offer(speech_request(voice="stranger", unknown_voice="passthrough", dialect=dialect))

        assert (offer.voice, offer.knows_voice) == (voice, knows)

    @pytest.mark.parametrize("voice", ["", ".", "..", "a\r\nx: y", "a" * 201, " "])
    def test_invalid_voice_id_does_not_pass_through(self, voice: str) -> None:
        with pytest.raises(speech.TTSBadRequestError, match="voice"):
            self.provider().offer(speech_request(voice=voice, unknown_voice="passthrough"))

    @pytest.mark.parametrize(
        ("asked", "model", "limit"),
        [
            (None, "mine", 3_000),
            ("tts-1", "mine", 3_000),
            ("mine", "mine", 3_000),
            ("eleven_multilingual_v2", "eleven_multilingual_v2", 10_000),
        ],
    )
    def test_unknown_model_becomes_the_configured_one(self, asked: str | None, model: str, limit: int) -> None:
        offer = self.provider(model="mine").offer(speech_request(model=asked))

        assert (offer.model, offer.max_characters) == (model, limit)

    @pytest.mark.parametrize(
        ("asked", "offered"),
        [
            ("ulaw_8000", "ulaw_8000"),
            ("opus_48000_96", "opus_48000_96"),
            ("flac_44100", "pcm_44100"),
            ("wav_24000", "pcm_24000"),
        ],
    )
    def test_missing_format_is_offered_as_pcm_of_the_same_rate(self, asked: str, offered: str) -> None:
        assert self.provider().offer(speech_request(format=asked)).format.name == offered


class TestElevenLabsSettings:
    def test_missing_key_names_the_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)

        with pytest.raises(TTSConfigurationError, match="ELEVENLABS_API_KEY"):
            ElevenLabs()
        with pytest.raises(TTSConfigurationError, match="ELEVENLABS_API_KEY"):
            ElevenLabs("")

    async def test_key_may_come_from_the_environment(
        self, vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ELEVENLABS_API_KEY", "from-outside")
        provider = ElevenLabs(base_url=vendor.url)
        vendor.enqueue(audio_response())

        await collect_events(provider, speech_request())
        await provider.aclose()

        assert vendor.requests[0].headers["xi-api-key"] == "from-outside"

    @pytest.mark.parametrize("key", ["abc\r\nx-evil: 1", "abc\n", "a b", "schlüssel"])
    def test_key_invalid_in_a_header_is_refused_and_not_shown(self, key: str) -> None:
        with pytest.raises(TTSConfigurationError, match="api_key") as refused:
            ElevenLabs(key)

        assert key not in str(refused.value)

    @pytest.mark.parametrize(
        ("settings", "where"),
        [
            ({"base_url": "api.elevenlabs.io"}, "base_url"),
            ({"base_url": "ftp://host"}, "base_url"),
            ({"base_url": "http://host:port"}, "base_url"),
            ({"base_url": "http://host\r\n"}, "base_url"),
            ({"base_url": "http://user:secret@host"}, "base_url"),
            ({"base_url": "http://host?key=secret"}, "base_url"),
            ({"proxy": "secret@nowhere"}, "proxy"),
            ({"voices": {"narrator": ""}}, "voices.narrator"),
            ({"voices": {"narrator": ".."}}, "voices.narrator"),
            ({"voices": {"default": "a\nb"}}, "voices.default"),
            ({"model": ""}, "model"),
        ],
    )
    def test_impossible_setting_is_refused_by_its_path(self, settings: dict[str, Any], where: str) -> None:
        with pytest.raises(TTSConfigurationError) as refused:
            ElevenLabs(KEY, name="main", **settings)

        assert refused.value.message.startswith(f"main.{where}: ")
        assert "secret" not in str(refused.value)

    def test_key_is_not_in_the_repr(self) -> None:
        assert KEY not in repr(ElevenLabs(KEY))
        assert "eleven_flash_v2_5" in repr(ElevenLabs(KEY))


async def test_closing_the_stream_closes_a_hanging_connection(vendor: ScriptedVendor, provider: ElevenLabs) -> None:
    vendor.enqueue(chunked_response(b"one", end=False), ConnectionAction.HANG)
    request = speech_request()
    events = provider.speak(request, provider.offer(request), connection_timeout=5.0)
    await anext(events)
    await anext(events)

    await events.aclose()

    await vendor.client_left.wait()


@pytest.mark.parametrize("status", [404, 405])
async def test_server_without_timestamps_is_called_without_them(
    vendor: ScriptedVendor, timed: ElevenLabs, status: int
) -> None:
    vendor.enqueue(error_response(status, {"detail": "Not Found"}))
    vendor.enqueue(audio_response(b"one"))
    vendor.enqueue(audio_response(b"two"))

    assert (await collect_events(timed, speech_request())).data == b"one"
    assert (await collect_events(timed, speech_request())).data == b"two"

    ways = [request.target.partition("?")[0].rpartition("/")[2] for request in vendor.requests]
    assert ways == ["with-timestamps", "stream", "stream"]


async def test_unknown_voice_is_not_a_missing_timestamps_endpoint(vendor: ScriptedVendor, timed: ElevenLabs) -> None:
    vendor.enqueue(error_response(404, error_body("voice_not_found", "no such voice")))
    with pytest.raises(speech.TTSVoiceUnknownError):
        await collect_events(timed, speech_request())
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("begun", [False, True], ids=["instead of audio", "behind audio"])
async def test_not_found_in_an_accepted_answer_is_no_missing_timestamps_endpoint(
    vendor: ScriptedVendor, timed: ElevenLabs, begun: bool
) -> None:
    """An accepted request may have been billed: only an error from sending it leads to another one."""
    audio = json.dumps(timed_audio_body(TimedAudio(b"one"))).encode() + b"\n" if begun else b""
    vendor.enqueue(http_response(200, audio + b'{"detail": "Not Found"}\n', content_type="application/json"))
    result = CollectedEvents()

    with pytest.raises(speech.TTSError):
        await collect_events(timed, speech_request(), into=result)

    assert len(vendor.requests) == 1
    assert len(result.accepted) == 1
    assert result.data == (b"one" if begun else b"")
    assert timed.offer(speech_request()).timed


async def test_server_without_either_endpoint_gets_two_requests(vendor: ScriptedVendor, timed: ElevenLabs) -> None:
    for _ in range(2):
        vendor.enqueue(error_response(404, {"detail": "Not Found"}))

    with pytest.raises(speech.TTSError) as missing:
        await collect_events(timed, speech_request())

    assert missing.value.status == 404
    assert len(vendor.requests) == 2


async def test_plain_audio_from_the_timestamps_endpoint_is_accepted(vendor: ScriptedVendor, timed: ElevenLabs) -> None:
    vendor.enqueue(chunked_response(b"one", b"two"))
    assert (await collect_events(timed, speech_request())).data == b"onetwo"
    assert not timed.offer(speech_request()).timed


EMPTY_LINES = {
    "audio of no bytes": b'{"audio_base64":""}\n',
    "no audio": b'{"audio_base64":null,"alignment":null}\n',
    "blank lines": b"\n",
    "lines of blanks": b" \r\n",
}


@pytest.mark.parametrize("what", EMPTY_LINES)
async def test_lines_without_audio_yield_to_the_event_loop_and_are_limited(
    what: str, vendor: ScriptedVendor, timed: ElevenLabs
) -> None:
    block = EMPTY_LINES[what] * (32_768 // len(EMPTY_LINES[what]))
    vendor.enqueue(chunked_response(*[block] * 100, content_type="application/json"))
    turns, on = 0, True

    def turn() -> None:
        nonlocal turns
        turns += 1
        if on:
            asyncio.get_running_loop().call_soon(turn)

    turn()
    with pytest.raises(TTSNotAudioError, match="without audio"):
        async for _ in timed.speak(speech_request(), timed.offer(speech_request()), connection_timeout=5.0):
            pass
    on = False
    assert turns >= 1024 * 1024 / 65_536


async def test_endless_line_is_refused(vendor: ScriptedVendor, timed: ElevenLabs) -> None:
    begin = b'{"audio_base64":"'
    vendor.enqueue(chunked_response(begin, *[b"A" * 65_536] * 200, content_type="application/json"))

    with pytest.raises(TTSNotAudioError, match="a line of the response is longer"):
        await collect_events(timed, speech_request())


class TestCreditByTheVendorsClock:
    """Reset time of the credit, on a machine whose clock is wrong."""

    RESET = int((NOON + timedelta(days=3)).timestamp())

    async def credit(
        self, vendor: ScriptedVendor, reset: Any, *, ours: datetime = NOON, date: datetime | None = NOON
    ) -> Credit:
        headers = {} if date is None else {"date": format_datetime(date, usegmt=True)}
        document = {"character_count": 10, "character_limit": 50, "next_character_count_reset_unix": reset}
        vendor.enqueue(error_response(200, document, **headers))
        provider = ElevenLabs(KEY, base_url=vendor.url, wall_clock=lambda: ours)
        try:
            return await provider.credit()
        finally:
            await provider.aclose()

    @pytest.mark.parametrize("wrong", [timedelta(hours=-30), timedelta(hours=5), timedelta(days=-9000)])
    async def test_credit_reset_uses_the_vendors_clock(self, vendor: ScriptedVendor, wrong: timedelta) -> None:
        credit = await self.credit(vendor, self.RESET, ours=NOON + wrong)
        assert credit == Credit(40, NOON + wrong + timedelta(days=3))

    async def test_credit_reset_without_a_date_uses_the_local_clock(self, vendor: ScriptedVendor) -> None:
        credit = await self.credit(vendor, self.RESET, date=None)
        assert credit.resets_at == NOON + timedelta(days=3)

    @pytest.mark.parametrize("reset", [None, "soon", True, 1e300, float("1e14"), -(10**12), 10**400, [], {}])
    async def test_impossible_credit_reset_is_none(self, vendor: ScriptedVendor, reset: Any) -> None:
        assert await self.credit(vendor, reset) == Credit(40, None)
