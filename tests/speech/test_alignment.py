"""Alignment of characters with audio, and its words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.speech.alignment import Alignment, Word

DURATIONS = st.floats(0, 1e5)


@given(st.text(max_size=80), DURATIONS)
def test_characters_share_the_time_evenly(text: str, duration: float) -> None:
    alignment = Alignment.spread(text, duration)
    assert alignment.text == text
    assert not alignment.exact
    assert alignment.starts[1:] == alignment.ends[:-1]
    if text:
        assert alignment.starts[0] == 0.0
        assert alignment.ends[-1] == pytest.approx(duration)


@given(st.text(" a\n\t\u00a0\u3000\u2028\x1cb", max_size=40))
def test_words_are_separated_by_blanks(text: str) -> None:
    alignment = Alignment.spread(text, 1.0)
    words = alignment.words()
    assert [word.text for word in words] == text.split()
    assert all(text[word.begin : word.end] == word.text for word in words)


def test_word_lasts_from_its_first_start_to_its_last_end() -> None:
    alignment = Alignment(tuple("Hi  you"), (0.0, 0.1, 0.3, 0.35, 0.4, 0.5, 0.6), (0.1, 0.3, 0.35, 0.4, 0.5, 0.6, 0.9))
    assert alignment.words() == [Word("Hi", 0, 2, 0.0, 0.3), Word("you", 4, 7, 0.4, 0.9)]


def test_empty_alignment_has_no_words() -> None:
    assert Alignment().words() == []
    assert Alignment.spread(" \n ", 1.0).words() == []


@given(st.lists(st.tuples(st.text(max_size=20), st.floats(0.1, 10)), max_size=5))
def test_joined_pieces_are_one_text_with_increasing_times(pieces: list[tuple[str, float]]) -> None:
    offset, laid = 0.0, []
    for text, duration in pieces:
        laid.append((offset, Alignment.spread(text, duration)))
        offset += duration
    whole = Alignment.joined(laid)
    assert whole.text == "".join(text for text, _ in pieces)
    assert list(whole.starts) == sorted(whole.starts)
    assert len(whole.ends) == len(whole.text)


def test_joined_piece_is_moved_to_its_offset() -> None:
    alignment = Alignment(("a",), (0.25,), (0.5,))
    whole = Alignment.joined([(0.0, alignment), (10.0, alignment)])
    assert (whole.starts, whole.ends) == ((0.25, 10.25), (0.5, 10.5))


def test_one_inexact_piece_makes_the_whole_inexact() -> None:
    exact, guessed = Alignment(("a",), (0.0,), (1.0,)), Alignment.spread("b", 1.0)
    assert Alignment.joined(iter([(0.0, exact), (1.0, exact)])).exact
    assert not Alignment.joined([(0.0, exact), (1.0, guessed)]).exact


def test_piece_without_characters_does_not_make_the_whole_inexact() -> None:
    exact = Alignment(("a",), (0.0,), (1.0,))
    assert Alignment.joined([(0.0, exact), (1.0, Alignment.spread("", 0.5))]).exact


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_times_that_are_not_finite_are_refused(time: float) -> None:
    with pytest.raises(ValueError, match="finite times in seconds"):
        Alignment(("a",), (0.0,), (time,))


def test_times_that_do_not_match_the_characters_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 characters, 1 starts and 2 ends"):
        Alignment(("a", "b"), (0.0,), (0.5, 1.0))
