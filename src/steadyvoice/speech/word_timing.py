"""Word boundaries of a text, and the times at which its words are heard.

Word boundaries are the places from which another voice may go on. `WordTiming` follows a vendor's timestamps and knows
which words are wholly contained in the audio received so far. It deals in seconds and characters only, not in bytes or
providers. A boundary once returned stays valid; when the timestamps stop making sense no further one is returned, so
that audio released up to a boundary never ends within a word, or behind a word whose end is unknown.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.duration_estimate import FASTEST_ORDINARY_SHARE, estimate_duration, has_spoken_characters
from steadyvoice.speech.markup import MarkedText, Rendering, TokenRole, parse_markup, strip_markup
from steadyvoice.speech.text import count_letters_and_digits

# Chinese and Japanese write no blanks. There a word surely begins behind a mark, and, in Japanese, where kanji follow
# kana: "私は|東京に|行く". An honorific belongs to what follows it: "お|金" is one word.
_MARKS = "、。，；：！？…」』）”’"
_KANA = "\u3041-\u3096\u30a1-\u30fa\u30fc"
_KANJI = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_BOUNDARY = re.compile(
    rf"(?<=\s)(?=\S)"
    rf"|(?<=[{_MARKS}])(?=[{_KANA}{_KANJI}「『（])"
    rf"|(?<=[{_KANA}])(?<![おご])(?=[{_KANJI}])"
)


def longest_word_length(text: str) -> int:
    """Count the characters of the longest word, blanks behind it included. Thai has no blanks: it may be all of it.

    >>> longest_word_length("Well, it rains.")
    6
    """
    return max(end - begin for begin, end in pairwise((0, *word_boundaries(text), len(text))))


def word_boundaries(text: str, marked: MarkedText | None = None) -> Iterator[int]:
    """Give the offset of each word but the first.

    >>> list(word_boundaries("Well, it rains."))
    [6, 9]
    >>> list(word_boundaries('Well, <break time="1s"/> it rains.'))
    [6, 25, 28]

    No word begins inside of markup, or of what is pronounced as one: half of a tag would be read aloud. `marked` is the
    text with its markup, if that is known.
    """
    first = len(text) - len(text.lstrip())
    marked = marked or parse_markup(text)
    solid = iter(marked.solid_markup if marked else ())
    one = next(solid, None)
    for found in _BOUNDARY.finditer(text):
        while one and one.stop <= found.start():
            one = next(solid, None)
        if found.start() > first and not (one and one.start < found.start()):
            yield found.start()


_MAX_BACKWARD_STEP = 0.05  # seconds by which times may go back without being nonsense
_MIN_WORD_SECONDS = 0.1  # seconds: no word is shorter
_MIN_SECONDS_PER_LETTER = (
    0.008  # seconds a letter: a fifth of what the fastest talkers need; less is no time of a voice
)
_MIN_SHARE = (
    FASTEST_ORDINARY_SHARE  # share of the usual length: less cannot hold the characters that were given no times
)
_TAIL_CHARACTERS = 80  # characters of what was told last, by which its end is compared with the text's


@dataclass(frozen=True, slots=True)
class WordBoundary:
    """A place between two words. The next one begins with this `character` of the text.

    The word before it is over at `end` and the next begins at `start`, in seconds of the audio.
    """

    character: int = 0
    end: float = 0.0
    start: float = 0.0


@dataclass(frozen=True, slots=True)
class _Entry:
    upto: int  # characters of the text that are timed with this one
    characters: str
    start: float
    end: float


class TimestampsEnd:
    """End of what a vendor's times tell, in whatever spelling."""

    __slots__ = ("_tail", "end")

    def __init__(self) -> None:
        self.end = 0.0  # seconds
        self._tail = ""

    def take(self, alignment: Alignment) -> None:
        """Take the next times, in seconds from the beginning of the audio."""
        self._tail = (self._tail + "".join(alignment.characters[-_TAIL_CHARACTERS:]))[-_TAIL_CHARACTERS:]
        for characters, end in zip(reversed(alignment.characters), reversed(alignment.ends), strict=True):
            if characters.strip():
                self.end = max(self.end, end)
                break

    def reaches(self, text: str) -> bool:
        """Whether the last words are those of a text: the last two, where there are so many."""
        heard = [word for word in map(_spoken_letters, self._tail.split()) if word]
        asked = [word for word in map(_spoken_letters, text[-4 * _TAIL_CHARACTERS :].split()) if word]
        last = min(2, len(asked))
        return last > 0 and heard[-last:] == asked[-last:]


