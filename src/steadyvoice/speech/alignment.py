"""Alignment of a text with its audio: the times at which each character starts and ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from steadyvoice.speech.markup import Rendering, parse_markup
from steadyvoice.speech.text import count_letters_and_digits


@dataclass(frozen=True, slots=True)
class Word:
    """Word, its place in the text (`begin`, `end`: character offsets) and in the audio (`start`, `stop`: seconds).

    `exact` is False if the times are estimated.
    """

    text: str  # the word, with punctuation
    begin: int
    end: int
    start: float
    stop: float
    exact: bool = True


@dataclass(frozen=True, slots=True, init=False)
class Alignment:
    """Start and end of each character of a text, in seconds from the first sample of the audio.

    `exact` is False where the times were spread evenly over the audio because the provider sent none. Raises ValueError
    for tuples of different lengths and for times that are not finite.
    """

    characters: tuple[str, ...] = ()  # of the text, in order
    starts: tuple[float, ...] = ()  # second at which each character begins
    ends: tuple[float, ...] = ()  # second at which each character ends
    exact: bool = True

    def __init__(
        self,
        characters: tuple[str, ...] = (),
        starts: tuple[float, ...] = (),
        ends: tuple[float, ...] = (),
        exact: bool = True,
    ) -> None:
        if not len(characters) == len(starts) == len(ends):
            raise ValueError(
                f"an alignment has one start and one end per character, got "
                f"{len(characters)} characters, {len(starts)} starts and {len(ends)} ends"
            )
        if not (all(map(isfinite, starts)) and all(map(isfinite, ends))):
            raise ValueError("an alignment has finite times in seconds, got nan or infinity")
        # One is made for each line of a stream: the generated constructor would be a second call.
        store = object.__setattr__
        store(self, "characters", characters)
        store(self, "starts", starts)
        store(self, "ends", ends)
        store(self, "exact", exact)

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
        pieces = [(offset, piece) for offset, piece in pieces if piece.characters]
        if len(pieces) == 1 and not pieces[0][0]:
            return pieces[0][1]
        characters: list[str] = []
        starts: list[float] = []
        ends: list[float] = []
        exact = True
        for offset, piece in pieces:
            characters += piece.characters
            starts += map(offset.__add__, piece.starts) if offset else piece.starts
            ends += map(offset.__add__, piece.ends) if offset else piece.ends
            exact &= piece.exact
        return cls(tuple(characters), tuple(starts), tuple(ends), exact)

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

    def word(self, begin: int, end: int) -> Word:
        """Return the characters from `begin` up to `end` (at least one) as a word."""
        text = "".join(self.characters[begin:end])
        return Word(text, begin, end, self.starts[begin], self.ends[end - 1], self.exact)


@dataclass(frozen=True, slots=True)
class EstimatedAlignment:
    """Evenly spread times, computed only when they are asked for."""

    text: str
    seconds: float

    @property
    def times(self) -> Alignment:
        """Alignment with the time spread evenly."""
        return Alignment.spread(self.text, self.seconds, exact=not count_letters_and_digits(self.text))
