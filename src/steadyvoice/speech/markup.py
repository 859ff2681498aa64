"""Markup in text, SSML and audio tags: parsing, and rendering for voices that perform all, some or none of it.

Two kinds are known. SSML (https://www.w3.org/TR/speech-synthesis11/, with what vendors added to it): tags, comments,
CDATA sections and character references. Audio tags, as ElevenLabs' v3 performs them: "[sighs]", "[whispers]".

In doubt, text is prose. A tag counts as markup if its name is SSML's, or if it has an attribute, closes itself or is
closed later: "<prosody>" is a tag, and "x<y>z", "<3" and "<me@example.org>" are not. Brackets are an audio tag if their
words name a sound or a manner of speaking: "[laughs softly]" is one, and "[1]", "[sic]", "[link](https://example.org)"
and the brackets of "The [music] stopped" are not.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, Flag, auto
from functools import cached_property
from html import unescape
from html.entities import html5


class Markup(Flag):
    """Kinds of markup that a voice performs. Other kinds are removed from the text that is sent to it."""

    NONE = 0
    SSML = auto()
    AUDIO_TAGS = auto()


LONGEST_BREAK, LONGEST_PAUSE = 10.0, 60.0
"""Largest silence in seconds made for one `<break>`, and for all of a text, if the voice does not perform them."""


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


class TokenRole(Enum):
    """Role of a token."""

    OPEN = "open"  # an element begins, or a CDATA section
    CLOSE = "close"  # an element ends
    EMPTY = "empty"  # an element without content, such as a pause
    NOTE = "note"  # a comment, a declaration
    CHARACTER = "character"  # a reference, such as "&amp;"
    CUE = "cue"  # an audio tag, which is about the words behind it


@dataclass(slots=True, eq=False)
class MarkupToken:
    """Piece of markup in a text, from `begin` up to `end` (character offsets)."""

    begin: int
    end: int
    role: TokenRole
    name: str = ""  # of the element, in lower case and without a prefix
    attributes: str = ""
    replacement: str = ""  # replacement where the token is not performed
    outer: MarkupToken | None = None  # opening tag of the innermost element around it
    closed_by: MarkupToken | None = None  # for an opening tag: the closing one

    @property
    def kind(self) -> Markup:
        """Kind of markup."""
        return Markup.AUDIO_TAGS if self.role is TokenRole.CUE else Markup.SSML

    @property
    def separates(self) -> bool:
        """True if the words before and behind it are separate words."""
        return self.role is TokenRole.CUE or self.name in _SEPARATING

    @property
    def closes(self) -> bool:
        """True if it belongs to the words before it, rather than to those behind it."""
        return self.role not in (TokenRole.OPEN, TokenRole.CUE, TokenRole.CHARACTER)


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
        self.tokens: Sequence[MarkupToken] = _parse(text)
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
        return min(sum(_seconds(each.attributes) for each in breaks), LONGEST_PAUSE)

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
            if token.closed_by and token.name in _ATOMIC and token.begin >= end:
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
        stop = token.closed_by.end if token.closed_by and (token.replacement or token.name in _SILENT) else token.end
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
        if following in _CLOSING_MARKS:
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


def _parse(text: str) -> Sequence[MarkupToken]:
    """Return all tokens of a text in order."""
    tokens = list[MarkupToken]()
    opened = list[MarkupToken]()  # elements that are not closed yet, the innermost last
    reader = _Reader(text)
    for token in reader.tokens():
        if token.role is TokenRole.CLOSE and reader.open_now.get(token.name):
            while (first := opened.pop()).name != token.name:
                reader.open_now[first.name] -= 1
            reader.open_now[token.name] -= 1
            first.closed_by = token
            first.replacement = _attribute(first, "alias") if token.name == "sub" else ""
        token.outer = opened[min(len(opened), _DEEPEST) - 1] if opened else None
        if token.role is TokenRole.OPEN:
            opened.append(token)
            reader.open_now[token.name] = reader.open_now.get(token.name, 0) + 1
        tokens.append(token)
    return tokens


class _Reader:
    """Tokenizer of markup.

    The end of each kind of token is searched once for all that lack it, so that the time is linear in the text.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._ends = dict[str, int]()  # where each closing sequence was found last
        self.open_now = dict[str, int]()  # number of open elements by name

    def tokens(self) -> Iterator[MarkupToken]:
        """Yield the tokens in order. A CDATA section contains none."""
        text, place = self._text, 0
        for found in _MARK.finditer(text):
            at = found.start()
            if at < place:
                continue
            token = self._token(at)
            if token:
                yield token
                place = token.end
                if token.name == _CDATA and (end := self._find("]]>", place)) >= 0:
                    yield MarkupToken(end, end + 3, TokenRole.CLOSE, _CDATA)
                    place = end + 3

    def _token(self, at: int) -> MarkupToken | None:
        match self._text[at]:
            case "<":
                return self._note(at) if self._text[at + 1 : at + 2] in ("!", "?") else self._tag(at)
            case "&":
                return self._character(at)
            case _:
                return self._cue(at)

    def _note(self, at: int) -> MarkupToken | None:
        text = self._text
        if text.startswith("<![CDATA[", at):
            return MarkupToken(at, at + 9, TokenRole.OPEN, _CDATA)
        for begin, close in (("<!--", "-->"), ("<?xml", "?>"), ("<!DOCTYPE", ">")):
            if text[at : at + len(begin)].lower() == begin.lower():
                end = self._find(close, at + len(begin))
                return MarkupToken(at, end + len(close), TokenRole.NOTE) if end >= 0 else None
        return None

    def _tag(self, at: int) -> MarkupToken | None:
        text = self._text
        if last := _LAST_TAG.match(text, at):
            name = _local(last[1])
            return (
                MarkupToken(at, last.end(), TokenRole.CLOSE, name) if name in _SSML or self.open_now.get(name) else None
            )
        first = _FIRST_TAG.match(text, at)
        if first is None:
            return self._careless_tag(at) or self._torn_tag(at)
        name, attributes = _local(first[1]), first[2]
        empty = bool(first[3])
        if not (attributes or empty or self._surely(name, first)):
            return None
        role = TokenRole.EMPTY if empty or name in _VOID else TokenRole.OPEN
        return MarkupToken(at, first.end(), role, name, attributes)

    def _surely(self, name: str, tag: re.Match[str]) -> bool:
        """Return whether a tag without attributes is markup."""
        text = self._text
        if name in _TAGS:
            inside_word = text[tag.start() - 1 : tag.start()].isalnum() and text[tag.end() : tag.end() + 1].isalnum()
            if len(name) > 1 or not inside_word:
                return True
        return self._closings.get(name, -1) >= tag.end()

    @cached_property
    def _closings(self) -> Mapping[str, int]:
        """Offset of the last closing tag of each name."""
        return {_local(found[1]): found.start() for found in _CLOSING.finditer(self._text)}

    def _careless_tag(self, at: int) -> MarkupToken | None:
        """Return a tag of SSML whose attributes are not well-formed."""
        tag = _CARELESS_TAG.match(self._text, at)
        name = _local(tag[1]) if tag else ""
        if tag is None or name not in _SSML or len(name) == 1:
            return None
        role = TokenRole.EMPTY if tag[2].endswith("/") or name in _VOID else TokenRole.OPEN
        return MarkupToken(at, tag.end(), role, name, tag[2].rstrip("/"))

    def _torn_tag(self, at: int) -> MarkupToken | None:
        """Return a tag that the end of the text cuts off."""
        torn = _TORN_TAG.match(self._text, at)
        name = _local(torn[1]) if torn else ""
        known = name in _TAGS and len(name) > 1
        return MarkupToken(at, len(self._text), TokenRole.EMPTY, name, torn[2]) if torn and known else None

    def _character(self, at: int) -> MarkupToken | None:
        reference = _REFERENCE.match(self._text, at)
        if reference is None or not (reference[1].startswith("#") or reference[0][1:] in html5):
            return None
        replacement = "".join(
            " " if each.isspace() else each
            for each in unescape(reference[0])
            if each.isspace() or (each != "\ufffd" and unicodedata.category(each) not in ("Cc", "Cs", "Cn"))
        )
        return MarkupToken(at, reference.end(), TokenRole.CHARACTER, replacement=replacement)

    def _cue(self, at: int) -> MarkupToken | None:
        cue = _CUE.match(self._text, at)
        if cue is None or not _is_direction(words := cue[1].lower()):
            return None
        behind = self._text[cue.end() : cue.end() + _MOST_BLANKS]
        goes_on = behind[:1].islower() or (behind.lstrip()[:1].islower() and _ends_with_word(self._text, at))
        if goes_on and not _is_unmistakable_sound(words):
            return None  # prose: "The [music] stopped"
        return MarkupToken(at, cue.end(), TokenRole.CUE)

    def _find(self, what: str, begin: int) -> int:
        end = self._ends.get(what, 0)
        if 0 <= end < begin:
            self._ends[what] = end = self._text.find(what, begin)
        return end


