"""Captions of a spoken text, as WebVTT or SubRip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal
from unicodedata import east_asian_width

from steadyvoice.speech.alignment import Alignment, Word
from steadyvoice.speech.sentences import split_text


def captions(alignment: Alignment, form: Literal["vtt", "srt"] = "vtt") -> str:
    """Format the words, without markup, as WebVTT (https://www.w3.org/TR/webvtt1/) or SubRip captions.

    Players refuse a cue without duration, or one that begins before the cue above it: such times are moved to the next
    millisecond. Raises ValueError for another form.

    >>> print(captions(Alignment.spread("It rains.", 0.9), "srt"))
    1
    00:00:00,000 --> 00:00:00,900
    It rains.
    <BLANKLINE>
    """
    if form not in ("vtt", "srt"):
        raise ValueError(f"unknown caption format {form!r}: use 'vtt' or 'srt'")
    blocks = ["WEBVTT\n"] if form == "vtt" else []
    begin = 0
    for number, cue in enumerate(_cues(_words_that_fit(alignment.without_markup())), start=1):
        begin = max(begin, _milliseconds(cue[0].start))
        end = max(begin + 1, _milliseconds(cue[-1].stop))
        text = _vtt_text(cue, begin, end) if form == "vtt" else _srt_text(cue)
        blocks.append(f"{number}\n{_timestamp(begin, form)} --> {_timestamp(end, form)}\n{text}\n")
    return "\n".join(blocks)


_WIDTH = 42  # columns in a line of subtitles: broadcasters' habit


def _words_that_fit(alignment: Alignment) -> Iterator[Word]:
    """Split words that are longer than a line. A whole Chinese sentence is one "word", for it has no blanks."""
    for word in alignment.words():
        if _columns(word.text) <= _WIDTH or len(word.text) != word.end - word.begin:
            yield word
            continue
        begin = word.begin
        for piece in split_text(word.text, _WIDTH // 2 if _columns(word.text) > len(word.text) else _WIDTH):
            yield alignment.word(begin, begin + len(piece))
            begin += len(piece)


def _cues(words: Iterable[Word]) -> list[list[Word]]:
    """Group words into cues that fit a line of subtitles; a new sentence begins a new cue."""
    lines: list[list[Word]] = []
    columns_left = 0
    for word in words:
        needed = _columns(word.text) + 1
        if not lines or needed > columns_left or _ends_sentence(lines[-1][-1].text):
            lines.append([])
            columns_left = _WIDTH + 1
        lines[-1].append(word)
        columns_left -= needed
    return lines


def _columns(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _ends_sentence(word: str) -> bool:
    return word.rstrip("\"'”’»)]」』）").endswith((".", "!", "?", "…", "。", "！", "？"))


def _vtt_text(cue: list[Word], begin: int, end: int) -> str:
    """Format a cue whose later words have timestamps of their own, so that a player can highlight them one by one.

    Timestamps must increase and lie within the cue; a word whose time does not is shown with the word before it.
    """
    text = _escaped(cue[0].text)
    for before, word in pairwise(cue):
        start = _milliseconds(word.start)
        stamp = ""
        if begin < start < end:
            stamp, begin = f"<{_timestamp(start, 'vtt')}>", start
        text += _gap(before, word) + stamp + _escaped(word.text)
    return text


def _srt_text(cue: list[Word]) -> str:
    # SubRip has no escapes; an arrow inside the text would be taken for a line of times.
    text = cue[0].text + "".join(_gap(before, word) + word.text for before, word in pairwise(cue))
    return _one_line(text).replace("-->", "→")


def _gap(before: Word, word: Word) -> str:
    """Return the blank between two words: none if they are parts of one word that was split."""
    return "" if word.begin == before.end else " "


def _escaped(text: str) -> str:
    return _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _one_line(text: str) -> str:
    # Some vendors send several characters as one: a line break among them would end the cue.
    return " ".join(text.split())


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _timestamp(milliseconds: int, form: str) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{'.' if form == 'vtt' else ','}{thousandths:03}"
