"""Which words are wholly in the audio that has come: a vendor's times in, places between two words out.

It knows seconds and characters; of bytes and providers it knows nothing. A place it gives is never taken back, and
where the times stop making sense it gives no further one: whoever hands out audio up to such places
never hands out half a word, or a word whose end is not known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, replace

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.text import SECONDS_PER_CHARACTER, speakable
from steadyvoice.speech.words import word_begins

_JITTER = 0.05  # seconds by which times may go back without being nonsense
_SHORTEST = 0.1  # seconds: no word is shorter
_FASTEST = 0.008  # seconds a letter: a fifth of what the fastest talkers need; less is no time of a voice
_LEAST = 0.5  # of the usual length: less cannot hold the characters that were given no times


@dataclass(frozen=True, slots=True)
class Mark:
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


class Ledger:
    """Follows the times of one text, as they come.

    Times are believed as long as they rise and spell the text. Several characters may come as one, blanks may be left
    out or added, and one mark may stand for another. Words that take next to no time are no words that were heard.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._begins = deque(word_begins(text))
        self._marks: deque[Mark] = deque()
        self._passed = Mark()
        self._entries: list[_Entry] = []
        self._told = Alignment()  # the times of the first of these, as they were given last
        self._place = 0  # characters that have times
        self._letters = 0  # of these, and digits
        self._end = 0.0  # of the last word so far
        self._word_start = 0.0
        self.believed = True

    @property
    def timed(self) -> float:
        """Seconds of audio whose words are known."""
        return self._end

    def take(self, alignment: Alignment) -> None:
        """Take the next times, in seconds from the beginning of the audio."""
        for characters, start, end in zip(alignment.characters, alignment.starts, alignment.ends, strict=True):
            if not self.believed:
                return
            self._take(characters, start, end)

    def upto(self, seconds: float) -> Mark:
        """Give the last place that lies wholly within so much audio, the pause behind the word included."""
        while self._marks and self._marks[0].start <= seconds:
            self._passed = self._marks.popleft()
        return self._passed

    def shortfall(self, seconds: float, *, speed: float = 1.0) -> float:
        """Tell how many seconds are missing when the audio is over; none if it is 0 or less.

        Characters without times need half of what they usually take, and a tenth of a second a word at least.
        """
        rest = self._text[self._place :]
        words = sum(speakable(word) > 0 for word in rest.split())
        needed = max(_SHORTEST * words, _LEAST * speakable(rest) * SECONDS_PER_CHARACTER / speed)
        return self._end + needed - seconds

    def letters_between(self, start: float, end: float) -> int:
        """Count the letters and digits whose times begin in there, in seconds."""
        return sum(speakable(entry.characters) for entry in self._entries if start <= entry.start < end)

    @property
    def complete(self) -> bool:
        """Whether everything has its times, blanks at the end aside."""
        return not self._text[self._place :].strip()

    @property
    def forgivable(self) -> float:
        """Seconds of shortfall that leave every word audible, if the audio ends in silence: half of the last word."""
        return (self._end - self._word_start) / 2 if self.complete else 0.0

    def times(self, characters: int | None = None) -> Alignment:
        """Give the times believed so far, of the first so many characters of the text, or of all."""
        upto = len(self._text) if characters is None else characters
        count = bisect_right(self._entries, upto, key=lambda entry: entry.upto)
        # This is asked with each chunk of audio, and most of them bring no word to its end.
        if count != len(self._told.characters):
            kept = self._entries[:count]
            self._told = Alignment(
                tuple(entry.characters for entry in kept),
                tuple(entry.start for entry in kept),
                tuple(entry.end for entry in kept),
            )
        return self._told

    def filled(self, seconds: float) -> Alignment:
        """Give times for all of the text: those believed, and the rest spread over what is left of so much audio."""
        rest, end = self._text[self._place :], min(self._end, seconds)
        if not rest:
            return self.times()
        if not self._place:
            return Alignment.spread(rest, seconds, exact=not speakable(rest))
        guess = replace(Alignment.spread(rest, seconds - end), exact=not speakable(rest))
        return Alignment.joined([(0.0, self.times()), (end, guess)])

    def _take(self, characters: str, start: float, end: float) -> None:
        before = self._place
        upto = self._found(characters)
        if upto is None or not self._rises(start, end):
            self.believed = False
            return
        if upto == before and characters.strip():
            return  # said after the text's own end
        blank = not self._text[before:upto].strip()
        self._pass_blanks_without_times(before, upto, characters, start)
        self._entries.append(_Entry(upto, characters, start, end))
        self._place = upto
        self._letters += speakable(self._text[before:upto])
        if not blank:
            self._end = max(self._end, end)
        self._mark(upto, end)

    def _found(self, characters: str) -> int | None:
        """Where in the text these end. None if they do not come next."""
        text, at = self._text, self._place
        if text.startswith(characters, at):
            return at + len(characters)
        if not characters.strip():
            return at + 1 if text[at : at + 1].isspace() else at
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text) or text.startswith(characters, at):
            return min(at + len(characters), len(text))
        alike = len(characters) == 1 and not characters.isalnum() and not text[at].isalnum()
        return at + 1 if alike else None

    def _rises(self, start: float, end: float) -> bool:
        before = self._entries[-1].start if self._entries else 0.0
        return start >= before - _JITTER and end >= start - _JITTER

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
            if start < _FASTEST * self._letters:
                self.believed = False
                return
            self._marks.append(Mark(place, self._end, start))
            self._word_start = start