class WordTiming:
    """Follows the times of one text, as they come.

    Times are believed as long as they rise and spell the text. Several characters may come as one, blanks, markup and
    emoji may be left out, blanks may be added, and one mark may stand for another. Words that take next to no time are
    no words that were heard.

    Where a text was `sent` in place of another, places are told in what was sent, and times of the original.
    """

    def __init__(self, text: str, sent: Rendering | None = None) -> None:
        self._text, self._sent = text, sent
        marked = sent.marked if sent and sent.marked.text == text else parse_markup(text)
        self._markup = _MarkupPlaces(marked) if marked else None
        self._reached = TimestampsEnd()  # by the times since they are not believed
        self._last = Alignment()  # that was taken, while they are
        begins = word_boundaries(text, marked)
        if sent:
            begins = (place for place in begins if not sent.marked.is_inside(sent.original(place)))
        self._begins = deque(begins)
        self._marks: deque[WordBoundary] = deque()
        self._passed = WordBoundary()
        self._entries: list[_Entry] = []
        self._told = Alignment()  # the times of the first of these, as they were given last
        self._told_count = 0
        self._place = 0  # characters that have times
        self._letters = 0  # of these, and digits
        self._end = 0.0  # of the last word so far
        self._word_start = 0.0
        self.trusted = True

    @property
    def timed(self) -> float:
        """Seconds of audio whose words are known."""
        return self._end

    def take(self, alignment: Alignment) -> None:
        """Take the next times, in seconds from the beginning of the audio."""
        for characters, start, end in zip(alignment.characters, alignment.starts, alignment.ends, strict=True):
            if not self.trusted:
                break
            self._take(characters, start, end)
        if self.trusted:
            self._last = alignment
            return
        # From here on only their end is of interest: the last words may stand in two of them.
        self._reached.take(self._last)
        self._reached.take(alignment)
        self._last = Alignment()

    def upto(self, seconds: float) -> WordBoundary:
        """Give the last place that lies wholly within so much audio, the pause behind the word included."""
        while self._marks and self._marks[0].start <= seconds:
            self._passed = self._marks.popleft()
        return self._passed

    def shortfall(self, seconds: float, *, speed: float = 1.0) -> float:
        """Tell how many seconds are missing when the audio is over; none if it is 0 or less.

        Characters without times need a share of what they usually take, and a tenth of a second a word at least.
        """
        rest = self._rest
        length = estimate_duration(rest) if rest.strip() else None
        if length is None or not length.least:
            return self._end - seconds
        words = sum(has_spoken_characters(word) for word in rest.split())
        needed = max(_MIN_WORD_SECONDS * words, length.at_least(_MIN_SHARE) / max(speed, 1.0))
        return self._end + needed - seconds

    def fits(self, seconds: float) -> bool:
        """Whether all of the text has its times, marks at the end included, and they end within so much audio."""
        return self.trusted and 0 < self._end <= seconds and not self._text[self._place :].strip()

    @property
    def last_timestamp(self) -> float:
        """Seconds at which the last character is over that was told, whether or not it is one of the text's."""
        return self._reached.end

    @property
    def covers_text(self) -> bool:
        """Whether times were told up to the end of the text, be it in another spelling: its last words are the same."""
        if self._place and self.complete:
            return True
        return not self.trusted and self.text_is_covered_by(self._reached)

    def text_is_covered_by(self, told: TimestampsEnd) -> bool:
        """Whether other times tell of the end of the text, too."""
        return told.reaches(strip_markup(self._text))

    def letters_between(self, start: float, end: float) -> int:
        """Count the letters and digits whose times begin in there, in seconds."""
        before, count = 0, 0
        for entry in self._entries:
            if start <= entry.start < end:
                count += self._letters_in(before, entry.upto)
            before = entry.upto
        return count

    @property
    def complete(self) -> bool:
        """Whether everything that is said has its times."""
        rest = self._rest
        return not rest or rest.isspace() or not has_spoken_characters(rest)

    @property
    def tolerated_shortfall(self) -> float:
        """Seconds of shortfall that leave every word audible, if the audio ends in silence: half of the last word."""
        return (self._end - self._word_start) / 2 if not self._rest.strip() else 0.0

    def times(self, characters: int | None = None) -> Alignment:
        """Give the times believed so far, of the first so many characters of the text, or of all."""
        upto = len(self._text) if characters is None else characters
        count = bisect_right(self._entries, upto, key=lambda entry: entry.upto)
        # This is asked with each chunk of audio, and most of them bring no word to its end.
        if count != self._told_count:
            kept = self._entries[:count]
            self._told_count = count
            self._told = (
                Alignment.of_original(self._sent, ((entry.upto, entry.start, entry.end) for entry in kept))
                if self._sent
                else Alignment(
                    tuple(entry.characters for entry in kept),
                    tuple(entry.start for entry in kept),
                    tuple(entry.end for entry in kept),
                )
            )
        return self._told

    def filled(self, seconds: float) -> Alignment:
        """Give times for all of the text: those believed, and the rest spread over what is left of so much audio."""
        rest, end = self._text[self._place :], min(self._end, seconds)
        if not rest:
            return self.times()
        if self._sent:
            return self._filled_original(rest, end, seconds)
        if not self._place:
            return Alignment.spread(rest, seconds, exact=not count_letters_and_digits(rest))
        guess = replace(Alignment.spread(rest, seconds - end), exact=not count_letters_and_digits(rest))
        return Alignment.joined([(0.0, self.times()), (end, guess)])

    def _filled_original(self, rest: str, begin: float, end: float) -> Alignment:
        assert self._sent  # noqa: S101 - the caller has looked
        share = (end - begin) / len(rest)
        told = [(entry.upto, entry.start, entry.end) for entry in self._entries]
        told += [
            (self._place + number + 1, begin + number * share, begin + (number + 1) * share)
            for number in range(len(rest))
        ]
        return Alignment.of_original(self._sent, told, exact=not count_letters_and_digits(strip_markup(rest)))

    def _take(self, characters: str, start: float, end: float) -> None:
        before = self._place
        upto = self._found(characters)
        if upto is None or not self._rises(start, end):
            self.trusted = False
            return
        if upto == before and characters.strip():
            return  # said after the text's own end
        blank = not self._text[before:upto].strip()
        self._pass_blanks_without_times(before, upto, characters, start)
        self._entries.append(_Entry(upto, characters, start, end))
        self._place = upto
        self._letters += (
            self._letters_in(before, upto) if self._markup else count_letters_and_digits(self._text[before:upto])
        )
        if not blank:
            self._end = max(self._end, end)
        self._mark(upto, end)

    def _found(self, characters: str) -> int | None:
        """Where in the text these end. None if they do not come next."""
        text, at = self._text, self._place
        if text.startswith(characters, at):
            if self._markup:
                self._markup.begin(characters, at)
            return at + len(characters)
        if self._markup and (found := self._markup.found(characters, at)) is not None:
            return found
        if not characters.strip():
            return at + 1 if text[at : at + 1].isspace() else at
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text) or text.startswith(characters, at):
            return min(at + len(characters), len(text))
        alike = len(characters) == 1 and not characters.isalnum() and not text[at].isalnum()
        if alike and not has_spoken_characters(characters):
            return at + 1
        while at < len(text) and not has_spoken_characters(text[at]):  # an emoji, or a mark
            at += 1
        if text.startswith(characters, at):
            return at + len(characters)
        return self._place if not has_spoken_characters(characters) else None

    @property
    def _rest(self) -> str:
        """Words that have no times yet."""
        if self._markup:
            return self._markup.words_between(self._place, len(self._text))
        return self._text[self._place :]

    def _letters_in(self, begin: int, end: int) -> int:
        return count_letters_and_digits(
            self._markup.words_between(begin, end) if self._markup else self._text[begin:end]
        )

    def _rises(self, start: float, end: float) -> bool:
        before = self._entries[-1].start if self._entries else 0.0
        return start >= before - _MAX_BACKWARD_STEP and end >= start - _MAX_BACKWARD_STEP

    def _pass_blanks_without_times(self, before: int, upto: int, characters: str, start: float) -> None:
        """The vendor went from one word to the next: the pause is what lies between."""
        blanks = len(self._text[before:upto]) - len(self._text[before:upto].lstrip())
        if blanks and characters.strip() and not characters[0].isspace():
            place = before + blanks
            self._entries.append(_Entry(place, self._text[before:place], self._end, max(start, self._end)))
            self._mark(place, start)

    def _mark(self, place: int, start: float) -> None:
        while self._begins and self._begins[0] < place:
            self._begins.popleft()  # within characters that came as one
        if self._begins and self._begins[0] == place:
            self._begins.popleft()
            start = max(start, self._end)
            if start < _MIN_SECONDS_PER_LETTER * self._letters:
                self.trusted = False
                return
            self._marks.append(WordBoundary(place, self._end, start))
            self._word_start = start


