"""Ledger of a turn: what is resumed from, and what was heard at a second, whatever the history."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import Alignment, AudioFormat, Word
from steadyvoice.audio.word_tones import synthesize_tones
from steadyvoice.service.conversation.ledger import GrowingText, TurnLedger, WordCursor
from steadyvoice.service.conversation.word_estimate import PauseDetector, spread_words
from steadyvoice.speech.errors import TTSTextTooLongError

TEXT = "It rains today, and we stay at home."


def no_pauses() -> PauseDetector:
    return PauseDetector(AudioFormat.parse("pcm_8000"))


def spoken_ledger(text: str = TEXT, *, exact: bool = True, start: float = 0.0) -> TurnLedger:
    """Return the ledger of a turn that one provider has spoken in word tones."""
    ledger = TurnLedger()
    ledger.push(text)
    _, times = synthesize_tones(text, sample_rate=8000)
    passage = ledger.begin_passage("tone", 0, len(text), start)
    if exact:
        passage.words += WordCursor(text, 0, len(text)).take(times, start)
    else:
        ledger.estimate(passage, times.ends[-1], no_pauses())
    ledger.seconds = start + times.ends[-1]
    ledger.finish_passage(passage, len(text), ledger.seconds, complete=True)
    return ledger


@given(st.floats(0, 20))
def test_heard_is_right_to_the_word_where_times_are_exact(played: float) -> None:
    end, exact = spoken_ledger().heard(played)
    _, times = synthesize_tones(TEXT, sample_rate=8000)
    words = [word for word in times.words() if word.stop - 0.02 <= played]
    assert exact
    assert TEXT[:end].split() == [word.text for word in words]


@given(st.floats(0, 20))
def test_estimate_is_off_by_two_words_at_most(played: float) -> None:
    end, _ = spoken_ledger(exact=False).heard(played)
    _, times = synthesize_tones(TEXT, sample_rate=8000)
    words = [word for word in times.words() if word.stop <= played]
    assert abs(len(TEXT[:end].split()) - len(words)) <= 2


@given(st.lists(st.floats(0, 20), min_size=2, max_size=5))
def test_more_is_heard_the_longer_it_plays(moments: list[float]) -> None:
    ledger = spoken_ledger()
    ends = [ledger.heard(played)[0] for played in sorted(moments)]
    assert ends == sorted(ends)


def test_nothing_of_a_passage_is_heard_before_its_audio_begins() -> None:
    ledger = spoken_ledger("It rains. ")
    before = ledger.seconds
    ledger.push("We walk home.")
    passage = ledger.begin_passage("other", 10, 23, before)
    ledger.estimate(passage, 2.0, no_pauses())
    ledger.seconds += 0.5
    assert ledger.heard(before) == (10, True)
    assert ledger.heard(99.0)[0] < 23  # no more than was delivered
    assert ledger.heard(99.0)[1] is False


def test_blank_behind_the_last_word_is_heard_with_it() -> None:
    ledger = spoken_ledger("It rains.")
    ledger.push(" ")
    assert ledger.heard(99.0) == (10, True)
    assert ledger.heard(0.0) == (0, True)
    ledger.push("We stay.")
    assert ledger.heard(99.0) == (9, True)


def test_broken_passage_that_is_repeated_counts_its_words_once() -> None:
    ledger = TurnLedger()
    ledger.push("It rains and it pours.")
    first = ledger.begin_passage("a", 0, 22, 0.0)
    ledger.estimate(first, 2.0, no_pauses())
    ledger.seconds = 1.0
    ledger.finish_passage(first, 22, 1.0, complete=False)
    again = ledger.begin_passage("b", 0, 22, 1.0)
    ledger.estimate(again, 2.0, no_pauses())
    ledger.seconds = 3.0
    ledger.finish_passage(again, 22, 3.0, complete=True)
    heard_of_first = ledger.heard(1.0)[0]
    assert 0 < heard_of_first < 22
    assert ledger.heard(1.1)[0] == heard_of_first  # what was heard stays heard
    assert ledger.heard(3.0)[0] == 22


def test_marks_are_reached_in_order_once_their_text_is_delivered() -> None:
    ledger = TurnLedger()
    ledger.push("One. ")
    first = ledger.flush()
    ledger.push("Two.")
    second, third = ledger.flush(), ledger.flush()
    assert list(ledger.delivered_to(3)) == []
    assert list(ledger.delivered_to(4)) == [first]  # a blank has no audio
    assert list(ledger.delivered_to(9)) == [second, third]
    assert list(ledger.delivered_to(9)) == []


def test_text_is_bounded() -> None:
    ledger = TurnLedger(10)
    ledger.push("0123456789")
    with pytest.raises(TTSTextTooLongError, match="max_text_characters"):
        ledger.push("a")
    assert ledger.text == "0123456789"


@given(st.text(max_size=60), st.floats(0, 10), st.floats(0, 10))
def test_spread_words_cover_the_time_and_the_text(text: str, start: float, length: float) -> None:
    words = list(spread_words(text, 0, start, start + length))
    assert [word.text for word in words] == [text[word.begin : word.end] for word in words] == text.split()
    assert all(not word.exact for word in words)
    assert all(a.stop == pytest.approx(b.start) for a, b in pairwise(words))
    if words:
        assert words[-1].stop == pytest.approx(start + length, abs=1e-6)


@given(st.lists(st.integers(0, 40), max_size=8))
def test_cursor_yields_each_word_once_however_the_times_come(cuts: list[int]) -> None:
    times = Alignment.spread(TEXT, 3.0, exact=True)
    boundaries = [word.begin for word in times.words()]
    cursor, found = WordCursor(f"  {TEXT}", 2, len(TEXT) + 2), list[Word]()
    for cut in [*sorted(cut % len(boundaries) for cut in cuts), len(boundaries)]:
        count = boundaries[cut] if cut < len(boundaries) else len(TEXT)
        found += cursor.take(Alignment(times.characters[:count], times.starts[:count], times.ends[:count]), 1.0)
    assert [word.text for word in found] == TEXT.split()
    assert [word.begin for word in found] == [begin + 2 for begin in boundaries]
    assert all(a.stop <= b.start for a, b in pairwise(found))


def test_cursor_finds_its_place_when_the_vendor_leaves_out_blanks_and_markup() -> None:
    text = 'It <break time="1s"/> rains now.'
    times = Alignment(("It", "rains", " ", "now", "."), (0.0, 1.3, 1.6, 1.7, 1.9), (0.3, 1.6, 1.7, 1.9, 2.0))
    words = WordCursor(text, 0, len(text)).take(times, 0.0)
    assert [(word.text, word.start, word.stop) for word in words] == [
        ("It", 0.0, 0.3),
        ("rains", 1.3, 1.6),
        ("now.", 1.7, 2.0),
    ]


@given(st.lists(st.text(max_size=30), max_size=20), st.integers(0, 300), st.integers(0, 300))
def test_growing_text_is_the_text(pieces: list[str], begin: int, end: int) -> None:
    text, whole = GrowingText(), "".join(pieces)
    for piece in pieces:
        text.append(piece)
    assert (len(text), text[begin:end], text[begin:], text[:end]) == (
        len(whole),
        whole[begin:end],
        whole[begin:],
        whole[:end],
    )


class CountingText(GrowingText):
    """Text that counts the characters of its slices."""

    def __init__(self) -> None:
        super().__init__()
        self.copied = 0

    def __getitem__(self, place: slice) -> str:
        found = super().__getitem__(place)
        self.copied += len(found)
        return found


@pytest.mark.parametrize("flushes", [False, True])
def test_work_for_a_token_does_not_grow_with_the_turn(flushes: bool) -> None:
    copied = dict[int, float]()
    for sentences in (20, 400):
        ledger = TurnLedger()
        ledger.clean = text = CountingText()
        for word in ["It", "rains", "today,", "and", "we", "all", "stay", "at", "home."] * sentences:
            ledger.push(f"{word} ")
            if flushes:
                ledger.flush()
            while (end := ledger.next_end(first=ledger.sent == 0, limit=400, language="en")) is not None:
                ledger.sent = end
                list(ledger.delivered_to(end))
        copied[sentences] = text.copied / len(text)
    assert copied[400] < 1.1 * copied[20]


def test_long_text_that_is_pushed_at_once_is_looked_at_once() -> None:
    ledger = TurnLedger()
    ledger.clean = text = CountingText()
    ledger.push("It rains today, and we all stay at home. " * 2000)
    mark = ledger.flush()
    reached = list[int]()
    while ledger.sent < ledger.length:
        end = ledger.next_end(first=False, limit=400, language="en")
        assert end is not None
        ledger.sent = end
        reached += ledger.delivered_to(end)
    assert reached == [mark]
    assert text.copied < 40 * len(text)
