"""OpenAI requests, errors and server-sent events: encoding and parsing."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire.openai.errors import CODES, error_body, parse_error, validation_body
from steadyvoice.wire.openai.speech import (
    RESPONSE_FORMATS,
    AudioDelta,
    AudioDone,
    OpenAISpeechRequest,
    decode_request,
    encode_event,
    encode_request,
    models_body,
    parse_request,
)
from steadyvoice.wire.request_validation import RequestValidationError

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PCM = AudioFormat.parse("pcm_24000")


def read_error(status: int, document: Any, **headers: str) -> TTSError:
    return parse_error(status, headers, json.dumps(document).encode(), now=NOON)


def body(**changes: Any) -> bytes:
    return json.dumps({"model": "tts-1", "input": "Hi", "voice": "nova"} | changes).encode()


@given(
    text=st.text(min_size=1).filter(lambda text: text.strip()),
    response_format=st.sampled_from(list(RESPONSE_FORMATS)),
    speed=st.floats(0.25, 4.0),
)
def test_encoded_request_is_parsed_to_the_same(text: str, response_format: str, speed: float) -> None:
    asked = SpeechRequest(
        text,
        RESPONSE_FORMATS[response_format],
        voice="nova",
        model="tts-1",
        speed=speed,
        options={"instructions": "x"},
        unknown_voice="passthrough",
        dialect="openai",
    )

    sent = encode_request(asked, model="tts-1", voice="nova", response_format=response_format)
    read = parse_request(json.dumps(sent.body()).encode())

    assert read == sent
    assert decode_request(read) == asked


def test_options_never_replace_required_fields_and_other_vendors_are_not_sent() -> None:
    options = {"input": "Other", "voice": "x", "model": "x", "response_format": "x", "stream_format": "sse"}
    foreign = {"voice_settings": {}, "enable_logging": True, "seed": 1}
    asked = SpeechRequest("Hi", PCM, options={**options, **foreign, "lang_code": "d"})

    sent = encode_request(asked, model="tts-1", voice="nova", response_format="pcm").body()

    assert sent == {"input": "Hi", "model": "tts-1", "voice": "nova", "response_format": "pcm", "lang_code": "d"}


def test_no_options_are_sent_to_another_dialect() -> None:
    asked = SpeechRequest("Hi", PCM, options={"brand": "new", "instructions": "whisper"}, dialect="elevenlabs")

    assert encode_request(asked, model="tts-1", voice="nova", response_format="pcm").settings == {}


def test_voice_may_be_an_object_with_an_id() -> None:
    assert parse_request(body(voice={"id": "mine"})).voice == "mine"


def test_absent_fields_are_defaults() -> None:
    read = parse_request(body(speed=None, response_format=None))

    assert (read.response_format, read.speed, read.sse) == ("mp3", 1.0, False)
    assert parse_request(body(stream_format="sse")).sse


@pytest.mark.parametrize(
    ("document", "param"),
    [
        (b"no", None),
        (body(input=None), "input"),
        (body(input="  "), "input"),
        (body(input=7), "input"),
        (body(model=None), "model"),
        (body(model=""), "model"),
        (body(voice=7), "voice"),
        (body(response_format="midi"), "response_format"),
        (body(response_format=[]), "response_format"),
        (body(stream_format="fax"), "stream_format"),
        (body(speed="fast"), "speed"),
        (body(speed=True), "speed"),
        (body(speed=9), "speed"),
        (body(speed=float("nan")), None),
    ],
)
def test_invalid_request_names_the_field(document: bytes, param: str | None) -> None:
    with pytest.raises(RequestValidationError) as refused:
        parse_request(document)

    answer = validation_body(refused.value.issues)["error"]
    assert answer["param"] == param
    assert answer["type"] == "invalid_request_error"


@pytest.mark.parametrize("code", CODES)
def test_each_code_is_classified_whatever_the_status(code: str) -> None:
    assert type(read_error(400, error_body("m", type="t", code=code))) is CODES[code]


@pytest.mark.parametrize(
    ("param", "kind"),
    [
        ("instructions", speech.TTSBadRequestError),
        ("voice", speech.TTSBadRequestError),
        ("input", speech.TTSTextTooLongError),
        ("text", speech.TTSTextTooLongError),
        ("None", speech.TTSTextTooLongError),
        ("", speech.TTSTextTooLongError),
        (None, speech.TTSTextTooLongError),
    ],
)
def test_too_long_string_is_the_text_unless_another_field_is_named(param: str | None, kind: type[TTSError]) -> None:
    document = error_body("Too long.", type="invalid_request_error", code="string_above_max_length", param=param)
    assert type(read_error(400, document)) is kind


def test_insufficient_quota_is_no_rate_limit() -> None:
    empty = read_error(429, error_body("m", type="insufficient_quota", code="insufficient_quota"))
    busy = read_error(429, error_body("m", type="requests", code="rate_limit_exceeded"), **{"retry-after-ms": "1500"})

    assert type(empty) is speech.TTSQuotaExceededError
    assert type(busy) is speech.TTSBusyError
    assert busy.retry_after == 1.5


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [
        (400, error_body("m", type="t", param="voice"), speech.TTSVoiceUnknownError),
        (400, error_body("m", type="t", param="model"), speech.TTSModelUnknownError),
        (400, error_body("m", type="t", param="response_format"), speech.TTSUnsupportedFormatError),
        (400, error_body("[{'type': 'enum', 'loc': ('body', 'voice'), 'msg'", type="t"), speech.TTSVoiceUnknownError),
        (422, {"detail": [{"loc": ["body", "voice"], "msg": "no"}]}, speech.TTSVoiceUnknownError),
        (500, error_body("m", type="t", param="voice"), speech.TTSServerError),
        (400, error_body("m", type="t", param="input"), speech.TTSBadRequestError),
        (404, error_body("no such model", type="t"), speech.TTSModelUnknownError),
        (404, {"detail": "Not Found"}, speech.TTSNotAudioError),
        (404, error_body("Invalid URL (POST /audio/speech)", type="t"), speech.TTSNotAudioError),
        (429, {"error": {"message": "m", "type": "None", "param": "None", "code": "429"}}, speech.TTSBusyError),
        (503, error_body("m", type="t", code="brand_new"), speech.TTSServerError),
    ],
)
def test_unknown_code_is_classified_by_field_and_then_by_status(
    status: int, document: Any, kind: type[TTSError]
) -> None:
    assert type(read_error(status, document)) is kind


@given(event=st.binary().map(AudioDelta) | st.builds(AudioDone, st.integers(0, 10**6), st.integers(0, 10**6)))
def test_events_are_lines_of_json_and_end_with_an_empty_one(event: AudioDelta | AudioDone) -> None:
    encoded = encode_event(event)

    assert encoded.startswith(b"data: ")
    assert encoded.endswith(b"\n\n")
    document = json.loads(encoded.removeprefix(b"data: "))
    match event:
        case AudioDelta(audio):
            assert document["type"] == "speech.audio.delta"
            assert b64decode(document["audio"], validate=True) == audio
        case AudioDone(read, written):
            assert document["type"] == "speech.audio.done"
            usage = document["usage"]
            assert (usage["input_tokens"], usage["output_tokens"]) == (read, written)
            assert usage["total_tokens"] == read + written


def test_models_are_listed() -> None:
    assert models_body(["kokoro"], owner="me") == {
        "object": "list",
        "data": [{"id": "kokoro", "object": "model", "created": 0, "owned_by": "me"}],
    }


def test_usual_speed_is_left_out() -> None:
    assert "speed" not in OpenAISpeechRequest("Hi", "tts-1", "nova").body()
    assert OpenAISpeechRequest("Hi", "tts-1", "nova", speed=2.0).body()["speed"] == 2.0