class _MarkupPlaces:
    """Where a text has markup: vendors leave it out of their times, or tell what a reference stands for."""

    def __init__(self, marked: MarkedText) -> None:
        self._text = marked.text
        self._said = {token.begin: token.said for token in marked.tokens if token.role is TokenRole.CHARACTER}
        self._ends = {token.begin: token.end for token in marked.tokens}
        self._inside = bytearray(len(marked.text))  # of each character, whether it is markup
        for token in marked.tokens:
            if token.role is not TokenRole.CHARACTER:
                self._inside[token.begin : token.end] = bytes([1]) * (token.end - token.begin)
        self._reference = 0  # the end of one of which only the first character has come

    def words_between(self, begin: int, end: int) -> str:
        """Return the characters from `begin` up to `end` that are no markup."""
        return "".join(self._text[place] for place in range(begin, end) if not self._inside[place])

    def begin(self, characters: str, at: int) -> None:
        """Note that these came as they are written. They may be what a reference stands for: "&", of "&amp;"."""
        self._reference = self._ends[at] if self._said.get(at) == characters else 0

    def found(self, characters: str, at: int) -> int | None:
        """Where these end, if they come behind markup that was left out. None if they do not."""
        text, begins = self._text, [at, self._reference] if self._reference else [at]
        self._reference = 0
        for place in begins:
            while place < len(text):
                if self._said.get(place) == characters:
                    return self._ends[place]
                if place != at and text.startswith(characters, place):
                    return place + len(characters)
                if place in self._ends and place not in self._said:
                    place = self._ends[place]
                elif text[place].isspace() and characters.strip():
                    place += 1
                else:
                    break
        return None


def _spoken_letters(word: str) -> str:
    return "".join(filter(has_spoken_characters, word.casefold()))