def _is_direction(words: str) -> bool:
    """Return whether words in brackets, in lower case, name a sound or a manner of speaking."""
    split = words.replace(",", " ").split()
    if not split or len(split) > _MOST_WORDS:
        return False
    if split[-1] in _MANNERS and len(split) > 1:
        return True
    if any(word in _SOUNDS for word in split):
        return True
    return split[-1] in _MOODS and all(word in _MOODS or word in _DEGREES or word.endswith("ly") for word in split)


def _is_unmistakable_sound(words: str) -> bool:
    """Return whether the words of an audio tag are hardly ever a part of the sentence around them."""
    return any(word in _SOUNDS and word.endswith(("s", "ing", "pause", "laughter")) for word in words.split())


def _ends_with_word(text: str, end: int) -> bool:
    return text[max(0, end - _MOST_BLANKS) : end].rstrip()[-1:].isalnum()


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()


def _attribute(token: MarkupToken, name: str) -> str:
    for key, *values in _ATTRIBUTES.findall(token.attributes):
        if key.lower() == name:
            return unescape("".join(values)).strip(" \\")
    return ""


def _seconds(attributes: str) -> float:
    """Return the seconds that a `<break>` lasts, by its attributes."""
    token = MarkupToken(0, 0, TokenRole.EMPTY, attributes=attributes)
    if time := _TIME.fullmatch(_attribute(token, "time")):
        return min(float(time[1]) * (0.001 if time[2].lower() == "ms" else 1.0), LONGEST_BREAK)
    return _STRENGTHS.get(_attribute(token, "strength").lower(), _STRENGTHS["medium"])


