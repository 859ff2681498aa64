"""Markup in text, SSML and audio tags: parsing, and rendering for voices that perform all, some or none of it.

Two kinds are known. SSML (https://www.w3.org/TR/speech-synthesis11/, with what vendors added to it): tags, comments,
CDATA sections and character references. Audio tags, as ElevenLabs' v3 performs them: "[sighs]", "[whispers]".

In doubt, text is prose. A tag counts as markup if its name is SSML's, or if it has an attribute, closes itself or is
closed later: "<prosody>" is a tag, and "x<y>z", "<3" and "<me@example.org>" are not. Brackets are an audio tag if their
words name a sound or a manner of speaking: "[laughs softly]" is one, and "[1]", "[sic]", "[link](https://example.org)"
and the brackets of "The [music] stopped" are not.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from steadyvoice.speech.markup_parser import (
    ATOMIC,
    CLOSING_MARKS,
    SILENT,
    MarkupToken,
    break_seconds,
    parse_tokens,
)
from steadyvoice.speech.markup_parser import Markup as Markup

LONGEST_PAUSE = 60.0
"""Largest silence in seconds made for all of a text, if the voice does not perform its breaks."""


def strip_markup(text: str) -> str:
    """Return the words of a text, without its markup.

    >>> strip_markup('Hello <phoneme alphabet="ipa" ph="ˈmædɪsən">Madison</phoneme>, [laughs softly] Tom &amp; Jerry')
    'Hello Madison, Tom & Jerry'
    >>> strip_markup("a < b and c > d, see [1]")
    'a < b and c > d, see [1]'
    """
    marked = parse_markup(text)
    return marked.words.text if marked else text


def parse_markup(text: str) -> MarkedText | None:
    """Parse the markup of a text; None if it has none."""
    if not ("<" in text or "[" in text or "&" in text):
        return None
    marked = MarkedText(text)
    return marked if marked.tokens else None


class Rendering:
    """Text as it is sent to one voice, with the offset of each of its characters in the original.

    `starts` and `ends` are these offsets; the end includes closing tags behind the character, so that a resumed
    utterance does not begin with them. `replaced` are the ranges of characters that replace others, such as an alias.
    """

    __slots__ = ("begin", "end", "ends", "marked", "replaced", "starts", "text")

    def __init__(
        self,
        marked: MarkedText,
        text: str,
        starts: Sequence[int],
        ends: Sequence[int],
        begin: int,
        end: int,
        replaced: Sequence[range] = (),
    ) -> None:
        self.text, self.starts, self.ends, self.begin, self.end = text, starts, ends, begin, end
        self.marked, self.replaced = marked, replaced

    def original(self, count: int) -> int:
        """Return the offset in the original that the first `count` characters reach."""
        if count <= 0:
            return self.begin
        return self.end if count >= len(self.ends) else self.ends[count - 1]

    def index(self, offset: int) -> int:
        """Return the number of characters before an offset of the original."""
        return bisect_left(self.starts, offset)

    def piece(self, first: int, last: int) -> Rendering:
        """Return the rendering of the characters from `first` up to `last`."""
        begin, end = self.original(first), self.original(last)
        return Rendering(self.marked, self.text[first:last], self.starts[first:last], self.ends[first:last], begin, end)

    def spread(self, times: Iterable[tuple[int, float, float]]) -> Iterator[tuple[str, float, float]]:
        """Yield each character of the original with its start and end, from the times of the rendering.

        Each entry of `times` has the count of characters up to its end, and its start and end in seconds. Markup takes
        no time; several characters with one entry share its time.
        """
        source, place, before = self.marked.text, self.begin, 0
        for count, start, end in times:
            stop = self.original(count)
            if stop > place:
                first = min(max(self.starts[before], place), stop)
                last = min(self.starts[count - 1] + 1, stop)
                yield from ((character, start, start) for character in source[place:first])
                share = (end - start) / max(1, last - first)
                for number, character in enumerate(source[first:last]):
                    yield character, start + number * share, start + (number + 1) * share
                yield from ((character, end, end) for character in source[max(first, last) : stop])
            place, before = max(place, stop), count


class MarkedText:
    """Text with its markup, and its renderings for voices that perform all of it, some of it, or none."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: Sequence[MarkupToken] = parse_tokens(text)
        self._begins = [token.begin for token in self.tokens]

    @cached_property
    def words(self) -> Rendering:
        """Rendering without any markup."""
        return self._rendered(0, len(self.text), Markup.NONE)

    @cached_property
    def pause(self) -> float:
        """Seconds of silence that the `<break>` tags ask for."""
        return self.pause_between(0, len(self.text))

    def words_from(self, begin: int) -> str:
        """Return the words from an offset of the text on."""
        return self.words.text[self.words.index(begin) :]

    def pause_between(self, begin: int, end: int) -> float:
        """Return the seconds of silence that the `<break>` tags from `begin` up to `end` ask for."""
        breaks = (each for each in self.tokens if each.name == "break" and begin <= each.begin < end)
        return min(sum(break_seconds(each) for each in breaks), LONGEST_PAUSE)

    def rendered(self, begin: int, end: int, performed: Markup) -> Rendering:
        """Return the text from `begin` up to `end` for a voice that performs these kinds of markup.

        Elements that are open at the beginning are opened again there; those open at the end are closed.
        """
        if not performed:
            piece = self.words.piece(self.words.index(begin), self.words.index(end))
            piece.begin, piece.end = begin, end
            return piece
        rendering = self._rendered(begin, end, performed)
        if Markup.SSML not in performed:
            return rendering
        opened = "".join(self.text[each.begin : each.end] for each in reversed(list(self._open_at(begin))))
        last_tags = (each.closed_by for each in self._open_at(end))
        closed = "".join(self.text[each.begin : each.end] for each in last_tags if each)
        if not opened and not closed:
            return rendering
        before, behind = array("L", [begin]) * len(opened), array("L", [end]) * len(closed)
        starts = before + array("L", rendering.starts) + behind
        ends = before + array("L", rendering.ends) + behind
        return Rendering(self, opened + rendering.text + closed, starts, ends, begin, end)

    @cached_property
    def solid(self) -> Sequence[range]:
        """Ranges of `words` (in characters) that must not be cut: elements that are pronounced as a whole."""
        index = self.words.index
        ranges = (range(index(begin), index(end)) for begin, end in self._pronounced_as_one())
        return [each for each in ranges if len(each) > 1]

    @cached_property
    def solid_markup(self) -> Sequence[range]:
        """Ranges of the text that must not be cut: tokens, and elements that are pronounced as a whole."""
        ranges = list[range]()
        elements = self._pronounced_as_one()
        element = next(elements, None)
        for token in self.tokens:
            while element and element[1] <= token.begin:
                element = next(elements, None)
            if element and element[0] == token.begin:
                ranges.append(range(*element))
            elif not (element and element[0] < token.begin):
                ranges.append(range(token.begin, token.end))
        return ranges

    def is_inside(self, offset: int) -> bool:
        """Return whether the text must not be cut at an offset."""
        number = bisect_left(self.solid_markup, offset, key=lambda each: each.start) - 1
        return number >= 0 and offset < self.solid_markup[number].stop

    def _pronounced_as_one(self) -> Iterator[tuple[int, int]]:
        """Yield begin and end of elements that cannot be cut; of nested ones the outermost."""
        end = 0
        for token in self.tokens:
            if token.closed_by and token.name in ATOMIC and token.begin >= end:
                end = token.closed_by.end
                yield token.begin, end

    def _open_at(self, place: int) -> Iterator[MarkupToken]:
        """Yield the opening tags of the elements around an offset, the innermost first."""
        number = bisect_left(self._begins, place) - 1
        token = self.tokens[number] if number >= 0 else None
        if token and not token.closed_by:
            token = token.outer
        while token:
            if token.closed_by and token.closed_by.begin >= place:
                yield token
            token = token.outer

    def _rendered(self, begin: int, end: int, performed: Markup) -> Rendering:
        if not self.tokens:
            return Rendering(self, self.text[begin:end], range(begin, end), range(begin + 1, end + 1), begin, end)
        writer = _Writer(self, begin)
        first = bisect_left(self._begins, begin)
        for token in self.tokens[first : bisect_left(self._begins, end)]:
            if token.begin < writer.place:  # inside an element that was replaced as a whole
                continue
            writer.copy(token.begin)
            if token.kind in performed:
                writer.copy(token.end)
            else:
                writer.leave_out(token)
        writer.copy(end)
        return writer.finished(end)


