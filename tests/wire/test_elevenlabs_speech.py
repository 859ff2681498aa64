"""ElevenLabs synthesis requests: encoding, parsing and validation; catalog and account."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.speech.format import ELEVENLABS_FORMAT_NAMES, AudioFormat
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire.elevenlabs.catalog import (
    MODELS,
    VOICES,
    Subscription,
    VoiceSearch,
    found_voices_body,
    get_model_info,
    models_body,
    parse_subscription,
    parse_voice_search,
    subscription_body,
    user_body,
    voice_body,
    voices_body,
)
from steadyvoice.wire.elevenlabs.speech import (
    ElevenLabsSpeechRequest,
    SpeechEndpoint,
    SpeechResponseHeaders,
    decode_request,
    encode_request,
    parse_request,
    parse_response_headers,
    speech_path,
)
from steadyvoice.wire.request_validation import RequestValidationError

PCM = AudioFormat.parse("pcm_24000")
FLASH = "eleven_flash_v2_5"


def call(request: SpeechRequest, model_id: str = FLASH) -> ElevenLabsSpeechRequest:
    return encode_request(request, model_id=model_id, output_format=request.format.name)


def sent_and_read(sent: ElevenLabsSpeechRequest) -> ElevenLabsSpeechRequest:
    return parse_request(sent.params(), json.dumps(sent.body()).encode())


texts = st.text(min_size=1).filter(lambda text: text.strip())


@given(
    text=texts,
    format_name=st.sampled_from(ELEVENLABS_FORMAT_NAMES),
    language=st.none() | st.sampled_from(["en", "de"]),
    speed=st.floats(0.7, 1.2),
    seed=st.none() | st.integers(0, 2**32 - 1),
    previous=st.none() | texts,
    logging=st.booleans(),
)
def test_encoded_request_is_parsed_to_the_same(
    text: str,
    format_name: str,
    language: str | None,
    speed: float,
    seed: int | None,
    previous: str | None,
    logging: bool,
) -> None:
    asked = SpeechRequest(
        text,
        AudioFormat.parse(format_name),
        voice="v",
        model=FLASH,
        language=language,
        speed=speed,
        seed=seed,
        previous_text=previous,
        next_text="and so on",
        options={"enable_logging": logging, "voice_settings": {"stability": 0.5}},
    )

    sent = call(asked)
    read = sent_and_read(sent)
    understood = decode_request(read, "v")

    assert read == sent
    assert (understood.text, understood.format, understood.voice) == (text, asked.format, "v")
    assert (understood.model, understood.language, understood.speed) == (FLASH, language, speed)
    assert (understood.seed, understood.previous_text, understood.next_text) == (seed, previous, "and so on")
    assert understood.options["enable_logging"] == str(logging).lower()
    assert understood.options["voice_settings"]["stability"] == 0.5
    assert call(understood).body() == sent.body()


def test_speed_beyond_the_limits_becomes_the_nearest() -> None:
    fast, slow = (call(SpeechRequest("Hi", PCM, speed=speed)) for speed in (3.0, 0.3))

    assert fast.body()["voice_settings"] == {"speed": 1.2}
    assert slow.body()["voice_settings"] == {"speed": 0.7}
    assert "voice_settings" not in call(SpeechRequest("Hi", PCM)).body()


def test_speed_in_voice_settings_wins() -> None:
    request = SpeechRequest("Hi", PCM, speed=1.1, options={"voice_settings": {"speed": 0.9, "style": 0.2}})

    assert call(request).body()["voice_settings"] == {"speed": 0.9, "style": 0.2}


def test_options_never_replace_text_voice_and_format() -> None:
    options = {"text": "Other", "model_id": "other", "output_format": "pcm_8000", "voice_id": "other", "seed": 1}
    sent = call(SpeechRequest("Hi", PCM, options=options))

    assert sent.body() == {"text": "Hi", "model_id": FLASH, "seed": 1}
    assert sent.params() == {"output_format": "pcm_24000"}


def test_options_are_sent_to_their_own_dialect_only() -> None:
    options = {"brand": "new", "voice_settings": {"style": 0.2}}
    ours = SpeechRequest("Hi", PCM, options=options, dialect="elevenlabs")
    theirs = SpeechRequest("Hi", PCM, options=options, dialect="openai")

    assert call(ours).settings == options
    assert call(theirs).settings == {}


def test_unknown_options_are_sent_and_those_of_another_vendor_are_not() -> None:
    sent = call(SpeechRequest("Hi", PCM, options={"instructions": "whisper", "audio_effects": ["hall"], "brand": 1}))

    assert sent.body() == {"text": "Hi", "model_id": FLASH, "audio_effects": ["hall"], "brand": 1}


def test_hints_that_a_model_refuses_are_left_out() -> None:
    request = SpeechRequest("Hi", PCM, language="de-AT", previous_text="Before.", next_text="After.", seed=3)

    assert call(request).body()["language_code"] == "de"
    assert call(request).body()["previous_text"] == "Before."
    assert "language_code" not in call(request, "eleven_multilingual_v2").body()
    assert call(request, "eleven_v3").body() == {"text": "Hi", "model_id": "eleven_v3", "seed": 3}


TRAILING_COMMA = 13 if sys.version_info >= (3, 13) else 14  # where Python's JSON decoder finds fault with it


@pytest.mark.parametrize(
    ("query", "body", "where"),
    [
        ({}, b"not json", ("body", 0)),
        ({}, b'{"text": "Hi",}', ("body", TRAILING_COMMA)),
        ({}, b"[" * 60_000, ("body", 0)),
        ({}, b"[]", ("body",)),
        ({}, b"{}", ("body", "text")),
        ({}, b'{"text": 5}', ("body", "text")),
        ({}, b'{"text": " \\n"}', ("body", "text")),
        ({}, b'{"text": "Hi", "model_id": 5}', ("body", "model_id")),
        ({}, b'{"text": "Hi", "language_code": []}', ("body", "language_code")),
        ({}, b'{"text": "Hi", "seed": -1}', ("body", "seed")),
        ({}, b'{"text": "Hi", "seed": true}', ("body", "seed")),
        ({}, b'{"text": "Hi", "voice_settings": "loud"}', ("body", "voice_settings")),
        ({}, b'{"text": "Hi", "audio_effects": ["hall"]}', ("body", "audio_effects")),
        ({}, b'{"text": "Hi", "use_pvc_as_ivc": "maybe"}', ("body", "use_pvc_as_ivc")),
        ({}, b'{"text": "Hi", "apply_language_text_normalization": 2}', ("body", "apply_language_text_normalization")),
        (
            {},
            b'{"text": "Hi", "voice_settings": {"use_speaker_boost": "maybe"}}',
            ("body", "voice_settings", "use_speaker_boost"),
        ),
        ({}, b'{"text": "Hi", "apply_text_normalization": "maybe"}', ("body", "apply_text_normalization")),
        ({}, b'{"text": "Hi", "apply_text_normalization": []}', ("body", "apply_text_normalization")),
        ({}, b'{"text": "Hi", "previous_request_ids": ["a", "b", "c", "d"]}', ("body", "previous_request_ids")),
        ({}, b'{"text": "Hi", "previous_request_ids": "abc"}', ("body", "previous_request_ids")),
        ({}, b'{"text": "Hi", "next_request_ids": [1]}', ("body", "next_request_ids")),
        (
            {},
            b'{"text": "Hi", "pronunciation_dictionary_locators": ["a"]}',
            ("body", "pronunciation_dictionary_locators"),
        ),
        ({"output_format": "mp3"}, b'{"text": "Hi"}', ("query", "output_format")),
        ({"enable_logging": "perhaps"}, b'{"text": "Hi"}', ("query", "enable_logging")),
        ({"optimize_streaming_latency": "5"}, b'{"text": "Hi"}', ("query", "optimize_streaming_latency")),
    ],
)
def test_invalid_request_names_the_field(query: dict[str, str], body: bytes, where: tuple[str | int, ...]) -> None:
    with pytest.raises(RequestValidationError) as refused:
        parse_request(query, body)

    assert [issue.loc for issue in refused.value.issues] == [where]
    assert str(where[-1]) in str(refused.value)


def test_valid_optional_fields_are_accepted() -> None:
    hints: dict[str, Any] = {
        "apply_text_normalization": "off",
        "previous_request_ids": ["a", "b", "c"],
        "use_pvc_as_ivc": "Yes",
        "voice_settings": {"use_speaker_boost": 1},
        "next_request_ids": None,
        "pronunciation_dictionary_locators": [{"pronunciation_dictionary_id": "p", "version_id": "v"}],
        "a_field_of_tomorrow": {},
    }
    query = {"enable_logging": "False", "optimize_streaming_latency": "4"}
    read = parse_request(query, json.dumps({"text": "Hi", **hints}).encode())
    assert (read.settings, read.query) == (hints, query)


def test_missing_text_differs_from_a_text_of_the_wrong_type() -> None:
    for body, kind in (
        (b"", "missing"),
        (b"{}", "missing"),
        (b'{"text": 5}', "string_type"),
        (b'{"text": ""}', "string_too_short"),
    ):
        with pytest.raises(RequestValidationError) as refused:
            parse_request({}, body)
        assert refused.value.issues[0].type == kind


@pytest.mark.parametrize("form", SpeechEndpoint)
def test_wav_cannot_be_streamed(form: SpeechEndpoint) -> None:
    if not form.streams:
        assert parse_request({"output_format": "wav_8000"}, b'{"text": "Hi"}', form).output_format == "wav_8000"
        return
    with pytest.raises(RequestValidationError, match="output_format"):
        parse_request({"output_format": "wav_8000"}, b'{"text": "Hi"}', form)


def test_absent_fields_are_the_vendors_defaults_and_an_absent_model_is_noted() -> None:
    read = parse_request(
        {"enable_logging": "false", "other": "x"}, b'{"text": "Hi", "seed": null, "voice_settings": null}'
    )

    assert (read.model_id, read.output_format) == ("eleven_multilingual_v2", "mp3_44100_128")
    assert read.query == {"enable_logging": "false"}
    assert decode_request(read, "v") == SpeechRequest(
        "Hi",
        AudioFormat.parse("mp3_44100_128"),
        voice="v",
        model=None,
        options={"enable_logging": "false"},
        unknown_voice="passthrough",
        dialect="elevenlabs",
    )


def test_voice_stays_one_segment_of_the_path() -> None:
    assert speech_path("a/../b?c", SpeechEndpoint.STREAM) == "/v1/text-to-speech/a%2F..%2Fb%3Fc/stream"
    assert speech_path("v", SpeechEndpoint.WHOLE) == "/v1/text-to-speech/v"
    assert [form.value for form in SpeechEndpoint if form.timed] == ["/with-timestamps", "/stream/with-timestamps"]
    assert [form.value for form in SpeechEndpoint if form.streams] == ["/stream", "/stream/with-timestamps"]


@given(
    request_id=st.none() | st.text("abc123-", min_size=1, max_size=40),
    cost=st.none() | st.integers(0, 10**9).map(float) | st.sampled_from([0.5, 12.25]),
    current=st.none() | st.integers(0, 999),
    maximum=st.none() | st.integers(0, 999),
)
def test_response_headers_are_parsed_to_the_same(
    request_id: str | None, cost: float | None, current: int | None, maximum: int | None
) -> None:
    receipt = SpeechResponseHeaders(request_id, cost, current, maximum)

    assert parse_response_headers(receipt.headers()) == receipt


def test_invalid_response_headers_are_none() -> None:
    odd = {"character-cost": "1e999", "current-concurrent-requests": "-1", "maximum-concurrent-requests": "²"}

    assert parse_response_headers(odd) == SpeechResponseHeaders()


def test_unknown_model_gets_the_smallest_limit_and_no_hints() -> None:
    facts = get_model_info("eleven_v9")

    assert facts.max_characters == min(model.max_characters for model in MODELS.values()) == 3_000
    assert not facts.takes_context
    assert not facts.takes_language


def test_models_and_voices_are_listed_in_the_vendors_form() -> None:
    assert {model["model_id"] for model in models_body()} == set(MODELS)
    assert all(model["can_do_text_to_speech"] for model in models_body())
    assert voice_body("George", VOICES["George"]) in voices_body()["voices"]
    assert found_voices_body(VoiceSearch())["voices"] == voices_body()["voices"]


@given(names=st.sets(st.sampled_from("abcdefgh"), max_size=8), size=st.integers(1, 10))
def test_pages_show_every_voice_once(names: set[str], size: int) -> None:
    voices = {name: f"id-{name}" for name in names}
    page = found_voices_body(VoiceSearch(page_size=size), voices)
    seen = page["voices"]
    while page["has_more"]:
        assert len(page["voices"]) == size
        page = found_voices_body(VoiceSearch(page_size=size, next_page_token=page["next_page_token"]), voices)
        seen = seen + page["voices"]
    assert (page["next_page_token"], page["total_count"]) == (None, len(names))
    assert seen == voices_body(voices)["voices"]


def test_voices_are_found_by_a_part_of_their_name_and_by_id() -> None:
    wanted = parse_voice_search([("search", "GEOR"), ("page_size", "5")])
    assert [voice["name"] for voice in found_voices_body(wanted)["voices"]] == ["George"]
    wanted = parse_voice_search([("voice_ids", VOICES["Bill"]), ("voice_ids", VOICES["Adam"])])
    assert {voice["name"] for voice in found_voices_body(wanted)["voices"]} == {"Bill", "Adam"}


@pytest.mark.parametrize("size", ["0", "101", "-1", "ten", "²", ""])
def test_page_of_an_impossible_size_is_refused(size: str) -> None:
    with pytest.raises(RequestValidationError, match="page_size"):
        parse_voice_search([("page_size", size)])


@given(count=st.integers(0, 10**6), limit=st.integers(0, 10**6), extension=st.integers(0, 10**6))
def test_subscription_is_parsed_to_the_same_with_its_remaining_quota(count: int, limit: int, extension: int) -> None:
    mine = Subscription(count, limit, next_reset_unix=1_800_000_000, tier="pro", extension=extension)

    assert parse_subscription(subscription_body(mine)) == mine
    assert mine.remaining == max(limit + extension - count, 0)
    assert parse_subscription(user_body("u", mine)["subscription"]) == mine


def test_unlimited_subscription_has_no_remainder() -> None:
    mine = Subscription(5, 5, unlimited=True)

    assert parse_subscription(subscription_body(mine)).remaining is None


def test_extension_that_is_not_allowed_does_not_count() -> None:
    document: dict[str, Any] = subscription_body(Subscription(90, 100, extension=50))
    document["allowed_to_extend_character_limit"] = False

    assert parse_subscription(document).remaining == 10


def test_subscription_without_counters_is_refused() -> None:
    with pytest.raises(ValueError, match="character_count"):
        parse_subscription({"tier": "free"})
