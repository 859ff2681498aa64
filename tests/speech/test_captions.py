"""Captions that players accept: WebVTT (https://www.w3.org/TR/webvtt1/) and SubRip."""

from __future__ import annotations

import html
import re
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.captions import captions

Form = Literal["vtt", "srt"]

TIMES = re.compile(r"(\d{2,}):(\d\d):(\d\d)[.,](\d{3})")
TEXTS = st.text("ab <>&-.!\n\t。今\u2028\u0301", max_size=200)


@st.composite
def odd_alignments(draw: st.DrawFn) -> Alignment:
    """Generate alignments with any times in any order, as a faulty vendor might send."""
    text = draw(TEXTS)
    times = st.lists(st.floats(-1, 1e6), min_size=len(text), max_size=len(text)).map(tuple)
    return Alignment(tuple(text), draw(times), draw(times))


ALIGNMENTS = st.one_of(odd_alignments(), st.builds(Alignment.spread, TEXTS, st.floats(0, 1e5)))


def cues(written: str, form: Form) -> list[tuple[int, int, str]]:
    """Parse captions as strictly as a player: begin and end in milliseconds, and the text."""
    blocks = written.rstrip("\n").split("\n\n")
    if form == "vtt":
        assert blocks.pop(0) == "WEBVTT"
    mark = "." if form == "vtt" else ","
    read = []
    for number, block in enumerate(filter(None, blocks), start=1):
        name, times, text = block.split("\n")
        assert name == str(number)
        assert re.fullmatch(rf"\d\d+:\d\d:\d\d\{mark}\d{{3}} --> \d\d+:\d\d:\d\d\{mark}\d{{3}}", times)
        begin, end = stamps(times)
        read.append((begin, end, text))
    return read


def stamps(text: str) -> list[int]:
    return [((int(h) * 60 + int(m)) * 60 + int(s)) * 1000 + int(ms) for h, m, s, ms in TIMES.findall(text)]


@given(ALIGNMENTS, st.sampled_from(["vtt", "srt"]))
def test_cues_have_a_duration_and_begin_in_order(alignment: Alignment, form: Form) -> None:
    read = cues(captions(alignment, form), form)
    assert all(begin < end for begin, end, _ in read)
    assert [begin for begin, _, _ in read] == sorted(begin for begin, _, _ in read)


@given(ALIGNMENTS, st.sampled_from(["vtt", "srt"]))
def test_no_text_is_taken_for_a_timestamp_line(alignment: Alignment, form: Form) -> None:
    assert all("-->" not in text and text.strip() for _, _, text in cues(captions(alignment, form), form))


@given(ALIGNMENTS)
def test_every_word_is_in_the_captions_once(alignment: Alignment) -> None:
    shown = [html.unescape(re.sub(r"<[^>]*>", "", text)) for _, _, text in cues(captions(alignment), "vtt")]
    assert "".join("".join(shown).split()) == "".join(alignment.text.split())


@given(ALIGNMENTS)
def test_timestamps_within_a_cue_increase_and_stay_inside(alignment: Alignment) -> None:
    for begin, end, text in cues(captions(alignment), "vtt"):
        inside = [begin, *stamps(text), end]
        assert inside == sorted(set(inside))


def test_captions_of_a_sentence() -> None:
    assert captions(Alignment.spread("It rains. It pours & pours.", 2.7)) == (
        "WEBVTT\n\n"
        "1\n00:00:00.000 --> 00:00:00.900\nIt <00:00:00.300>rains.\n\n"
        "2\n00:00:01.000 --> 00:00:02.700\n"
        "It <00:00:01.300>pours <00:00:01.900>&amp; <00:00:02.100>pours.\n"
    )
    assert captions(Alignment.spread("It rains.", 0.9), "srt") == "1\n00:00:00,000 --> 00:00:00,900\nIt rains.\n"


def test_captions_of_no_words_are_a_valid_file() -> None:
    assert captions(Alignment()) == "WEBVTT\n"
    assert captions(Alignment(), "srt") == ""


def test_timestamps_go_beyond_an_hour_and_a_hundred_hours() -> None:
    (hour,) = cues(captions(Alignment(("a",), (3599.9996,), (3661.5,))), "vtt")
    assert hour == (3_600_000, 3_661_500, "a")
    assert "100:00:00.000 --> 100:00:01.000" in captions(Alignment(("a",), (360_000.0,), (360_001.0,)))