class _Writer:
    """Writer of a rendering. Text between markup is copied as a whole."""

    def __init__(self, marked: MarkedText, begin: int) -> None:
        self.place = begin
        self._marked, self._text, self._begin = marked, marked.text, begin
        self._parts: list[str] = []
        self._last = ""  # the last character so far
        self._starts, self._ends = array("L"), array("L")
        self._replaced = list[range]()
        self._left_out = False  # whether markup was removed since the last character
        self._gap: MarkupToken | None = None  # markup that separates the last character from the next

    def copy(self, stop: int) -> None:
        """Copy the original up to an offset."""
        text, place = self._text, self.place
        if self._left_out:
            while place < stop and text[place].isspace() and (not self._last or self._last.isspace()):
                if self._ends and self._ends[-1] == place:
                    self._ends[-1] += 1
                place += 1
            if place < stop:
                self._join(text[place])
        if place < stop:
            self._parts.append(text[place:stop])
            self._starts.extend(range(place, stop))
            self._ends.extend(range(place + 1, stop + 1))
            self._last, self._left_out, self._gap = text[stop - 1], False, None
        self.place = stop

    def leave_out(self, token: MarkupToken) -> None:
        """Skip a token, or the element that it opens, and write its replacement if it has one."""
        stop = token.closed_by.end if token.closed_by and (token.replacement or token.name in SILENT) else token.end
        if token.replacement:
            self._join(token.replacement[0])
            self._parts.append(token.replacement)
            self._starts.extend(range(token.begin, token.begin + len(token.replacement)))
            self._ends.extend(range(token.begin + 1, token.begin + len(token.replacement)))
            self._ends.append(stop)
            self._replaced.append(range(len(self._ends) - len(token.replacement), len(self._ends)))
            self._last, self._left_out, self._gap = token.replacement[-1], False, None
        else:
            self._left_out = True
            if token.separates and self._gap is None and self._last and not self._last.isspace():
                self._gap = token
            elif token.closes and self._ends and self._ends[-1] == token.begin:
                self._ends[-1] = stop
        self.place = stop

    def _join(self, following: str) -> None:
        """Separate words that only markup separated, and remove a blank between a word and its punctuation mark."""
        gap, self._gap = self._gap, None
        if following in CLOSING_MARKS:
            if self._last == " " and self._left_out:
                self._parts[-1] = self._parts[-1][:-1]
                del self._starts[-1], self._ends[-1]
        elif gap and not following.isspace():
            self._parts.append(" ")
            self._starts.append(gap.begin)
            self._ends.append(gap.end)

    def finished(self, end: int) -> Rendering:
        """Return the rendering, without blanks between the last word and markup behind it."""
        text = "".join(self._parts)
        if self._left_out:
            text = text.rstrip()
            del self._starts[len(text) :], self._ends[len(text) :]
        return Rendering(self._marked, text, self._starts, self._ends, self._begin, end, self._replaced)
