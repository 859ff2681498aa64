"""Cleaning of texts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steadyvoice.speech.text import clean_text, count_letters_and_digits, hide_quotations


@given(st.text(max_size=200))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff"), max_size=100))
@example("\u200b")
def test_cleaning_changes_only_the_ends_of_ordinary_text(text: str) -> None:
    visible = any(unicodedata.category(c) != "Cf" and not c.isspace() for c in text)
    assert clean_text(text) == (text.strip() if visible else "")


@given(st.text(max_size=200))
def test_cleaned_text_can_be_sent(text: str) -> None:
    clean = clean_text(text)
    clean.encode()
    assert all(unicodedata.category(c) != "Cc" or c in "\n\t" for c in clean)
    assert "\ufeff" not in clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  Hello \n", "Hello"),
        ("\ufeffHello", "Hello"),
        ("a\x00b\x07c", "abc"),
        ("one\r\ntwo", "one\ntwo"),
        ("one\rtwo", "one\ntwo"),
        ("one\x0ctwo\x85three", "one\ntwo\nthree"),
        ("half \ud83d a pair", "half  a pair"),
        ("👩\u200d👧 stays", "👩\u200d👧 stays"),
        ("tab\tstays", "tab\tstays"),
        ("\x00 \ufeff\r", ""),
    ],
)
def test_control_characters_are_removed(text: str, clean: str) -> None:
    assert clean_text(text) == clean


@pytest.mark.parametrize(("text", "count"), [("", 0), ("-----", 0), ("Hi, 5!", 3), ("今日は。", 3), ("👍", 0)])
def test_letters_and_digits_take_time_to_say(text: str, count: int) -> None:
    assert count_letters_and_digits(text) == count


@pytest.mark.parametrize(
    ("message", "text", "hidden"),
    [
        ("cannot speak 'My PIN is 4711.'", "My PIN is 4711.", "cannot speak '[text]'"),
        ("HTTP 400: my doctor said that I…", "Well, my doctor said that I am ill.", "HTTP 400:[text]…"),
        ("input '4711' is too short", "4711", "input '[text]' is too short"),
        ("“4711”", " 4711 ", "“[text]”"),
        ("two lines: first of all, second of all", "first of all,\n second of all", "two lines: [text]"),
        ("twice: I was there then, I was there then", "I was there then", "twice: [text], [text]"),
        ("HTTP 500 internal server error", "internal", "HTTP 500 internal server error"),
        ("HTTP 500", "", "HTTP 500"),
    ],
)  # fmt: skip
def test_quotations_of_a_text_are_hidden(message: str, text: str, hidden: str) -> None:
    assert hide_quotations(message, text) == hidden


@given(st.text("abc \n", max_size=60), st.text("abcd'", max_size=20), st.data())
def test_no_message_quotes_twelve_characters_of_a_text(text: str, before: str, data: st.DataObject) -> None:
    words = " ".join(text.split())
    begin = data.draw(st.integers(0, len(words)))
    hidden = hide_quotations(f"{before}{words[begin:]}{before}", text)
    assert not any(hidden[at : at + 12] in words for at in range(len(hidden) - 11))
    assert hidden.startswith(before) or len(words) >= 12 or f"'{words}'" in f"{before}{words[begin:]}{before}"


def test_long_message_is_cut() -> None:
    assert hide_quotations("x" * 2_000, "Good morning.") == "x" * 1_000 + "…"
