"""Markup parser: tokens of SSML and of audio tags in a text, and the words by which they are told from prose."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, Flag, auto
from functools import cached_property
from html import unescape
from html.entities import html5

LONGEST_BREAK = 10.0
"""Largest silence in seconds made for one `<break>`, if the voice does not perform it."""


class Markup(Flag):
    """Kinds of markup that a voice performs. Other kinds are removed from the text that is sent to it."""

    NONE = 0  # plain text
    SSML = auto()  # tags of SSML
    AUDIO_TAGS = auto()  # words in brackets, such as [whispers]


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


def parse_tokens(text: str) -> Sequence[MarkupToken]:
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


def break_seconds(token: MarkupToken) -> float:
    """Return the seconds that a `<break>` lasts, by its attributes."""
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
SILENT = _set("desc metadata script style")  # with content that is not spoken
ATOMIC = _set("phoneme say-as sub w token spell")  # with content that is pronounced as a whole
_SEPARATING = _set(
    "break p s speak br hr div li ul ol h1 h2 h3 h4 h5 h6 audio silence sentence paragraph media par seq"
)
CLOSING_MARKS = frozenset(",.;:!?…，。、；：！？،؛؟।")

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
