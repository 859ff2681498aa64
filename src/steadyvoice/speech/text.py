"""Text from callers: cleaning, encodability, invisible characters, and a rough measure of its length."""

from __future__ import annotations

import re
import unicodedata

SECONDS_PER_CHARACTER = 0.06
"""Usual seconds of speech per character: 1,000 characters a minute, by ElevenLabs' table of limits (docs, "Models")."""

NORMALIZATION_VERSION = 2
"""Version of the rules by which a text becomes the words that are sent; part of the cache's keys.

To be raised when other words would be sent for the same text, so that recordings made before are not played for it.
"""


def clean_text(text: str) -> str:
    """Remove control characters, lone surrogates and byte-order marks from a text, and trim its ends.

    Tabs and line breaks stay, for they are pauses; any other kind of break becomes a line feed. A text of nothing but
    invisible characters, such as zero-width spaces, becomes empty, so that no provider is asked for it.
    """
    if text.isprintable():
        return text.strip()
    breaks = _ODD_BREAKS.sub("\n", text)
    kept = (c for c in breaks if c in "\n\t" or (unicodedata.category(c) not in ("Cc", "Cs") and c != "\ufeff"))
    clean = "".join(kept).strip()
    return clean if any(unicodedata.category(c) != "Cf" and not c.isspace() for c in clean) else ""


def is_encodable(text: str) -> bool:
    """Return whether a text can be encoded in UTF-8. Half of a surrogate pair cannot, though JSON can escape it."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Log handlers that write UTF-8 fail over half of a surrogate pair, which a plugin's message may contain.
def escape_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs by their escapes, so that the text can be encoded."""
    return text if is_encodable(text) else text.encode("utf-8", "backslashreplace").decode()


# Carriage returns, vertical tabs, form feeds, information separators and "next line" become line feeds. If they were
# removed like other control characters, the words on both sides would become one.
_ODD_BREAKS = re.compile(r"\r\n?|[\v\f\x1c-\x1f\x85]")


def strip_invisible(text: str) -> str:
    """Remove invisible characters from a message: they can show the rest in another order, or as other words.

    A text to be spoken may hold such characters (`clean_text` keeps them), for scripts and emoji need some. In a
    message they only serve to make it read as something else (https://trojansource.codes/).

    >>> strip_invisible("all is well \u202edaem fo dne\u202c")
    'all is well daem fo dne'
    """
    if text.isprintable() and text.isascii():
        return text
    return "".join(" " if c in _SEPARATORS else c for c in text if c in "\n\t" or not _is_hidden(c))


def _is_hidden(character: str) -> bool:
    return character in _BLANK_LETTERS or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn")


def hide_quotations(message: str, text: str) -> str:
    """Replace what a message quotes of a text by `[text]`: 12 characters or more in a row, or all of it in quotes.

    Runs of blanks count as one blank. What a message has beyond its first 1,000 characters is cut off, because the time
    grows with both lengths.

    >>> hide_quotations("cannot speak 'my PIN is 4711, he said'", "My PIN? Oh, my PIN is 4711, he said.")
    "cannot speak '[text]'"
    """
    words = " ".join(text.split())
    if not words:
        return message
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + "…"
    for quotes in _QUOTES:
        left, right = quotes[0], quotes[1]
        message = message.replace(f"{left}{words}{right}", f"{left}{_HIDDEN_TEXT}{right}")
    kept, start, length = [], 0, len(message)
    while start < length:
        end = start + _QUOTATION
        if end > length or message[start:end] not in words:
            kept.append(message[start])
            start += 1
            continue
        while end < length and message[start : end + 1] in words:
            end += 1
        kept.append(_HIDDEN_TEXT)
        start = end
    return "".join(kept)


_MAX_MESSAGE = 1_000
_QUOTATION = 12  # characters that a message and a text share by more than chance
_HIDDEN_TEXT = "[text]"
_QUOTES = ("''", '""', "``", "“”", "‘’", "«»", "„“")

_SEPARATORS = "\u2028\u2029"  # of lines and paragraphs
_BLANK_LETTERS = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))
)
"""Invisible characters that are not in the format category: fillers, joiners, variation selectors."""


def count_letters_and_digits(text: str) -> int:
    """Count the letters and digits, which are the characters that take time to say.

    >>> count_letters_and_digits("Well, well!"), count_letters_and_digits("-----")
    (8, 0)
    """
    if text.isascii():
        return len(text.encode().translate(None, _ASCII_SILENT))
    return sum(character.isalnum() for character in text)


_ASCII_SILENT = bytes(code for code in range(128) if not chr(code).isalnum())