_MARK = re.compile(r"<(?=\s{0,3}[A-Za-z_/!?])|&(?=[#A-Za-z])|\[(?=[A-Za-z])")
_CDATA = "[cdata["

# All quantifiers are possessive, so that a text that is no tag is rejected in one pass, without backtracking. Quotation
# marks may be typographic, as language models write them, or escaped once too often.
_NAME = r"([A-Za-z_][\w.-]*+(?::[A-Za-z_][\w.-]*+)?+)"
_VALUE = r"""(?:\\?"[^"]*+"|\\?'[^']*+'|[“”„][^“”„<>]*+[“”]|[^\s"'“”„<>=`/\\]++)"""
_ATTRIBUTE_LIST = rf"((?:\s++[A-Za-z_][\w:.-]*+\s*+=\s*+{_VALUE})*+)"
_FIRST_TAG = re.compile(rf"<{_NAME}{_ATTRIBUTE_LIST}\s*+(/?)>")
_LAST_TAG = re.compile(rf"</\s*+{_NAME}\s*+>")
_CLOSING = re.compile(rf"</\s*+{_NAME}")
_CARELESS_TAG = re.compile(rf"<\s{{0,3}}+{_NAME}(\s(?=[^<>=]{{0,100}}=)[^<>]{{0,500}}+)>")
_TORN_TAG = re.compile(
    rf"""</?{_NAME}{_ATTRIBUTE_LIST}(?:\s++[A-Za-z_][\w:.-]*+(?:\s*+=\s*+(?:"[^"]*+|'[^']*+)?)?)?\s*+/?\Z"""
)
_ATTRIBUTES = re.compile(
    r"""([A-Za-z_][\w:.-]*+)\s*+=\s*+(?:\\?"([^"]*+)"|\\?'([^']*+)'|[“”„]([^“”„<>]*+)[“”]|([^\s"'“”„<>=`/\\]++))"""
)
_REFERENCE = re.compile(r"&(#\d{1,7}+|#[xX][0-9A-Fa-f]{1,6}+|[A-Za-z][A-Za-z0-9]{1,31}+);")
_TIME = re.compile(r"\+?(\d{1,6}+(?:\.\d{0,6}+)?+|\.\d{1,6}+)\s*+(ms|s)", re.IGNORECASE)

