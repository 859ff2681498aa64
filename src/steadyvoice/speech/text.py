"""What callers hand in to be spoken: made clean, cut to size, and guessed in length."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

SECONDS_PER_CHARACTER = 0.06
"""About 1,000 characters a minute, by ElevenLabs' own table of character limits (docs, "Models")."""

NORMALISER = 2
"""Raise it when other words would be spoken for the same text: what was kept of them is not the same any more."""

# Latin, Arabic and Indic marks end a sentence when a blank follows ("3.14" does not); Chinese and Japanese ones always.
_SENTENCE_END = re.compile(r"""[.!?…؟۔।॥]["'”’»)\]]*\s+|[。！？]+["'”’」』）]*\s*|\n\s*""")
_CLAUSE_END = re.compile(r"""[,;:–،؛]["'”’»)\]]*\s+|[—、，；：]+\s*""")
_BLANK = re.compile(r"\s+")


def cleaned(text: str) -> str:
    """Drop what no voice can speak: control characters, lone surrogates, byte-order marks; trim the ends.

    Tabs and line breaks stay, for they are pauses; any other kind of break becomes a line feed. Nothing else is
    changed, unless it is all invisible: zero-width spaces and the like are no reason to ask anybody.
    """
    if text.isprintable():
        return text.strip()
    breaks = _ODD_BREAKS.sub("\n", text)
    kept = (c for c in breaks if c in "\n\t" or (unicodedata.category(c) not in ("Cc", "Cs") and c != "\ufeff"))
    clean = "".join(kept).strip()
    return clean if any(unicodedata.category(c) != "Cf" and not c.isspace() for c in clean) else ""


def is_encodable(text: str) -> bool:
    """Whether a text has bytes in UTF-8. Half of a surrogate pair has none, though JSON can escape it."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped(text: str) -> str:
    """Return a text that can be encoded: half of a surrogate pair becomes its escape, anything else stays."""
    return text if is_encodable(text) else text.encode("utf-8", "backslashreplace").decode()


# Carriage returns, vertical tabs, form feeds, information separators, "next line": dropped, they would join two words.
_ODD_BREAKS = re.compile(r"\r\n?|[\v\f\x1c-\x1f\x85]")


def visible(text: str) -> str:
    """Drop what cannot be seen from a message: what would show the rest in another order, or as other words.

    A text to be spoken may hold such characters (`cleaned` keeps them), for scripts and emoji need some. In a message
    they are of use only to whoever wants it to read as something else (https://trojansource.codes/).

    >>> visible("all is well \u202edaem fo dne\u202c")
    'all is well daem fo dne'
    """
    if text.isprintable() and text.isascii():
        return text
    return "".join(" " if c in _SEPARATORS else c for c in text if c in "\n\t" or not _is_hidden(c))


def _is_hidden(character: str) -> bool:
    return character in _BLANK_LETTERS or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn")


_SEPARATORS = "\u2028\u2029"  # of lines and paragraphs
_BLANK_LETTERS = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))
)
"""Characters that are seen as nothing though they are not format characters: fillers, joiners, variation selectors."""


def speakable(text: str) -> int:
    """Count the letters and digits: what takes time to say.

    >>> speakable("Well, well!"), speakable("-----")
    (8, 0)
    """
    if text.isascii():
        return len(text.encode().translate(None, _NOT_SAID))
    return sum(character.isalnum() for character in text)


_NOT_SAID = bytes(code for code in range(128) if not chr(code).isalnum())


def sentences(text: str) -> list[str]:
    """Split after each sentence. The pieces, joined, are the text again."""
    return list(_pieces(text, _SENTENCE_END))


def first_piece(text: str, limit: int) -> str:
    """Cut the longest beginning of at most `limit` characters that ends where a speaker would breathe.

    That is after a sentence; failing that after a clause, a word, or, in a text without any, between two characters
    as a reader sees them. Only the first `limit` + 1 characters are looked at.

    >>> first_piece("It rains. It pours, and the old man snores.", 20)
    'It rains. '
    """
    if limit < 1:
        raise ValueError(f"limit: at least one character, got {limit}")
    if len(text) <= limit:
        return text
    for ends in (_SENTENCE_END, _CLAUSE_END, _BLANK):
        cut = _last_cut(text, limit, ends)
        # A cut in the first tenth would leave a crumb to be spoken on its own.
        if cut and (cut >= limit // 10 or ends is _BLANK):
            return text[:cut]
    return text[: _between_characters(text, limit)]


def first_sentences(text: str, limit: int, *, at_least: int = 1) -> str:
    """Cut the shortest beginning that ends with a sentence and has at least so many characters.

    When the sentence is longer than `limit`, it ends where a speaker would breathe.

    >>> first_sentences("No. It rains. It pours.", 100, at_least=5)
    'No. It rains. '
    """
    ends = (match.end() for match in _SENTENCE_END.finditer(text, 0, limit + 1))
    cut = next((end for end in ends if at_least <= end <= limit and text[:end].strip()), None)
    return text[:cut] if cut else first_piece(text, limit)


def split(text: str, limit: int) -> list[str]:
    """Cut a text into pieces of at most `limit` characters. Joined, they are the text again.

    >>> split("It rains. It pours.", 12)
    ['It rains. ', 'It pours.']
    """
    pieces = []
    while text:
        pieces.append(first_piece(text, limit))
        text = text[len(pieces[-1]) :]
    return pieces


def _pieces(text: str, ends: re.Pattern[str]) -> Iterator[str]:
    begin = 0
    for match in ends.finditer(text):
        yield text[begin : match.end()]
        begin = match.end()
    if begin < len(text):
        yield text[begin:]


def _last_cut(text: str, limit: int, ends: re.Pattern[str]) -> int:
    """Find the last end that fits, 0 if there is none. Blanks after it go along as far as there is room."""
    cut = 0
    # One character more, so that the blank behind an end exactly at the limit is seen.
    for match in ends.finditer(text, 0, limit + 1):
        said = match.start() + len(match.group().rstrip())
        if said <= limit:
            cut = min(match.end(), limit)
    return cut if text[:cut].strip() else 0  # blanks alone are not worth a request


def _between_characters(text: str, limit: int) -> int:
    """Step back from the limit to where no accent, emoji or mark is torn off; the limit when that is everywhere."""
    blanks = len(text) - len(text.lstrip())
    return next((cut for cut in range(limit, blanks, -1) if not _belong_together(text, cut)), limit)


def _belong_together(text: str, cut: int) -> bool:
    """Whether a reader sees what lies around the cut as one character, or as a mark and the word it closes.

    The short form of https://unicode.org/reports/tr29/: enough for emoji, flags, accents, Hangul and Indic scripts.
    """
    before, after = text[cut - 1], text[cut]
    if _is_flag_half(before) and _is_flag_half(after):
        halves = next((n for n in range(cut) if not _is_flag_half(text[cut - 1 - n])), cut)
        return halves % 2 == 1
    return (
        before == _JOINER
        or unicodedata.combining(before) == _VIRAMA
        or after in _TRAILERS
        or unicodedata.category(after) in ("Mn", "Mc", "Me", "Po", "Pe", "Pf")
    )


_JOINER = "\u200d"  # glues emoji into one
_VIRAMA = 9  # the combining class of what glues Indic consonants into one
_TRAILERS = frozenset(
    [
        _JOINER,
        *map(chr, range(0x1F3FB, 0x1F400)),  # skin tones
        *map(chr, range(0xE0020, 0xE0080)),  # tags: the flag of Scotland
        *map(chr, range(0x1160, 0x1200)),  # the vowel and the end of a Hangul syllable
    ]
)


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
