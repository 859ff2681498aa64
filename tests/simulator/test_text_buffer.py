"""Generation schedule of websockets, from text alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.simulator.websocket.session import TextBuffer

SENTENCE = "Exactly fifty characters of text, with the blank. "  # 50


def test_first_text_is_taken_at_120_characters() -> None:
    buffer = TextBuffer()
    assert len(SENTENCE) == 50
    assert [buffer.take(SENTENCE) for _ in range(2)] == ["", ""]
    assert buffer.take("It is the last twenty") == SENTENCE * 2 + "It is the last "
    assert buffer.take("", flush=True) == "twenty"


def test_next_texts_follow_the_schedule() -> None:
    buffer = TextBuffer()
    spoken = [bool(buffer.take("ten chars ")) for _ in range(12 + 16 + 25 + 29 + 29)]
    assert [number for number, text in enumerate(spoken, 1) if text] == [12, 28, 53, 82, 111]


def test_flush_does_not_wait() -> None:
    buffer = TextBuffer()
    assert buffer.take("Hi", flush=True) == "Hi"
    assert buffer.take("", flush=True) == ""


def test_trigger_waits_for_50_characters() -> None:
    buffer = TextBuffer()
    assert buffer.take(SENTENCE[:40], trigger=True) == ""
    assert buffer.take(SENTENCE[40:], trigger=True) == SENTENCE


def test_auto_mode_does_not_wait() -> None:
    assert TextBuffer(auto_mode=True).take("a") == "a"


def test_text_without_spaces_is_taken() -> None:
    assert TextBuffer((50,)).take("長" * 50) == "長" * 50


@pytest.mark.parametrize("blank", [" ", "", "\n"])
def test_keepalive_spaces_are_not_text(blank: str) -> None:
    buffer = TextBuffer((50,))
    assert [buffer.take(blank) for _ in range(200)] == [""] * 200
    assert buffer.take("Hi ") == ""
    assert [buffer.take(blank) for _ in range(200)] == [""] * 200
    assert buffer.take("you", flush=True) == "Hi you"


@given(st.lists(st.tuples(st.text("ab ", max_size=60), st.booleans(), st.booleans())))
def test_every_word_is_taken_once_in_order(inputs: list[tuple[str, bool, bool]]) -> None:
    buffer = TextBuffer()
    spoken = [buffer.take(text, trigger=trigger, flush=flush) for text, trigger, flush in inputs]
    spoken.append(buffer.take("", flush=True))
    assert "".join("".join(spoken).split()) == "".join("".join(text for text, _, _ in inputs).split())
