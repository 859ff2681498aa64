"""Word boundaries of a text, and their times in the audio by a vendor's timestamps.

Another voice may go on from a word boundary. `WordTiming` follows a vendor's timestamps and knows which words are
wholly contained in the audio received so far. It deals in seconds and characters only, not in bytes or providers. A
boundary once returned stays valid; when the timestamps stop making sense no further one is returned, so that audio
released up to a boundary never ends within a word, or behind a word whose end is unknown.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import accumulate, islice, pairwise
from math import inf
from operator import ge, methodcaller
from typing import NamedTuple

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.duration_estimate import FASTEST_ORDINARY_SHARE, estimate_duration, has_spoken_characters
from steadyvoice.speech.markup import MarkedText, Rendering, parse_markup, strip_markup
from steadyvoice.speech.markup_parser import TokenRole
from steadyvoice.speech.text import count_letters_and_digits

# Chinese and Japanese write no blanks. There a word surely begins behind a punctuation mark, and, in Japanese, where
# kanji follow kana: "私は|東京に|行く". An honorific prefix belongs to what follows it: "お金" is one word.
_MARKS = "、。，；：！？…」』）”’"
_KANA = "\u3041-\u3096\u30a1-\u30fa\u30fc"
_KANJI = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_BOUNDARY = re.compile(
    rf"(?<=\s)(?=\S)"
    rf"|(?<=[{_MARKS}])(?=[{_KANA}{_KANJI}「『（])"
    rf"|(?<=[{_KANA}])(?<![おご])(?=[{_KANJI}])"
)


def longest_word_length(text: str) -> int:
    """Count the characters of the longest word, blanks behind it included. In Thai that may be the whole text.

    >>> longest_word_length("Well, it rains.")
    6
    """
    return max(end - begin for begin, end in pairwise((0, *word_boundaries(text), len(text))))


def word_boundaries(text: str, marked: MarkedText | None = None) -> Iterator[int]:
    """Yield the offset of each word but the first.

    >>> list(word_boundaries("Well, it rains."))
    [6, 9]
    >>> list(word_boundaries('Well, <break time="1s"/> it rains.'))
    [6, 25, 28]

    There is no boundary inside of markup, where half of a tag would be read aloud, or of an element that is pronounced
    as a whole. `marked` is the parsed markup of the text, if the caller has it.
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


_MAX_BACKWARD_STEP = 0.05  # seconds by which timestamps may go back and still be trusted
_MIN_WORD_SECONDS = 0.1
_MIN_SHARE = FASTEST_ORDINARY_SHARE  # of the usual duration: less cannot hold the characters without timestamps
_TAIL_CHARACTERS = 80  # of the last timestamps, which are compared with the end of the text

# A fifth of what the fastest talkers need. Words whose timestamps hardly move are not taken for spoken.
_MIN_SECONDS_PER_LETTER = 0.008


class WordBoundary(NamedTuple):
    """Boundary between two words: the next word begins with this `character` of the text.

    The word before it ends at `end` and the next begins at `start`, in seconds of the audio.
    """

    character: int = 0
    end: float = 0.0
    start: float = 0.0


class _Entries:
    """Timestamps of a text, one list for each of their fields: objects would be one for each character."""

    __slots__ = ("characters", "ends", "places", "starts")

    def __init__(self) -> None:
        self.places: list[int] = []  # of their ends in the text, in characters
        self.characters: list[str] = []
        self.starts: list[float] = []
        self.ends: list[float] = []

    def add(self, place: int, characters: str, start: float, end: float) -> None:
        """Add an entry behind the others."""
        self.places.append(place)
        self.characters.append(characters)
        self.starts.append(start)
        self.ends.append(end)

    @property
    def last_start(self) -> float:
        """Start of the last entry, in seconds."""
        return self.starts[-1] if self.starts else 0.0

    def up_to(self, place: int) -> int:
        """Return the number of entries that end within so many characters of the text."""
        return bisect_right(self.places, place)

    def alignment(self, begin: int, end: int) -> Alignment:
        """Return the entries from one number up to another."""
        return Alignment(tuple(self.characters[begin:end]), tuple(self.starts[begin:end]), tuple(self.ends[begin:end]))

    def times(self, count: int) -> Iterator[tuple[int, float, float]]:
        """Yield place, start and end of the first entries."""
        return islice(zip(self.places, self.starts, self.ends, strict=True), count)


