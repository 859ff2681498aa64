"""Ledger of one turn: text pushed, sent and delivered, flush marks, and the times at which each word is heard.

Pure: no clock, no I/O. The property tests drive it with random histories.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

from steadyvoice.service.conversation.segmentation import clean_piece, next_segment_end
from steadyvoice.speech.alignment import Alignment, Word
from steadyvoice.speech.errors import TTSTextTooLongError

MAX_TEXT_CHARACTERS = 100_000
"""Characters that may be pushed to one turn, unless the conversation sets another limit."""

_END_TOLERANCE = 0.02
"""Seconds before its stated end at which a word counts as heard: it has died away by then."""

_WORD_OVERHEAD = 3
"""Characters that the start and end of a word take as long as, where its times are estimated."""

_MAX_SKIP = 64  # characters that a vendor's timestamps may leave out at once, such as markup

_WORD = re.compile(r"\S+")


@dataclass(slots=True)
class Passage:
    """Piece of the text spoken without a break by one provider: its characters, its seconds and its words.

    `stop` is an estimate until the passage is `complete`; `exact` tells whether the times of its words are the
    vendor's. A passage that broke off never becomes complete.
    """

    provider: str | None
    begin: int
    end: int
    start: float
    stop: float
    words: list[Word] = field(default_factory=list)
    exact: bool = True
    complete: bool = False


class TurnLedger:
    """Ledger of one turn. All offsets are into the pushed text, all times in seconds within the turn's audio."""

    def __init__(self, max_characters: int = MAX_TEXT_CHARACTERS) -> None:
        self._max_characters = max_characters
        self._pieces: list[str] = []  # as pushed
        self._cleaned = 0  # pieces of which the clean text consists
        self._clean = ""  # the same with invisible characters replaced by blanks
        self.length = 0
        self.ended = False
        """Whether no further text will come."""
        self.sent = 0
        """Characters that were given to a provider, or skipped because they have no sound."""
        self.delivered = 0
        """Characters whose audio was delivered completely: the place to resume from."""
        self.seconds = 0.0
        """Seconds of audio delivered."""
        self.passages: list[Passage] = []
        self._marks: deque[tuple[int, int]] = deque()  # offset and number of each flush that was not reached yet
        self._flushes = 0

    # ---------------------------------------------------------------- text

    @property
    def text(self) -> str:
        """Text pushed so far."""
        return "".join(self._pieces)

    @property
    def clean(self) -> str:
        """Text pushed so far, with characters that cannot be spoken replaced by blanks, at the same offsets."""
        if self._cleaned < len(self._pieces):
            self._clean += clean_piece("".join(self._pieces[self._cleaned :]))
            self._cleaned = len(self._pieces)
        return self._clean

    def push(self, text: str) -> None:
        """Add text. Raises TypeError, and TTSTextTooLongError if the turn would become too long."""
        if not isinstance(text, str):
            raise TypeError(f"push(): text must be a string, got {type(text).__name__}")
        if self.length + len(text) > self._max_characters:
            raise TTSTextTooLongError(
                f"text of the turn too long: the limit is {self._max_characters} characters (max_text_characters)"
            )
        self._pieces.append(text)
        self.length += len(text)

    def flush(self) -> int:
        """Mark the end of the present text as complete, and return the number of the mark."""
        self._flushes += 1
        self._marks.append((self.length, self._flushes))
        return self._flushes

    def end(self) -> None:
        """Note that no further text will come."""
        self.ended = True

    def next_end(self, *, first: bool, limit: int, language: str | None) -> int | None:
        """Return the end of the next segment, from `sent` on; None while it is not known.

        Text before a flush, or before the end of the turn, is complete. The `first` segment is as short as possible.
        """
        complete = self.length if self.ended else self.flushed
        return next_segment_end(self.clean, self.sent, complete, first=first, limit=limit, language=language)

    @property
    def flushed(self) -> int:
        """Offset of the last flush."""
        return self._marks[-1][0] if self._marks else 0

    def delivered_to(self, end: int) -> Iterator[int]:
        """Note that the text up to `end` was delivered, and yield the flush marks that were reached."""
        self.delivered = max(self.delivered, end)
        self.sent = max(self.sent, self.delivered)
        while self._marks and not self.clean[self.delivered : self._marks[0][0]].strip():
            yield self._marks.popleft()[1]

    # ---------------------------------------------------------------- audio

    def begin_passage(self, provider: str | None, begin: int, end: int, start: float) -> Passage:
        """Add a passage that begins to be heard."""
        passage = Passage(provider, begin, end, start, start)
        self.passages.append(passage)
        return passage

    def estimate(self, passage: Passage, seconds: float) -> Sequence[Word]:
        """Fill a passage without timestamps with words spread over an estimated duration, and return them."""
        passage.exact, passage.stop = False, passage.start + seconds
        passage.words = list(spread_words(self.clean, passage.begin, passage.end, passage.start, passage.stop))
        return passage.words

    def finish_passage(self, passage: Passage, end: int, stop: float, *, complete: bool) -> None:
        """Note that a passage has ended: it spoke the text up to `end`, or broke off."""
        if not passage.exact and passage.words:
            if complete:
                passage.words = list(spread_words(self.clean, passage.begin, end, passage.start, stop))
            else:
                passage.words = [word for word in passage.words if word.start < stop]
        passage.end, passage.stop, passage.complete = end, stop, complete

    @property
    def speaker(self) -> str | None:
        """Provider that spoke last; None for silence and at the start."""
        return self.passages[-1].provider if self.passages else None

    def heard(self, played: float) -> tuple[int, bool]:
        """Return how many characters were heard when so many seconds had been played, and whether that is exact.

        No word of a passage counts that had not begun by then, nor one that was not delivered.
        """
        played = min(played, self.seconds)
        end, exact = 0, True
        for passage in self.passages:
            if passage.start >= played:
                break
            if passage.complete and passage.stop - _END_TOLERANCE <= played:
                end = max(end, passage.end)
                continue
            exact = passage.exact
            for word in passage.words:
                if word.stop - _END_TOLERANCE > played:
                    break
                exact &= word.exact
                end = max(end, word.end)
        return end, exact