# Brackets followed by an address in parentheses are a link in Markdown.
_CUE = re.compile(r"\[([A-Za-z][A-Za-z' ,-]{0,60}+)\](?!\()")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_DEEPEST = 32  # nested elements: deeper ones are taken to be in the 32nd
_MOST_BLANKS = 3  # between a word and the brackets behind it
_MOST_WORDS = 5  # in an audio tag

_TAGS = _set(
    "speak break phoneme say-as sub emphasis prosody p s voice lang br hr em strong span div li ul ol h1 h2 h3 h4 h5 h6"
)
"""Elements whose tags are markup even without attribute and closing tag. Others of SSML are never valid like that."""

_SSML = _TAGS | _set(
    "audio mark w token desc lexicon lookup metadata meta media par seq sentence paragraph silence spell"
    " express-as effect domain style viseme backgroundaudio auto-breaths"
)
"""Elements whose tags are removed even if they close nothing, or if their attributes are not well-formed."""

_VOID = _set("break br hr mark meta lexicon img silence")
_SILENT = _set("desc metadata script style")  # with content that is not spoken
_ATOMIC = _set("phoneme say-as sub w token spell")  # with content that is pronounced as a whole
_SEPARATING = _set(
    "break p s speak br hr div li ul ol h1 h2 h3 h4 h5 h6 audio silence sentence paragraph media par seq"
)
_CLOSING_MARKS = frozenset(",.;:!?…，。、；：！？،؛؟।")

_STRENGTHS = {"none": 0.0, "x-weak": 0.1, "weak": 0.25, "medium": 0.5, "strong": 0.75, "x-strong": 1.0}
"""Seconds of pause. SSML does not define them; these are in the middle of what engines do."""

# From https://elevenlabs.io/docs/best-practices/prompting/eleven-v3 and its examples.
_MANNERS = _set("accent voice tone pause pauses silence sound sounds noise noises breath breaths")
_SOUNDS = _set(
    """
    applauding applauds applause beat booing boos breathes breathing breathless burp burping burps cackle
    cackles cackling chuckle chuckles chuckling clap clapping claps clears cough coughing coughs cried cries cry
    crying drawn exhale exhales exhaling explosion fart farts footsteps gasp gasping gasps giggle giggles
    giggling groan groaning groans growl growling growls grunt grunting grunts gulp gulping gulps gunshot
    gunshots hiccup hiccups hissing hum humming hums inhale inhales inhaling interrupting laugh laughing laughs
    laughter moan moaning moans mumble mumbles mumbling murmur murmuring murmurs music mutter muttering mutters
    overlapping panting pause pauses pausing scoff scoffing scoffs scream screaming screams shout shouting
    shouts shriek shrieking shrieks sigh sighing sighs silence singing sings sneeze sneezes sneezing snicker
    snickering snickers sniff sniffing sniffle sniffles sniffling sniffs snore snores snoring snort snorting
    snorts sob sobbing sobs stammering stammers stuttering stutters swallowing swallows wail wailing wails
    weeping weeps wheeze wheezes wheezing whimper whimpering whimpers whisper whispered whispering whispers
    whistles whistling woo yawn yawning yawns yell yelling yells
    """
)
_MOODS = _set(
    """
    amazed amused angrily angry annoyed anxious anxiously appalled awe bitter bitterly bored calm calmly
    cautiously cheerful cheerfully childlike cold coldly concerned confused conversational curious curiously
    deadpan delighted desperate determined disappointed dismissive dramatic dramatically elated embarrassed
    emphasized emphatic excited excitedly exhausted fast fearful flatly frustrated gentle gently gleeful
    grateful happily happy hesitant hesitantly hopeful hushed impressed inquisitive ironic joyful joyfully
    lighthearted loud loudly matter-of-fact melancholic mischievous mischievously monotone nervous nervously
    panicked playful playfully pleading professional proud questioning quickly quiet quietly quizzically
    rapid-fire reassuring reflective regretful relieved resigned robotic rushed sad sadly sarcastic
    sarcastically scared serious seriously sheepishly shocked shouty slow slowly smug soft softly soothing
    sorrowful stern sternly surprised suspicious suspiciously sympathetic tearful tender tense terrified
    thoughtful thoughtfully timidly tired understated urgent urgently warm warmly whiny whispery wistful worried
    """
)
_DEGREES = _set("a bit more less very too and but slightly so quite rather almost somewhat")
