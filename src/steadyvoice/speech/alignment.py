"""Alignment of a text with its audio: start and end of each character."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Literal
from unicodedata import east_asian_width

from steadyvoice.speech.markup import Rendering, parse_markup
from steadyvoice.speech.sentences import split_text
from steadyvoice.speech.text import count_letters_and_digits


@dataclass(frozen=True, slots=True)
class Word:
    """Word, its place in the text (`begin`, `finish`: character offsets) and in the audio (`start`, `end`: seconds)."""

    text: str
    begin: int
    finish: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """Start and end of each character of a text, in seconds from the first sample of the audio.

    `exact` is False where the times were spread evenly over the audio because the provider sent none. Raises ValueError
    for tuples of different lengths and for times that are not finite.
    """

    characters: tuple[str, ...] = ()
    starts: tuple[float, ...] = ()
    ends: tuple[float, ...] = ()
    exact: bool = True

    def __post_init__(self) -> None:
        if not len(self.characters) == len(self.starts) == len(self.ends):
            raise ValueError(
                f"an alignment has one start and one end per character, got "
                f"{len(self.characters)} characters, {len(self.starts)} starts and {len(self.ends)} ends"
            )
        if not (all(map(isfinite, self.starts)) and all(map(isfinite, self.ends))):
            raise ValueError("an alignment has finite times in seconds, got nan or infinity")

    @classmethod
    def spread(cls, text: str, duration: float, *, exact: bool = False) -> Alignment:
        """Spread `duration` seconds evenly over the characters: the best estimate without a vendor's timestamps."""
        count = len(text)
        edges = [duration * index / count for index in range(count + 1)] if count else []
        return cls(tuple(text), tuple(edges[:-1]), tuple(edges[1:]), exact)

    @property
    def text(self) -> str:
        """Text that is aligned."""
        return "".join(self.characters)

    @classmethod
    def joined(cls, pieces: Iterable[tuple[float, Alignment]]) -> Alignment:
        """Concatenate pieces, each given with the second at which its audio begins."""
        pieces = list(pieces)
        return cls(
            tuple(character for _, piece in pieces for character in piece.characters),
            tuple(offset + start for offset, piece in pieces for start in piece.starts),
            tuple(offset + end for offset, piece in pieces for end in piece.ends),
            exact=all(piece.exact for _, piece in pieces if piece.characters),
        )

    @classmethod
    def of_original(
        cls, sent: Rendering, times: Iterable[tuple[int, float, float]], *, exact: bool = True
    ) -> Alignment:
        """Map the times of a rendering to the characters of the original text: see `Rendering.spread`."""
        mapped = list(sent.spread(times))
        return cls(
            tuple(character for character, _, _ in mapped),
            tuple(start for _, start, _ in mapped),
            tuple(end for _, _, end in mapped),
            exact,
        )

    @classmethod
    def spread_over(cls, sent: Rendering, count: int, seconds: float, *, exact: bool = False) -> Alignment:
        """Spread `seconds` evenly over the first `count` characters of a rendering, and map them to the original."""
        share = seconds / max(1, count)
        times = ((number + 1, number * share, (number + 1) * share) for number in range(count))
        return cls.of_original(sent, times, exact=exact)

    def without_markup(self) -> Alignment:
        """Return the alignment of the words without markup. A substitute, such as an alias, gets its element's time."""
        marked = parse_markup(self.text)
        if marked is None:
            return self
        entries = [number for number, characters in enumerate(self.characters) for _ in characters]
        words = marked.words
        starts = [self.starts[entries[place]] for place in words.starts]
        ends = [self.ends[entries[place]] for place in words.starts]
        for each in words.replaced:
            begin, end = starts[each.start], self.ends[entries[words.ends[each.stop - 1] - 1]]
            edges = [begin + (end - begin) * number / len(each) for number in range(len(each) + 1)]
            starts[each.start : each.stop], ends[each.start : each.stop] = edges[:-1], edges[1:]
        return Alignment(tuple(words.text), tuple(starts), tuple(ends), self.exact)

    def since(self, count: int) -> Alignment:
        """Return the alignment without its first `count` characters."""
        return Alignment(self.characters[count:], self.starts[count:], self.ends[count:], self.exact)

    def words(self) -> list[Word]:
        """Split at white space. A word lasts from the start of its first character to the end of its last."""
        blanks = [-1, *(i for i, character in enumerate(self.characters) if character.isspace())]
        blanks.append(len(self.characters))
        return [self.word(before + 1, after) for before, after in pairwise(blanks) if after - before > 1]

    def word(self, begin: int, finish: int) -> Word:
        """Return the characters from `begin` up to `finish` (at least one) as a word."""
        text = "".join(self.characters[begin:finish])
        return Word(text, begin, finish, self.starts[begin], self.ends[finish - 1])


@dataclass(frozen=True, slots=True)
class EstimatedAlignment:
    """Evenly spread times, computed only when they are asked for."""

    text: str
    seconds: float

    @property
    def times(self) -> Alignment:
        """Alignment with the time spread evenly."""
        return Alignment.spread(self.text, self.seconds, exact=not count_letters_and_digits(self.text))


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
        end = max(begin + 1, _milliseconds(cue[-1].end))
        text = _vtt_text(cue, begin, end) if form == "vtt" else _srt_text(cue)
        blocks.append(f"{number}\n{_timestamp(begin, form)} --> {_timestamp(end, form)}\n{text}\n")
    return "\n".join(blocks)


_WIDTH = 42  # columns in a line of subtitles: broadcasters' habit


def _words_that_fit(alignment: Alignment) -> Iterator[Word]:
    """Split words that are longer than a line. A whole Chinese sentence is one "word", for it has no blanks."""
    for word in alignment.words():
        if _columns(word.text) <= _WIDTH or len(word.text) != word.finish - word.begin:
            yield word
            continue
        begin = word.begin
        for piece in split_text(word.text, _WIDTH // 2 if _columns(word.text) > len(word.text) else _WIDTH):
            yield alignment.word(begin, begin + len(piece))
            begin += len(piece)


def _cues(words: Iterable[Word]) -> list[list[Word]]:
    """Group words into cues that fit a line of subtitles; a new sentence begins a new cue."""
    lines: list[list[Word]] = []
    room = 0
    for word in words:
        needed = _columns(word.text) + 1
        if not lines or needed > room or _ends_sentence(lines[-1][-1].text):
            lines.append([])
            room = _WIDTH + 1
        lines[-1].append(word)
        room -= needed
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
    return "" if word.begin == before.finish else " "


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
