"""ElevenLabs websocket messages: both spellings parsed and encoded, invalid ones refused by name."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice.speech.alignment import Alignment
from steadyvoice.wire.elevenlabs.dialogue import (
    DialogueLine,
    DialogueMessage,
    encode_dialogue_message,
    parse_dialogue_message,
)
from steadyvoice.wire.elevenlabs.websocket import (
    DEFAULT_INACTIVITY,
    FORMATS,
    AudioMessage,
    ClientMessage,
    ErrorMessage,
    FieldSpelling,
    FinalMessage,
    SocketParameters,
    encode_client_message,
    encode_message,
    parse_long_message,
    parse_message,
    parse_query,
    parse_server_message,
)
from steadyvoice.wire.request_validation import RequestValidationError

TIMES = Alignment(("H", "i"), (0.0, 0.0104), (0.0104, 0.0999))


def test_empty_query_means_the_defaults() -> None:
    assert parse_query({}) == SocketParameters()
    assert parse_query({}).inactivity_timeout == DEFAULT_INACTIVITY == 20


def test_query_sets_every_parameter() -> None:
    call = parse_query(
        {
            "model_id": "eleven_flash_v2_5",
            "output_format": "ulaw_8000",
            "inactivity_timeout": "180",
            "auto_mode": "True",
            "seed": "7",
            "language_code": "de",
            "authorization": "secret",
            "sync_alignment": "true",
        }
    )
    assert call == SocketParameters(
        "eleven_flash_v2_5", "ulaw_8000", 180.0, True, 7, "de", "secret", sync_alignment=True
    )


def test_websocket_has_fewer_formats() -> None:
    assert len(FORMATS) == 18
    assert not {"wav_16000", "mp3_24000_48", "pcm_32000", "pcm_48000"} & set(FORMATS)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"output_format": "wav_16000"}, "output_format"),
        ({"inactivity_timeout": "181"}, "inactivity_timeout"),
        ({"inactivity_timeout": "nan"}, "inactivity_timeout"),
        ({"seed": "-1"}, "seed"),
        ({"seed": "4294967296"}, "seed"),
        ({"auto_mode": "maybe"}, "auto_mode"),
        ({"enable_logging": "maybe"}, "enable_logging"),
    ],
)
def test_invalid_query_names_the_parameter(query: dict[str, str], name: str) -> None:
    with pytest.raises(RequestValidationError) as refused:
        parse_query(query)
    assert [issue.loc for issue in refused.value.issues] == [("query", name)]


@pytest.mark.parametrize(
    "document",
    [
        {"text": "Hi ", "context_id": "a", "flush": True, "try_trigger_generation": True, "xi_api_key": "k"},
        {"text": "Hi ", "contextId": "a", "flush": True, "tryTriggerGeneration": True, "xi-api-key": "k"},
    ],
)
def test_both_spellings_are_parsed(document: dict[str, Any]) -> None:
    expected = ClientMessage("Hi ", "a", flush=True, try_trigger_generation=True, api_key="k")
    assert parse_message(json.dumps(document)) == expected


def test_first_message_is_parsed() -> None:
    document = {
        "text": " ",
        "voice_settings": {"speed": 1.1},
        "generation_config": {"chunk_length_schedule": [50, 500]},
        "pronunciation_dictionary_locators": [],
    }
    assert parse_message(json.dumps(document)) == ClientMessage(
        " ", voice_settings={"speed": 1.1}, chunk_length_schedule=(50, 500), pronunciation_dictionary_locators=[]
    )


def test_closing_messages_are_parsed() -> None:
    assert parse_message('{"context_id":"a","close_context":true}') == ClientMessage(context_id="a", close_context=True)
    assert parse_message('{"close_socket":true}') == ClientMessage(close_socket=True)
    assert parse_message('{"text":""}') == ClientMessage("")


@pytest.mark.parametrize(
    ("frame", "loc"),
    [
        ("", ("body",)),
        ("[]", ("body",)),
        ('{"text": 1}', ("body", "text")),
        ('{"contextId": 1}', ("body", "contextId")),
        ('{"flush": "yes"}', ("body", "flush")),
        ('{"voice_settings": []}', ("body", "voice_settings")),
        (
            '{"generation_config": {"chunk_length_schedule": []}}',
            ("body", "generation_config", "chunk_length_schedule"),
        ),
        (
            '{"generation_config": {"chunk_length_schedule": 50}}',
            ("body", "generation_config", "chunk_length_schedule"),
        ),
        (
            '{"generation_config": {"chunk_length_schedule": [true]}}',
            ("body", "generation_config", "chunk_length_schedule"),
        ),
    ],
)
def test_invalid_message_names_the_field(frame: str, loc: tuple[str, ...]) -> None:
    with pytest.raises(RequestValidationError) as refused:
        parse_message(frame)
    assert refused.value.issues[0].loc == loc


@given(st.text())
def test_any_frame_is_parsed_or_refused(frame: str) -> None:
    with contextlib.suppress(RequestValidationError):
        parse_message(frame)


def test_audio_message_is_encoded_as_the_server_does() -> None:
    times = {"chars": ["H", "i"], "charStartTimesMs": [0, 10], "charDurationsMs": [10, 90]}
    assert json.loads(encode_message(AudioMessage(b"abc", TIMES, TIMES))) == {
        "audio": "YWJj",
        "alignment": times,
        "normalizedAlignment": times,
        "isFinal": None,
    }
    assert json.loads(encode_message(AudioMessage(b"", context_id="a"))) == {
        "audio": "",
        "alignment": None,
        "normalizedAlignment": None,
        "contextId": "a",
    }


def test_documented_spelling_differs() -> None:
    document = json.loads(encode_message(AudioMessage(b"abc", TIMES, None, "a"), FieldSpelling.DOCUMENTED))
    assert document["context_id"] == "a"
    assert document["alignment"]["charsDurationsMs"] == [10, 90]
    assert json.loads(encode_message(FinalMessage("a"), FieldSpelling.DOCUMENTED)) == {
        "is_final": True,
        "context_id": "a",
    }


def test_two_spellings_can_be_mixed() -> None:
    document = json.loads(encode_message(AudioMessage(b"abc", TIMES, None, "a"), FieldSpelling.MIXED))
    assert document["context_id"] == "a"
    assert document["alignment"]["charDurationsMs"] == [10, 90]
    assert json.loads(encode_message(FinalMessage("a"), FieldSpelling.MIXED)) == {"isFinal": True, "context_id": "a"}


def test_final_message_is_encoded_as_the_server_does() -> None:
    assert json.loads(encode_message(FinalMessage("a"))) == {"isFinal": True, "contextId": "a"}
    assert json.loads(encode_message(FinalMessage())) == {
        "audio": None,
        "alignment": None,
        "normalizedAlignment": None,
        "isFinal": True,
    }


def test_error_message_is_encoded_as_the_server_does() -> None:
    document = json.loads(encode_message(ErrorMessage("invalid_api_key", "Invalid API key")))
    assert document == {"message": "Invalid API key", "error": "invalid_api_key", "code": 1008}


@given(st.lists(st.floats(0.0, 0.5), min_size=1, max_size=20))
def test_rounded_times_leave_no_gap(lengths: list[float]) -> None:
    edges = [sum(lengths[:count]) for count in range(len(lengths) + 1)]
    times = Alignment(tuple("a" * len(lengths)), tuple(edges[:-1]), tuple(edges[1:]))
    alignment = json.loads(encode_message(AudioMessage(b"", times)))["alignment"]
    starts, lasts = alignment["charStartTimesMs"], alignment["charDurationsMs"]
    assert [start + length for start, length in zip(starts, lasts, strict=True)][:-1] == starts[1:]
    assert all(abs(start - 1000 * edge) <= 0.5 for start, edge in zip(starts, edges, strict=False))


ALIGNMENTS = st.lists(st.tuples(st.text(min_size=1, max_size=1), st.integers(0, 500)), min_size=1, max_size=9).map(
    lambda characters: Alignment(
        tuple(character for character, _ in characters),
        tuple(sum(each for _, each in characters[:number]) / 1000 for number in range(len(characters))),
        tuple(sum(each for _, each in characters[: number + 1]) / 1000 for number in range(len(characters))),
    )
)


@given(st.binary(min_size=1, max_size=99), ALIGNMENTS | st.none(), st.text(max_size=9), st.sampled_from(FieldSpelling))
def test_client_reads_what_a_server_sends_in_every_spelling(
    audio: bytes, alignment: Alignment | None, context: str, spelling: FieldSpelling
) -> None:
    (message,) = parse_server_message(encode_message(AudioMessage(audio, alignment, alignment, context), spelling))
    assert isinstance(message, AudioMessage)
    assert (message.audio, message.context_id) == (audio, context)
    if alignment:
        assert message.alignment == message.normalized
        assert message.alignment is not None
        assert message.alignment.characters == alignment.characters
        assert message.alignment.starts == pytest.approx(alignment.starts, abs=0.001)
        assert message.alignment.ends == pytest.approx(alignment.ends, abs=0.001)
    for other in (FinalMessage(context), ErrorMessage("quota_exceeded", "No.", 1008, context)):
        assert parse_server_message(encode_message(other, spelling)) == (other,)


def test_one_message_may_be_audio_and_final() -> None:
    messages = parse_server_message('{"audio":"AAAA","isFinal":true,"contextId":"a"}')
    assert messages == (AudioMessage(bytes(3), None, None, "a"), FinalMessage("a"))
    assert parse_server_message('{"isFinal":false}') == ()
    assert parse_server_message("{}") == ()


@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_anything_else_is_a_value_error(frame: str) -> None:
    with contextlib.suppress(ValueError):
        parse_server_message(frame)


@given(
    st.builds(
        ClientMessage,
        text=st.none() | st.text(),
        context_id=st.none() | st.text(min_size=1),
        flush=st.booleans(),
        close_context=st.booleans(),
        close_socket=st.booleans(),
        voice_settings=st.none() | st.just({"speed": 1.1}),
        chunk_length_schedule=st.none() | st.just((50.0, 120.0)),
        api_key=st.none() | st.just("key"),
        pronunciation_dictionary_locators=st.none() | st.just([{"pronunciation_dictionary_id": "d"}]),
    )
)
def test_server_reads_what_a_client_sends(message: ClientMessage) -> None:
    assert parse_message(encode_client_message(message)) == message


@given(
    st.builds(
        DialogueMessage,
        context_id=st.none() | st.text(min_size=1),
        inputs=st.lists(st.builds(DialogueLine, st.text(), st.text(), st.booleans()), max_size=3).map(tuple),
        voices=st.none() | st.lists(st.text(), min_size=1, max_size=2),
        voice_settings=st.none() | st.just({"stability": 0.5}),
        flush=st.booleans(),
        keep_alive=st.booleans(),
        close_context=st.booleans(),
        close_socket=st.booleans(),
        api_key=st.none() | st.just("key"),
    )
)
def test_server_of_dialogues_reads_what_a_client_sends(message: DialogueMessage) -> None:
    assert parse_dialogue_message(encode_dialogue_message(message)) == message


@pytest.mark.parametrize(
    "frame",
    ["", "[]", '{"inputs": 1}', '{"inputs": [1]}', '{"inputs": [{"text": "a"}]}', '{"voices": "a"}', '{"flush": 1}'],
)
def test_invalid_message_of_a_dialogue_is_refused(frame: str) -> None:
    with pytest.raises(RequestValidationError):
        parse_dialogue_message(frame)


@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(0, 200_000),
    count=st.integers(0, 5000),
    spoken=st.sampled_from([0.0, 0.1, 1.0, 2.5]),
    context=st.none() | st.text(max_size=10),
    spelling=st.sampled_from(FieldSpelling),
)
def test_long_message_is_parsed_in_steps_to_the_same(
    size: int, count: int, spoken: float, context: str | None, spelling: FieldSpelling
) -> None:
    sent, other = evenly_timed("é" * count), evenly_timed("x" * int(count * spoken))
    text = encode_message(AudioMessage(random.Random(size).randbytes(size), sent, other, context), spelling)
    (whole,) = parse_server_message(text) or (AudioMessage(b"", context_id=context),)
    assert isinstance(whole, AudioMessage)
    steps = list(parse_long_message(text))
    assert len(steps) >= len(text) // (40 * 1024)
    pieces = [step for step in steps if isinstance(step, AudioMessage)]
    assert b"".join(piece.audio for piece in pieces) == whole.audio
    assert joined([piece.alignment for piece in pieces]) == joined([whole.alignment])
    assert joined([piece.normalized for piece in pieces]) == joined([whole.normalized])
    assert {piece.context_id for piece in pieces} <= {context}
    assert max((len(piece.audio) for piece in pieces), default=0) <= 32 * 1024
    assert max((len(each.characters) for piece in pieces if (each := piece.alignment)), default=0) <= 1024
    # An alignment that is left out of a message is taken from the other one: a piece must not look like that.
    assert sent is None or all(piece.alignment is not None for piece in pieces if piece.normalized)


def evenly_timed(text: str) -> Alignment | None:
    return Alignment.spread(text, len(text) / 20) if text else None


def joined(alignments: list[Alignment | None]) -> Alignment:
    return Alignment.joined([(0.0, each) for each in alignments if each])


@pytest.mark.parametrize(
    "text",
    [
        '{"audio": 5}',
        '{"audio": "QUJ"}',
        '{"audio": "QUJD!"}',
        '{"alignment": "soon"}',
        '{"alignment": {"chars": ["a"], "charStartTimesMs": [1]}}',
        '{"alignment": {"chars": ["a"], "charStartTimesMs": [1, 2], "charDurationsMs": [1]}}',
        '{"alignment": {"chars": ["a"], "charStartTimesMs": [1e999], "charDurationsMs": [1]}}',
        '{"alignment": 5, "alignment": {"chars": ["a"]}}',
        "[1]",
        "nothing",
    ],
)
def test_malformed_long_message_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(parse_long_message(text))


def test_long_message_may_be_an_error_or_the_end() -> None:
    noise = "x" * 300_000
    messages = [each for each in parse_long_message(f'{{"noise": ["{noise}", {{}}], "isFinal": true}}') if each]
    assert messages == [FinalMessage()]
    (error,) = filter(None, parse_long_message(json.dumps({"error": "quota", "message": noise, "code": 1008})))
    assert isinstance(error, ErrorMessage)
    assert (error.error, error.code, len(error.message)) == ("quota", 1008, 32 * 1024)
