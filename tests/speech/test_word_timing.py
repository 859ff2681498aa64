"""Word boundaries, and the times of words by a vendor's timestamps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.duration_estimate import FASTEST_ORDINARY_SHARE
from steadyvoice.speech.markup import MarkedText, Markup, strip_markup
from steadyvoice.speech.word_timing import WordBoundary, WordTiming, word_boundaries


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
def test_word_boundaries_are_places_where_a_voice_can_begin(text: str, words: list[str]) -> None:
    places = [0, *word_boundaries(text), len(text)]
    assert [text[a:b] for a, b in pairwise(places)] == words


@given(st.text())
def test_words_are_not_empty_and_begin_with_no_blank(text: str) -> None:
    places = list(word_boundaries(text))
    assert places == sorted(set(places))
    assert all(text[:place].strip() and not text[place].isspace() for place in places)


@given(st.lists(st.text("abc.", min_size=1, max_size=5), min_size=1), st.sampled_from([" ", "\n", "  "]))
def test_words_between_blanks_are_all_found(words: list[str], blank: str) -> None:
    assert len(list(word_boundaries(blank.join(words)))) == len(words) - 1


TEXT = "It rains, and the old man snores."
EVEN = Alignment.spread(TEXT, 3.3)  # a tenth of a second each
texts = st.lists(st.text("ab'é,.雨はお", min_size=1, max_size=6), min_size=1, max_size=12).map(" ".join)


def word_timing_of(text: str, *alignments: Alignment) -> WordTiming:
    timing = WordTiming(text)
    for alignment in alignments:
        timing.take(alignment)
    return timing


def part(alignment: Alignment, begin: int, end: int | None = None) -> Alignment:
    return Alignment(alignment.characters[begin:end], alignment.starts[begin:end], alignment.ends[begin:end])


def test_boundary_is_returned_once_the_pause_behind_the_word_has_arrived() -> None:
    timing = word_timing_of(TEXT, EVEN)
    assert timing.last_boundary(0.29) == WordBoundary()
    mark = timing.last_boundary(0.31)
    assert mark.character == 3
    assert [mark.end, mark.start] == pytest.approx([0.2, 0.3])
    assert timing.last_boundary(0.99).character == 3
    assert timing.last_boundary(1.01).character == len("It rains, ")


def test_last_word_has_no_boundary_before_the_end() -> None:
    assert word_timing_of(TEXT, EVEN).last_boundary(100.0).character == TEXT.index("snores")


def test_audio_before_its_timestamps_has_no_boundary() -> None:
    timing = WordTiming(TEXT)
    assert timing.last_boundary(3.3) == WordBoundary()
    timing.take(part(EVEN, 0, 12))
    assert timing.last_boundary(3.3).character == len("It rains, ")
    timing.take(part(EVEN, 12))
    assert timing.last_boundary(3.3).character == TEXT.index("snores")


@given(texts, st.data())
def test_boundaries_increase_however_timestamps_are_grouped(text: str, data: st.DataObject) -> None:
    alignment = _somehow_written(text, data)
    timing = WordTiming(text)
    places = {0, *word_boundaries(text)}
    seen = WordBoundary()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(alignment.characters)), max_size=4)))
    for a, b in pairwise([0, *cuts, len(alignment.characters)]):
        timing.take(part(alignment, a, b))
        now = timing.last_boundary(data.draw(st.floats(0, len(text) / 10)))
        assert timing.trusted
        assert now.character in places
        assert now.character >= seen.character
        assert now.end <= now.start
        seen = now
    assert timing.shortfall(len(text) / 10) <= 1e-9
    assert "".join(timing.times().characters).split() == text.split()


def _somehow_written(text: str, data: st.DataObject) -> Alignment:
    """Generate evenly spread timestamps, with some characters merged into one entry and some blanks left out."""
    entries: list[tuple[str, float, float]] = []
    for place, character in enumerate(text):
        start, end = place / 10, (place + 1) / 10
        habit = data.draw(st.sampled_from(["own", "own", "own", "merged", "left out"]))
        if habit == "merged" and entries and entries[-1][2] == start:
            before, first, _ = entries.pop()
            entries.append((before + character, first, end))
        elif habit != "left out" or not character.isspace():
            entries.append((character, start, end))
    characters, starts, ends = zip(*entries, strict=True)
    return Alignment(characters, starts, ends)


class SteppedWordTiming(WordTiming):
    """The same, one character at a time."""

    def _take_exact(self, alignment: Alignment) -> bool:
        return False


@given(texts, st.data())
def test_whole_lists_of_times_are_followed_as_single_characters_are(text: str, data: st.DataObject) -> None:
    alignment = _somehow_written(text, data)
    moved = data.draw(st.sampled_from([0.0, 0.0, 0.04, 0.2]))
    place = data.draw(st.integers(0, len(alignment.characters) - 1))
    shifts = [-moved if each == place else 0.0 for each in range(len(alignment.characters))]
    slow_down = data.draw(st.sampled_from([1.0, 1.0, 0.01, 0.08]))
    starts = tuple(max(0.0, slow_down * start + shift) for start, shift in zip(alignment.starts, shifts, strict=True))
    ends = tuple(max(0.0, slow_down * end + shift) for end, shift in zip(alignment.ends, shifts, strict=True))
    alignment = Alignment(alignment.characters, starts, ends)
    whole, stepped = WordTiming(text), SteppedWordTiming(text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(alignment.characters)), max_size=4)))
    for a, b in pairwise([0, *cuts, len(alignment.characters)]):
        for timing in (whole, stepped):
            timing.take(part(alignment, a, b))
        seconds = data.draw(st.floats(0, len(text) / 10))
        for tell in (
            lambda timing, time=seconds: timing.last_boundary(time),
            lambda timing: (timing.trusted, timing.timed, timing.complete, timing.covers_text),
            lambda timing: timing.times(),
            lambda timing, time=seconds: (timing.shortfall(time), timing.tolerated_shortfall),
        ):
            assert tell(whole) == tell(stepped)


@given(texts, st.data())
def test_audio_cut_anywhere_contains_every_word_before_the_boundary(text: str, data: st.DataObject) -> None:
    """Check that nothing before a boundary is missing, whatever comes later: so each word is heard once."""
    times = Alignment.spread(text, len(text) / 10)
    cut = data.draw(st.floats(0, len(text) / 10))
    mark = word_timing_of(text, times).last_boundary(cut)
    assert all(end <= cut + 1e-9 for end in times.ends[: mark.character])
    following = [place for place in word_boundaries(text) if place > mark.character]
    if following:
        assert times.starts[following[0]] > cut - 1e-9


@pytest.mark.parametrize(
    "nonsense",
    [
        replace(EVEN, starts=EVEN.starts[:15] + tuple(t - 1.0 for t in EVEN.starts[15:])),
        replace(EVEN, ends=EVEN.ends[:15] + tuple(t - 1.0 for t in EVEN.ends[15:])),
        replace(EVEN, characters=(*EVEN.characters[:15], *("x" * len(EVEN.characters[15:])))),
        Alignment.joined([(0.0, part(EVEN, 0, 15)), (0.0, part(EVEN, 10))]),
    ],
)
def test_no_boundary_is_returned_behind_invalid_timestamps(nonsense: Alignment) -> None:
    timing = word_timing_of(TEXT, nonsense)
    assert not timing.trusted
    assert timing.last_boundary(100.0).character == len("It rains, and ")
    timing.take(EVEN)
    assert timing.last_boundary(100.0).character == len("It rains, and ")


def test_one_punctuation_mark_or_blank_may_replace_another() -> None:
    written = Alignment.spread('"It rains", he said.', 2.0)
    timing = word_timing_of("“It\nrains”, he said.", written)
    assert timing.trusted
    assert timing.last_boundary(2.0).character == len("“It\nrains”, he ")


def test_timestamps_behind_the_text_are_ignored() -> None:
    assert word_timing_of("It rains", Alignment.spread("It rains. Bye.", 1.0)).trusted


def test_audio_that_ends_within_the_last_word_has_a_shortfall() -> None:
    timing = word_timing_of(TEXT, EVEN)
    assert timing.shortfall(3.3) == pytest.approx(0.0)
    assert timing.shortfall(3.0) == pytest.approx(0.3)
    assert timing.tolerated_shortfall == pytest.approx(0.35)


def test_characters_without_timestamps_need_the_time_of_the_fastest_voices() -> None:
    timing = word_timing_of(TEXT, part(EVEN, 0, TEXT.index("snores")))
    assert timing.shortfall(2.5 + FASTEST_ORDINARY_SHARE * 0.075 * 6) == pytest.approx(0.0)
    assert timing.shortfall(2.6, speed=4.0) == pytest.approx(0.0), "no word takes less"
    assert timing.tolerated_shortfall == 0.0
    assert word_timing_of("...").shortfall(0.0) == 0.0


def test_each_word_without_timestamps_needs_a_minimum_of_time() -> None:
    text = "It is a b c d"
    timing = word_timing_of(text, part(Alignment.spread(text, 1.3), 0, 5))
    assert timing.shortfall(0.5) == pytest.approx(0.4)


def test_timestamps_of_words_without_duration_are_not_trusted() -> None:
    never = (0.0,) * len(TEXT)
    timing = word_timing_of(TEXT, Alignment(tuple(TEXT), never, never))
    assert not timing.trusted
    assert timing.last_boundary(100.0) == WordBoundary()


def test_extrapolated_alignment_covers_the_whole_text() -> None:
    """Check that omitted blanks are inserted, and that the rest shares the remaining audio."""
    some = [part(EVEN, begin, begin + 1) for begin in range(10) if TEXT[begin] != " "]
    filled = word_timing_of(TEXT, *some).extrapolated(5.0)
    assert filled.text == TEXT
    assert not filled.exact
    assert (filled.starts[3], filled.ends[-1]) == pytest.approx((0.3, 5.0))
    assert word_timing_of(TEXT, EVEN).extrapolated(5.0) == EVEN.joined([(0.0, replace(EVEN, exact=True))])
    assert word_timing_of(TEXT).extrapolated(5.0) == Alignment.spread(TEXT, 5.0)
    assert word_timing_of(TEXT, part(EVEN, 0, -1)).extrapolated(3.3).exact, "a full stop is not heard"


MARKED = (
    'It <phoneme alphabet="ipa" ph="r eɪ n z">rains</phoneme>, <break time="1s"/> '
    "Tom &amp; Jerry <emphasis>go</emphasis>."
)


def _timed_like(text: str, reported_text: str) -> Alignment:
    """Return timestamps with a tenth of a second for each character of the words, and none for the others."""
    marked = MarkedText(text)
    inside = (
        {place for token in marked.tokens for place in range(token.begin, token.end)}
        if reported_text == text
        else set()
    )
    now, starts, ends = 0.0, [], []
    for place in range(len(reported_text)):
        starts.append(now)
        now += 0.0 if place in inside else 0.1
        ends.append(now)
    return Alignment(tuple(reported_text), tuple(starts), tuple(ends))


@pytest.mark.parametrize("reported_text", [MARKED, strip_markup(MARKED)])
def test_markup_may_have_timestamps_or_none(reported_text: str) -> None:
    alignment = _timed_like(MARKED, reported_text)
    timing = word_timing_of(MARKED, alignment)
    assert timing.trusted
    assert timing.complete
    assert timing.last_boundary(alignment.ends[-1]).character == MARKED.index("<emphasis>")
    assert timing.shortfall(alignment.ends[-1]) == pytest.approx(0.0)


def test_markup_without_duration_does_not_end_the_trust() -> None:
    text = '<phoneme alphabet="cmu-arpabet" ph="M AE1 D IH0 S AH0 N">Madison</phoneme> is fine here.'
    timing = word_timing_of(text, _timed_like(text, text))
    assert timing.trusted
    assert timing.letters_between(0.0, 0.35) == 4


def test_timestamps_of_a_rendering_are_mapped_to_the_text() -> None:
    sent = MarkedText(MARKED).rendered(0, len(MARKED), Markup.NONE)
    timing = WordTiming(sent.text, sent)
    timing.take(Alignment.spread(sent.text, 2.8))
    assert timing.times().text == MARKED
    mark = timing.last_boundary(1.2)
    assert sent.text[: mark.character] == "It rains, "
    assert MARKED[sent.original(mark.character) :].startswith("Tom")
    assert timing.times(mark.character).text == MARKED[: sent.original(mark.character)]
    assert WordTiming(sent.text, sent).extrapolated(2.0).text == MARKED
    assert not WordTiming(sent.text, sent).extrapolated(2.0).exact


def test_no_boundary_lies_within_an_element_pronounced_as_a_whole() -> None:
    text = '<sub alias="World Wide Web">WWW</sub> and <phoneme ph="x">New York</phoneme> too'
    for performed in (Markup.NONE, Markup.SSML):
        sent = MarkedText(text).rendered(0, len(text), performed)
        timing = WordTiming(sent.text, sent)
        alignment = Alignment.spread(sent.text, 10.0)
        timing.take(alignment)
        places = [sent.original(timing.last_boundary(now / 10).character) for now in range(100)]
        assert sorted(set(places)) == [0, text.index("and"), text.index("<phoneme"), text.index("too")]