_NO_TIMES = Alignment()
_NEW_BOUNDARY = partial(tuple.__new__, WordBoundary)  # no Python call for each word
_BEGIN_OF_MATCH = methodcaller("start")


class TimestampsEnd:
    """End of a vendor's timestamps, whether or not they spell the text."""

    __slots__ = ("_tail", "end")

    def __init__(self) -> None:
        self.end = 0.0  # seconds
        self._tail = ""

    def take(self, alignment: Alignment) -> None:
        """Add the next timestamps, in seconds from the beginning of the audio."""
        self._tail = (self._tail + "".join(alignment.characters[-_TAIL_CHARACTERS:]))[-_TAIL_CHARACTERS:]
        for characters, end in zip(reversed(alignment.characters), reversed(alignment.ends), strict=True):
            if characters.strip():
                self.end = max(self.end, end)
                break

    def reaches(self, text: str) -> bool:
        """Return whether their last words are those of a text: the last two, if the text has two."""
        received = [word for word in map(_spoken_letters, self._tail.split()) if word]
        expected = [word for word in map(_spoken_letters, text[-4 * _TAIL_CHARACTERS :].split()) if word]
        last = min(2, len(expected))
        return last > 0 and received[-last:] == expected[-last:]


class WordTiming:
    """Timestamps of one text, as they arrive with its audio.

    They are trusted as long as they increase and spell the text. All of this is accepted, for vendors do it: several
    characters as one entry; blanks, markup and emoji left out; blanks added; one punctuation mark for another. Words
    that take next to no time are not trusted.

    `sent` is the rendering that was sent in place of the original text, if there is one: boundaries are then places in
    the rendering, and alignments are of the original.
    """

    def __init__(self, text: str, sent: Rendering | None = None) -> None:
        self._text, self._sent = text, sent
        marked = sent.marked if sent and sent.marked.text == text else parse_markup(text)
        self._markup = _MarkupPlaces(marked) if marked else None
        self._reached = TimestampsEnd()  # of those that came since they are not trusted any more
        self._last = _NO_TIMES  # the latest ones, while they are trusted
        if marked or sent:
            begins = word_boundaries(text, marked)
            if sent:
                begins = (place for place in begins if not sent.marked.is_inside(sent.original(place)))
            self._begins = deque(begins)
        else:
            self._begins = deque(map(_BEGIN_OF_MATCH, _BOUNDARY.finditer(text)))
            first = len(text) - len(text.lstrip())
            while self._begins and self._begins[0] <= first:
                self._begins.popleft()
        self._letters_before: list[int] = []  # letters and digits before each place, once they are needed
        self._marks: deque[WordBoundary] = deque()
        self._passed = WordBoundary()
        self._entries = _Entries()
        self._cached = _NO_TIMES  # of the first `_cached_count` entries
        self._cached_count = 0
        self._place = 0  # characters that have timestamps
        self._letters = 0  # letters and digits among them
        self.timed = 0.0
        """Seconds of audio whose words are known: the end of the last word so far."""
        self._word_start = 0.0
        self.trusted = True
        self.next_start = inf
        """Seconds of audio from which on `last_boundary` returns another one than before; infinite if none is known."""

    def extend(self, text: str) -> None:
        """Add text behind the present one, which ended between two words. It has no markup."""
        begin = len(self._text)
        self._text += text
        if letters := self._letters_before:
            letters += islice(accumulate(map(str.isalnum, text), initial=letters[-1]), 1, None)
        first = len(self._text) - len(self._text.lstrip())
        for found in _BOUNDARY.finditer(self._text, begin):
            if found.start() <= first:
                continue
            if found.start() > self._place:
                self._begins.append(found.start())
            else:  # everything before it has timestamps already
                end = self._entries.ends[-1] if self._entries.ends else 0.0
                self._add_mark(WordBoundary(found.start(), self.timed, max(end, self.timed)))

    @property
    def place(self) -> int:
        """Characters that have timestamps."""
        return self._place

    def take(self, alignment: Alignment) -> None:
        """Add the next timestamps, in seconds from the beginning of the audio."""
        characters, starts, ends = alignment.characters, alignment.starts, alignment.ends
        place, count, entries = self._place, len(characters), self._entries
        # Nearly all spell the text exactly and never go back. They are checked as whole lists, with one step for each
        # word: a step for each character was most of what a line of timestamps costs.
        if (
            self._markup
            or not (self.trusted and characters and all(characters))
            or not self._text.startswith("".join(characters), place)
            or starts[0] < entries.last_start
            or ends[0] < self.timed
            or not (starts == tuple(sorted(starts)) and ends == tuple(sorted(ends)) and all(map(ge, ends, starts)))
        ):
            self._take_each(alignment)
            return
        end = place + sum(map(len, characters))
        places = (
            range(place + 1, end + 1)
            if end - place == count
            else list(accumulate(map(len, characters), initial=place))[1:]
        )
        letters = self._letters_before = self._letters_before or list(
            accumulate(map(str.isalnum, self._text), initial=0)
        )
        marks, begins, passed = [], self._begins, 0
        for begin in begins:
            if begin > end:
                break
            passed += 1
            index = bisect_left(places, begin)
            if places[index] != begin:
                continue  # within characters that came as one entry
            last = index
            while last >= 0 and characters[last].isspace():  # blanks do not count
                last -= 1
            word_end = ends[last] if last >= 0 else self.timed
            start = ends[index] if ends[index] > word_end else word_end
            if start < _MIN_SECONDS_PER_LETTER * letters[begin]:
                self._take_each(alignment)
                return
            marks.append(_NEW_BOUNDARY((begin, word_end, start)))
        for _ in range(passed):
            begins.popleft()
        last = count - 1
        while last >= 0 and characters[last].isspace():
            last -= 1
        if last >= 0:
            self.timed = ends[last]
        entries.places += places
        entries.characters += characters
        entries.starts += starts
        entries.ends += ends
        self._letters, self._place, self._last = letters[end], end, alignment
        if marks:
            if not self._marks:
                self.next_start = marks[0].start
            self._marks += marks
            self._word_start = marks[-1].start

    def last_boundary(self, seconds: float) -> WordBoundary:
        """Return the last boundary within so many seconds of audio, the pause behind the word included.

        Vendors spread a word's time over its letters by guess, so that its true end may lie in the pause.
        """
        marks = self._marks
        while marks and marks[0].start <= seconds:
            self._passed = marks.popleft()
        self.next_start = marks[0].start if marks else inf
        return self._passed

    def shortfall(self, seconds: float, *, speed: float = 1.0) -> float:
        """Return how many seconds of audio are missing if it ends at `seconds`; none are if the result is not positive.

        Characters without timestamps need a share of their usual duration, and a tenth of a second a word at least.
        """
        rest = self._rest
        length = estimate_duration(rest) if rest.strip() else None
        if length is None or not length.shortest:
            return self.timed - seconds
        words = sum(has_spoken_characters(word) for word in rest.split())
        needed = max(_MIN_WORD_SECONDS * words, length.at_least(_MIN_SHARE) / max(speed, 1.0))
        return self.timed + needed - seconds

    def ends_within(self, seconds: float) -> bool:
        """Return whether all of the text has timestamps, final punctuation included, and they end within the audio."""
        return self.trusted and 0 < self.timed <= seconds and not self._text[self._place :].strip()

    @property
    def last_timestamp(self) -> float:
        """End of the last character with a timestamp, in seconds, whether or not it is one of the text's."""
        return self._reached.end

    @property
    def covers_text(self) -> bool:
        """True if the timestamps reach the end of the text, even in another spelling: their last words are the same."""
        if self._place and self.complete:
            return True
        return not self.trusted and self.text_is_covered_by(self._reached)

    def text_is_covered_by(self, end: TimestampsEnd) -> bool:
        """Return whether other timestamps, such as those of the normalized text, reach the end of the text."""
        return end.reaches(strip_markup(self._text))

    def letters_between(self, start: float, end: float) -> int:
        """Count the letters and digits whose timestamps begin between two times, in seconds."""
        before, count = 0, 0
        for place, begin in zip(self._entries.places, self._entries.starts, strict=True):
            if start <= begin < end:
                count += self._letters_in(before, place)
            before = place
        return count

    @property
    def complete(self) -> bool:
        """True if every spoken character has a timestamp."""
        rest = self._rest
        return not rest or rest.isspace() or not has_spoken_characters(rest)

    @property
    def lacks_word(self) -> bool:
        """True if a whole spoken word has no timestamp, as opposed to the end of one that has begun."""
        text, place = self._text, self._place
        after = next((begin for begin in (0, *word_boundaries(text)) if begin >= place), None)
        if after is None:
            return False
        rest = self._markup.words_between(after, len(text)) if self._markup else text[after:]
        return bool(rest) and has_spoken_characters(rest)

    @property
    def tolerated_shortfall(self) -> float:
        """Seconds of shortfall to accept if the audio ends in silence: half of the last word."""
        return (self.timed - self._word_start) / 2 if not self._rest.strip() else 0.0

    def times(self, characters: int | None = None) -> Alignment:
        """Return the trusted timestamps so far, of the first `characters` of the text, or of all."""
        end = len(self._text) if characters is None else characters
        entries = self._entries
        count = entries.up_to(end)
        # Called for each chunk of audio, of which most do not complete a word: the last result is kept.
        if count != self._cached_count:
            self._cached_count = count
            self._cached = (
                Alignment.of_original(self._sent, entries.times(count)) if self._sent else entries.alignment(0, count)
            )
        return self._cached

    def times_after(self, entries: int, characters: int) -> Alignment:
        """Return the trusted timestamps behind the first `entries`, up to this character of the text."""
        return self._entries.alignment(entries, self._entries.up_to(characters))

    def extrapolated(self, seconds: float) -> Alignment:
        """Return times for all of the text: the trusted ones, and the rest spread evenly up to `seconds`."""
        rest, end = self._text[self._place :], min(self.timed, seconds)
        if not rest:
            return self.times()
        if self._sent:
            return self._filled_original(rest, end, seconds)
        if not self._place:
            return Alignment.spread(rest, seconds, exact=not count_letters_and_digits(rest))
        estimate = replace(Alignment.spread(rest, seconds - end), exact=not count_letters_and_digits(rest))
        return Alignment.joined([(0.0, self.times()), (end, estimate)])

    def _filled_original(self, rest: str, begin: float, end: float) -> Alignment:
        assert self._sent  # noqa: S101 - checked by the caller
        share = (end - begin) / len(rest)
        times = list(self._entries.times(len(self._entries.places)))
        times += [
            (self._place + number + 1, begin + number * share, begin + (number + 1) * share)
            for number in range(len(rest))
        ]
        return Alignment.of_original(self._sent, times, exact=not count_letters_and_digits(strip_markup(rest)))

    def _take_each(self, alignment: Alignment) -> None:
        """Add timestamps one by one."""
        for characters, start, end in zip(alignment.characters, alignment.starts, alignment.ends, strict=True):
            if not self.trusted:
                break
            self._take(characters, start, end)
        if self.trusted:
            self._last = alignment
            return
        # From here on only the end of the timestamps is of interest. The last words may be spread over two alignments.
        self._reached.take(self._last)
        self._reached.take(alignment)
        self._last = _NO_TIMES

    def _take(self, characters: str, start: float, end: float) -> None:
        before = self._place
        after = self._find(characters)
        if after is None or not self._increases(start, end):
            self.trusted = False
            return
        if after == before:
            return  # behind the end of the text, or a blank that the text does not have
        blank = not self._text[before:after].strip()
        self._skip_blanks(before, after, characters, start)
        self._entries.add(after, characters, start, end)
        self._place = after
        self._letters += (
            self._letters_in(before, after) if self._markup else count_letters_and_digits(self._text[before:after])
        )
        if not blank:
            self.timed = max(self.timed, end)
        self._add_boundary(after, end)

    def _find(self, characters: str) -> int | None:
        """Return the place in the text behind these characters, None if they do not come next."""
        text, at = self._text, self._place
        if text.startswith(characters, at):
            if self._markup:
                self._markup.note_literal(characters, at)
            return at + len(characters)
        if self._markup and (found := self._markup.find(characters, at)) is not None:
            return found
        if not characters.strip():
            return at + 1 if text[at : at + 1].isspace() else at
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text) or text.startswith(characters, at):
            return min(at + len(characters), len(text))
        both_marks = len(characters) == 1 and not characters.isalnum() and not text[at].isalnum()
        if both_marks and not has_spoken_characters(characters):
            return at + 1
        while at < len(text) and not has_spoken_characters(text[at]):  # an emoji or a punctuation mark
            at += 1
        if text.startswith(characters, at):
            return at + len(characters)
        return self._place if not has_spoken_characters(characters) else None

    @property
    def _rest(self) -> str:
        """Words without timestamps so far."""
        if self._markup:
            return self._markup.words_between(self._place, len(self._text))
        return self._text[self._place :]

    def _letters_in(self, begin: int, end: int) -> int:
        return count_letters_and_digits(
            self._markup.words_between(begin, end) if self._markup else self._text[begin:end]
        )

    def _increases(self, start: float, end: float) -> bool:
        before = self._entries.last_start
        return start >= before - _MAX_BACKWARD_STEP and end >= start - _MAX_BACKWARD_STEP

    def _skip_blanks(self, before: int, after: int, characters: str, start: float) -> None:
        """Add an entry for blanks that the vendor left out: they last from the end of one word to the next."""
        blanks = len(self._text[before:after]) - len(self._text[before:after].lstrip())
        if blanks and characters.strip() and not characters[0].isspace():
            place = before + blanks
            self._entries.add(place, self._text[before:place], self.timed, max(start, self.timed))
            self._add_boundary(place, start)

    def _add_boundary(self, place: int, start: float) -> None:
        while self._begins and self._begins[0] < place:
            self._begins.popleft()  # within characters that came as one entry
        if self._begins and self._begins[0] == place:
            self._begins.popleft()
            start = max(start, self.timed)
            if start < _MIN_SECONDS_PER_LETTER * self._letters:
                self.trusted = False
                return
            self._add_mark(WordBoundary(place, self.timed, start))
            self._word_start = start

    def _add_mark(self, boundary: WordBoundary) -> None:
        if not self._marks:
            self.next_start = boundary.start
        self._marks.append(boundary)