def spread_words(text: str, begin: int, end: int, start: float, stop: float) -> Iterator[Word]:
    """Yield the words of text[begin:end], with estimated times between `start` and `stop`."""
    found = list(_WORD.finditer(text, begin, end))
    weights = [match.end() - match.start() + _WORD_OVERHEAD for match in found]
    share = (stop - start) / max(1, sum(weights))
    edges = accumulate((weight * share for weight in weights), initial=start)
    for match, (since, until) in zip(found, pairwise(edges), strict=True):
        yield Word(match[0], match.start(), match.end(), since, until, exact=False)


class WordCursor:
    """Cursor over the timestamps of one passage, which grow: yields each word once, at its place in the text."""

    def __init__(self, text: str, begin: int, end: int) -> None:
        self._text, self._at, self._end = text, begin, end
        self._entries = 0

    def extend(self, text: str, end: int) -> None:
        """Go on in a text that has grown, up to `end`."""
        self._text, self._end = text, end

    @property
    def entries(self) -> int:
        """Timestamps taken so far."""
        return self._entries

    def take(self, alignment: Alignment, offset: float, *, before: int = 0) -> list[Word]:
        """Return the words that are new in an alignment, which ends between two words.

        `offset` is the second within the turn at which the alignment begins, `before` the number of its timestamps
        that were left out at its beginning.
        """
        words: list[Word] = []
        place: int | None = None
        for number in range(max(0, self._entries - before), len(alignment.characters)):
            characters = alignment.characters[number]
            found = self._find(characters)
            if found is None:
                continue
            start, stop = offset + alignment.starts[number], offset + alignment.ends[number]
            self._at = found[1]
            if words and place is not None and not _is_broken(self._text, place, found[0]):
                words[-1] = replace(words[-1], end=found[1], stop=max(stop, words[-1].stop))
            else:
                words.append(Word("", found[0], found[1], start, stop, alignment.exact))
            place = found[1]
        self._entries = max(self._entries, before + len(alignment.characters))
        return [replace(word, text=self._text[word.begin : word.end]) for word in words]

    def _find(self, characters: str) -> tuple[int, int] | None:
        """Return the place of these characters in the text, without blanks around them; None if they have none."""
        bare = characters.strip()
        if not bare:
            return None
        begin = self._text.find(bare, self._at, min(self._end, self._at + _MAX_SKIP + len(bare)))
        return None if begin < 0 else (begin, begin + len(bare))


def _is_broken(text: str, end: int, begin: int) -> bool:
    """Return whether a new word begins between two places."""
    return any(character.isspace() for character in text[end:begin])