def test_line_holds_forty_two_characters_at_most() -> None:
    read = cues(captions(Alignment.spread("word " * 40, 40.0), "srt"), "srt")
    assert max(len(text) for _, _, text in read) <= 42
    assert [len(text.split()) for _, _, text in read] == [8] * 5
    exactly = "a" * 20 + " " + "b" * 21
    assert [text for _, _, text in cues(captions(Alignment.spread(exactly, 1.0), "srt"), "srt")] == [exactly]


def test_chinese_sentence_is_split_into_lines_without_blanks() -> None:
    text = "今天天气很好，我们去公园散步，然后去吃饭，最后回家睡觉休息一下吧。明天再说。"
    read = cues(captions(Alignment.spread(text, 38.0), "srt"), "srt")
    assert [line for _, _, line in read] == [
        "今天天气很好，我们去公园散步，然后去吃饭，",
        "最后回家睡觉休息一下吧。明天再说。",
    ]
    assert [begin // 1000 for begin, _, _ in read] == [text.index(line) for _, _, line in read]


def test_parts_of_one_word_stay_together_on_a_line() -> None:
    read = cues(captions(Alignment.spread("今" * 20 + "、" + "今" * 4 + " 今", 26.0), "srt"), "srt")
    assert [line for _, _, line in read] == ["今" * 20 + "、", "今" * 4 + " 今"]


def test_pieces_of_a_split_word_on_one_line_have_no_blank_between() -> None:
    read = cues(captions(Alignment.spread("a" * 42 + "今c", 44.0), "srt"), "srt")
    assert [line for _, _, line in read] == ["a" * 21, "a" * 21 + "今c"]


def test_word_whose_time_goes_back_is_shown_with_the_word_before() -> None:
    alignment = Alignment(tuple("a b c d"), (0.0, 1.0, 2.0, 3.0, 1.0, 4.0, 5.0), (1.0, 2.0, 3.0, 4.0, 2.0, 5.0, 6.0))
    assert [text for _, _, text in cues(captions(alignment), "vtt")] == ["a <00:00:02.000>b c <00:00:05.000>d"]


def test_arrow_in_a_text_is_replaced() -> None:
    assert cues(captions(Alignment.spread("left --> right", 1.4), "srt"), "srt") == [(0, 1400, "left → right")]


def test_long_word_of_multi_character_entries_is_left_whole() -> None:
    alignment = Alignment(("pneumonoultramicroscopic", "silicovolcanoconiosis"), (0.0, 1.0), (1.0, 2.0))
    assert cues(captions(alignment, "srt"), "srt") == [(0, 2000, alignment.text)]


@pytest.mark.parametrize("form", ["vtt", "srt"])
def test_line_break_within_an_entry_does_not_end_the_cue(form: Form) -> None:
    alignment = Alignment(("Hel", "lo\n\nthere", "!"), (0.0, 0.5, 1.0), (0.5, 1.0, 1.5))
    assert [text for _, _, text in cues(captions(alignment, form), form)] == ["Hello there!"]


def test_sentence_that_ends_in_a_quotation_mark_ends_its_line_too() -> None:
    read = cues(captions(Alignment.spread("“It rains.” She left.", 2.0), "srt"), "srt")
    assert [text for _, _, text in read] == ["“It rains.”", "She left."]


def test_unknown_caption_format_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown caption format 'ass': use 'vtt' or 'srt'"):
        captions(Alignment(), "ass")  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["vtt", "srt"])
def test_captions_show_no_markup(form: Form) -> None:
    text = '<speak>[sighs] It <emphasis>rains</emphasis>, <sub alias="you know">YK</sub> &lt;3.</speak>'
    read = cues(captions(Alignment.spread(text, 9.0), form), form)
    shown = " ".join(re.sub(r"<[\d:.]+>", "", words) for _, _, words in read)
    assert (html.unescape(shown) if form == "vtt" else shown) == "It rains, you know <3."


def test_alias_is_shown_for_the_time_of_its_element() -> None:
    text = '<sub alias="a b">c</sub> d'
    spoken = 5.0
    word = Alignment.spread(text, spoken).without_markup().words()[1]
    assert word.text == "b"
    assert word.stop == pytest.approx(spoken * text.index(" d") / len(text))


def test_captions_keep_text_that_only_looks_like_markup() -> None:
    text = "I <3 x<y>z, see [1]."
    assert [words for _, _, words in cues(captions(Alignment.spread(text, 2.0), "srt"), "srt")] == [text]
