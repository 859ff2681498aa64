"""Times of characters from the word events of local engines."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steadyvoice.providers.local_engine import EngineSpeech, audio_chunks, character_times

RATE = 22_050


def speech_with_words(seconds: float, *words: tuple[int, float]) -> EngineSpeech:
    return EngineSpeech(bytes(2 * round(seconds * RATE)), words, RATE)


def test_time_of_a_word_is_shared_by_its_characters_and_those_behind() -> None:
    alignment = character_times("ab cd", speech_with_words(2.0, (0, 0.0), (3, 1.5)))

    assert alignment.starts == pytest.approx((0.0, 0.5, 1.0, 1.5, 1.75))
    assert alignment.ends == pytest.approx((0.5, 1.0, 1.5, 1.75, 2.0))
    assert alignment.exact


def test_characters_before_the_first_word_take_the_time_before_it() -> None:
    assert character_times("“a", speech_with_words(1.0, (1, 0.25))).starts == pytest.approx((0.0, 0.25))


def test_word_reported_twice_counts_once() -> None:
    once = character_times("12 ab", speech_with_words(2.0, (0, 0.0), (3, 1.5)))

    assert character_times("12 ab", speech_with_words(2.0, (0, 0.0), (0, 0.4), (0, 0.8), (3, 1.5))) == once


events = st.lists(st.tuples(st.integers(0, 60), st.floats(0, 8)), max_size=20)


@given(st.text(max_size=50), st.floats(0.01, 5), events)
def test_times_rise_without_a_gap_for_any_report(text: str, seconds: float, words: list[tuple[int, float]]) -> None:
    speech = speech_with_words(seconds, *words)
    alignment = character_times(text, speech)

    assert alignment.text == text
    assert list(alignment.starts) == sorted(alignment.starts)
    assert alignment.starts[1:] == alignment.ends[:-1]
    if text:
        assert (alignment.starts[0], alignment.ends[-1]) == (0.0, speech.duration)


@given(st.text(max_size=50), st.floats(0.01, 5), events, st.floats(0, 1000))
@example("ab", 1.0, [(1, 1.0)], 0.0)  # a word that begins where the audio ends
def test_chunks_of_a_second_lose_nothing(
    text: str, seconds: float, words: list[tuple[int, float]], offset: float
) -> None:
    speech = speech_with_words(seconds, *words)
    pieces = list(audio_chunks(text, speech, offset))

    assert b"".join(piece.data for piece in pieces) == speech.samples
    assert "".join(piece.alignment.text for piece in pieces if piece.alignment) == text
    assert all(len(piece.data) == 2 * RATE for piece in pieces[:-1])
    starts = [start for piece in pieces if piece.alignment for start in piece.alignment.starts]
    assert starts == [offset + start for start in character_times(text, speech).starts]