class _MarkupPlaces:
    """Places of markup in a text. Vendors leave tags out of their timestamps, and resolve character references."""

    def __init__(self, marked: MarkedText) -> None:
        self._text = marked.text
        self._resolved = {
            token.begin: token.replacement for token in marked.tokens if token.role is TokenRole.CHARACTER
        }
        self._ends = {token.begin: token.end for token in marked.tokens}
        self._inside = bytearray(len(marked.text))  # for each character, whether it is markup
        for token in marked.tokens:
            if token.role is not TokenRole.CHARACTER:
                self._inside[token.begin : token.end] = bytes([1]) * (token.end - token.begin)
        self._reference = 0  # end of a character reference of which only the first character has come

    def words_between(self, begin: int, end: int) -> str:
        """Return the characters from `begin` up to `end` that are not markup."""
        return "".join(self._text[place] for place in range(begin, end) if not self._inside[place])

    def note_literal(self, characters: str, at: int) -> None:
        """Note that characters came as they are written. They may be a resolved reference, such as "&" for "&amp;"."""
        self._reference = self._ends[at] if self._resolved.get(at) == characters else 0

    def find(self, characters: str, at: int) -> int | None:
        """Return the place behind characters that follow skipped markup, None if they do not."""
        text, begins = self._text, [at, self._reference] if self._reference else [at]
        self._reference = 0
        for place in begins:
            while place < len(text):
                if self._resolved.get(place) == characters:
                    return self._ends[place]
                if place != at and text.startswith(characters, place):
                    return place + len(characters)
                if place in self._ends and place not in self._resolved:
                    place = self._ends[place]
                elif text[place].isspace() and characters.strip():
                    place += 1
                else:
                    break
        return None


def _spoken_letters(word: str) -> str:
    return "".join(filter(has_spoken_characters, word.casefold()))
