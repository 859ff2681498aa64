"""Messages of Cartesia's websocket: a long one means the same as if it were parsed at once, but takes several steps."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice.providers.cartesia_websocket import CartesiaContext
from steadyvoice.providers.websocket.context_protocol import ContextEvent
from steadyvoice.speech.errors import TTSError

CONTEXT = CartesiaContext({}, "the-key", "cartesia")
STEP = 40 * 1024


def message(**fields: Any) -> str:
    return json.dumps({**fields, "context_id": "c1"})


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 300_000))
def test_audio_of_a_long_message_comes_in_pieces(size: int) -> None:
    data = random.Random(size).randbytes(size)
    text = message(type="chunk", data=base64.b64encode(data).decode(), done=False)
    steps = list(CONTEXT.parse_long(text))
    pieces = [step for step in steps if step]
    (whole,) = CONTEXT.parse(text)
    assert b"".join(piece.audio for piece in pieces) == whole.audio == data
    assert max(len(piece.audio) for piece in pieces) <= 32 * 1024
    assert {(piece.context_id, piece.times_apart) for piece in pieces} == {("c1", True)}
    assert len(steps) >= len(text) // STEP


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 5000))
def test_words_of_a_long_message_come_in_pieces(count: int) -> None:
    words, starts = [f"word{number}" for number in range(count)], [number / 4 for number in range(count)]
    times = {"words": words, "start": starts, "end": [start + 0.2 for start in starts]}
    text = message(type="timestamps", word_timestamps=times)
    steps = list(CONTEXT.parse_long(text))
    found = [step.alignment for step in steps if step and step.alignment]
    assert [part for each in found for part in each.characters if part != " "] == words
    assert max((len(each.characters) for each in found), default=0) <= 1024
    assert len(steps) >= len(text) // STEP


def test_long_message_may_be_an_error_the_end_or_unknown() -> None:
    noise = "x" * 300_000
    assert [each for each in CONTEXT.parse_long(message(type="done", noise=noise)) if each] == [
        ContextEvent("c1", final=True)
    ]
    (event,) = filter(None, CONTEXT.parse_long(message(type="error", error=noise, status_code=402)))
    assert isinstance(event.error, TTSError)
    assert type(event.error) is type(CONTEXT.parse(message(type="error", error="x", status_code=402))[0].error)
    assert not list(filter(None, CONTEXT.parse_long(message(type="news", noise=noise))))


MALFORMED = [
    "[1]",
    "nothing",
    "{}",
    '{"type": "chunk", "data": "QUJ"}',
    '{"type": "chunk", "data": "QUJD!"}',
    '{"type": "timestamps", "word_timestamps": {"words": ["a"], "start": [1]}}',
    '{"type": "timestamps", "word_timestamps": {"words": ["a"], "start": [1, 2], "end": [2, 3]}}',
    '{"type": "timestamps", "word_timestamps": {"words": ["a"], "start": ["soon"], "end": [2]}}',
    '{"type": "timestamps", "word_timestamps": 5}',
]


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_message_is_refused_either_way(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        CONTEXT.parse(text)
    with pytest.raises(ValueError, match=r"."):
        list(CONTEXT.parse_long(text))
