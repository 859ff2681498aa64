"""Cleaning of texts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steadyvoice.speech.text import clean_text, count_letters_and_digits


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
