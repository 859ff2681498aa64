"""What callers hand in to be spoken: made clean, cut to size, and guessed in length."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

SECONDS_PER_CHARACTER = 0.06
"""About 1,000 characters a minute, by ElevenLabs' own table of character limits (docs, "Models")."""

_SENTENCE_END = re.compile(r"""[.!?…]+["'”’)\]]*\s+|[。！？]+["'”’」』）]*\s*|\n\s*""")
_CLAUSE_END = re.compile(r"[,;:–—、，；：]+\s*")
_BLANK = re.compile(r"\s+")


def cleaned(text: str) -> str:
    """Drop what no voice can speak: control characters, lone surrogates, byte-order marks; trim the ends.

    Line breaks and tabs stay, for they are pauses. Nothing else is changed.
    """
    kept = (c for c in text if c in "\n\t" or (unicodedata.category(c) not in ("Cc", "Cs") and c != "\ufeff"))
    return "".join(kept).strip()


def speakable(text: str) -> int:
    """Count the letters and digits: what takes time to say. "-----" takes none."""
    return sum(character.isalnum() for character in text)


def sentences(text: str) -> list[str]:
    """Split after each sentence. The pieces, joined, are the text again."""
    return list(_pieces(text, _SENTENCE_END))


def first_piece(text: str, limit: int) -> str:
    """Cut the longest beginning of at most `limit` characters that ends where a speaker would breathe.

    That is after a sentence; failing that after a clause, a word, or, in a text without any, anywhere.
    """
    if limit < 1:
        raise ValueError(f"limit: at least one character, got {limit}")
    if len(text) <= limit:
        return text
    # One character more, so that an end exactly at the limit is seen.
    head = text[:limit]
    for ends in (_SENTENCE_END, _CLAUSE_END, _BLANK):
        cuts = [match.end() for match in ends.finditer(head) if match.end() <= limit]
        # A cut in the first tenth would leave a crumb to be spoken on its own.
        if cuts and (cuts[-1] >= limit // 10 or ends is _BLANK):
            return head[: cuts[-1]]
    return head


def split(text: str, limit: int) -> list[str]:
    """Cut a text into pieces of at most `limit` characters. Joined, they are the text again."""
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
