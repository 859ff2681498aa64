"""Ledger of one turn: text pushed, sent and delivered, flush marks, and the times at which each word is heard.

Pure: no clock, no I/O. The property tests drive it with random histories.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from steadyvoice.service.conversation.segmentation import Sliceable, clean_piece, next_segment_end
from steadyvoice.service.conversation.word_estimate import PauseDetector, place_words
from steadyvoice.speech.alignment import Alignment, Word
from steadyvoice.speech.errors import TTSTextTooLongError

MAX_TEXT_CHARACTERS = 100_000
"""Characters that may be pushed to one turn, unless the conversation sets another limit."""

_END_TOLERANCE = 0.02
"""Seconds before its stated end at which a word counts as heard: it has died away by then."""

_MAX_SKIP = 64  # characters that a vendor's timestamps may leave out at once, such as markup
_BLOCK = 1024  # characters


class GrowingText:
    """Text that only grows. Adding to it, and taking a slice of it, costs the length of that and not of the whole."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._begins: list[int] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: slice) -> str:
        begin, end, _ = place.indices(self._length)
        if begin >= end:
            return ""
        first, last = bisect_right(self._begins, begin) - 1, bisect_right(self._begins, end - 1)
        start = self._begins[first]
        return "".join(self._blocks[first:last])[begin - start : end - start]

    def append(self, text: str) -> None:
        """Add text."""
        if self._blocks and len(self._blocks[-1]) < _BLOCK:
            self._blocks[-1] += text
        elif text:
            self._begins.append(self._length)
            self._blocks.append(text)
        self._length += len(text)


@dataclass(slots=True)
class Passage:
    """Piece of the text spoken without a break by one provider: its characters, its seconds and its words.

    `stop` is an estimate until the passage has `ended`; it is `complete` if it did not break off. `exact` tells whether
    the times of its words are the vendor's; otherwise they follow from the `pauses` of its audio.
    """

    provider: str | None
    begin: int
    end: int
    start: float
    stop: float
    words: list[Word] = field(default_factory=list)
    pauses: PauseDetector | None = None
    ended: bool = False
    complete: bool = False

    @property
    def exact(self) -> bool:
        """True if the times of its words are the vendor's."""
        return self.pauses is None


class TurnLedger:
    """Ledger of one turn. All offsets are into the pushed text, all times in seconds within the turn's audio."""

    def __init__(self, max_characters: int = MAX_TEXT_CHARACTERS) -> None:
        self._max_characters = max_characters
        self._pieces: list[str] = []  # as pushed
        self.clean = GrowingText()
        """Text pushed so far, with characters that cannot be spoken replaced by blanks, at the same offsets."""
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

    def push(self, text: str) -> None:
        """Add text. Raises TypeError, and TTSTextTooLongError if the turn would become too long."""
        if not isinstance(text, str):
            raise TypeError(f"push(): text must be a string, got {type(text).__name__}")
        if self.length + len(text) > self._max_characters:
            raise TTSTextTooLongError(
                f"text of the turn too long: the limit is {self._max_characters} characters (max_text_characters)"
            )
        self._pieces.append(text)
        self.clean.append(clean_piece(text))
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
        return self.segment_end(self.sent, first=first, limit=limit, language=language)

    def segment_end(self, begin: int, *, first: bool, limit: int, language: str | None) -> int | None:
        """Return the end of the segment that begins at this place: see `next_end`."""
        return next_segment_end(self.clean, begin, self.final, first=first, limit=limit, language=language)

    @property
    def final(self) -> int:
        """Offset up to which the text is surely finished: it was flushed, or the turn has ended."""
        return self.length if self.ended else self.flushed

    @property
    def flushed(self) -> int:
        """Offset of the last flush."""
        return self._marks[-1][0] if self._marks else 0

    def delivered_to(self, end: int) -> Iterator[int]:
        """Note that the text up to `end` was delivered, and yield the flush marks that were reached."""
        self.delivered = max(self.delivered, end)
        self.sent = max(self.sent, self.delivered)
        while self._marks and self._is_blank(self.delivered, self._marks[0][0]):
            yield self._marks.popleft()[1]

    def _is_blank(self, begin: int, end: int) -> bool:
        """Return whether there is nothing to be spoken between two places."""
        # Asked for each piece of audio, and nearly always answered by the next word.
        return all(self.clean[at : min(end, at + _BLOCK)].isspace() for at in range(begin, end, _BLOCK))

    # ---------------------------------------------------------------- audio

    def begin_passage(self, provider: str | None, begin: int, end: int, start: float) -> Passage:
        """Add a passage that begins to be heard."""
        passage = Passage(provider, begin, end, start, start)
        self.passages.append(passage)
        return passage

    def estimate(self, passage: Passage, seconds: float, pauses: PauseDetector) -> Sequence[Word]:
        """Note that a passage has no timestamps, and return its words as spread over an estimated duration.

        `pauses` are those of its audio, which is being delivered. What was heard is estimated by them.
        """
        passage.pauses, passage.stop = pauses, passage.start + seconds
        return self._estimated_words(passage)

    def finish_passage(self, passage: Passage, end: int, stop: float, *, complete: bool) -> None:
        """Note that a passage has ended: it spoke the text up to `end`, or broke off."""
        if passage.pauses and not complete:
            passage.words = self._estimated_words(passage)  # while the expected end is known
        passage.end, passage.stop, passage.ended, passage.complete = end, stop, True, complete

    def _words_of(self, passage: Passage) -> list[Word]:
        broke_off = passage.ended and not passage.complete
        return passage.words if passage.exact or broke_off else self._estimated_words(passage)

    def _estimated_words(self, passage: Passage) -> list[Word]:
        pauses = passage.pauses.pauses if passage.pauses else ()
        text = self.clean[passage.begin : passage.end]
        return place_words(text, passage.begin, passage.start, passage.stop, pauses)

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
            until = min(played, passage.stop) if passage.ended and not exact else played
            for word in self._words_of(passage):
                if word.stop - _END_TOLERANCE > until:
                    break
                exact &= word.exact
                end = max(end, word.end)
        if end and self._is_blank(end, self.length):
            end = self.length  # a blank behind the last word has no sound of its own
        return end, exact


class WordCursor:
    """Cursor over the timestamps of one passage, which grow: yields each word once, at its place in the text."""

    def __init__(self, text: Sliceable, begin: int, end: int) -> None:
        self._text, self._at, self._end = text, begin, end
        self._entries = 0

    def extend(self, end: int) -> None:
        """Go on in a text that has grown, up to `end`."""
        self._end = end

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
        at = self._at
        skipped = self._text[at : min(self._end, at + _MAX_SKIP + len(bare))].find(bare)
        return None if skipped < 0 else (at + skipped, at + skipped + len(bare))


def _is_broken(text: Sliceable, end: int, begin: int) -> bool:
    """Return whether a new word begins between two places."""
    return any(character.isspace() for character in text[end:begin])
