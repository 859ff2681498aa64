"""Where another voice may go on."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.speech.words import word_begins


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It rains.", ["It ", "rains."]),
        ("  It\n\nrains \t", ["  It\n\n", "rains \t"]),
        ("don't – stop", ["don't ", "– ", "stop"]),
        ("私は東京に行きます。雨です。", ["私は", "東京に", "行きます。", "雨です。"]),
        ("そのお金を使う", ["そのお金を", "使う"]),
        ("今天下雨，我们回家。", ["今天下雨，", "我们回家。"]),
        ("“Stop!” he said", ["“Stop!” ", "he ", "said"]),
        ("ฝนตก หนัก", ["ฝนตก ", "หนัก"]),
        ("one", ["one"]),
    ],
)
def test_a_word_is_what_a_voice_can_begin_with(text: str, words: list[str]) -> None:
    places = [0, *word_begins(text), len(text)]
    assert [text[a:b] for a, b in pairwise(places)] == words


@given(st.text())
def test_no_word_begins_with_a_blank_and_none_is_empty(text: str) -> None:
    places = list(word_begins(text))
    assert places == sorted(set(places))
    assert all(text[:place].strip() and not text[place].isspace() for place in places)


@given(st.lists(st.text("abc.", min_size=1, max_size=5), min_size=1), st.sampled_from([" ", "\n", "  "]))
def test_words_between_blanks_are_all_found(words: list[str], blank: str) -> None:
    assert len(list(word_begins(blank.join(words)))) == len(words) - 1
