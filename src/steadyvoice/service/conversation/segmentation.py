"""Incremental segmentation: the end of the next segment in a text that is still being written.

A sentence has ended when the word behind it is complete, because that word decides: "Dr" and ". Smith" are no two
sentences. Pure.
"""

from __future__ import annotations

import unicodedata
from typing import Protocol

from steadyvoice.service.pipeline.text_splitting import find_sentence_ends
from steadyvoice.speech.sentences import LOOK_AHEAD, leading_piece, leading_sentences, sentence_ends
from steadyvoice.speech.word_timing import word_boundaries

MIN_SEGMENT = 60
"""Characters of a segment, if there are so many: shorter sentences are sent together with the next, for the prosody."""

MAX_SEGMENT = 240
"""Characters of a sentence that is still being written, above which it is sent in two parts."""

_WIDE_ENDS = frozenset("。！？｡")  # sentences end here whatever follows
_SENTENCE_MARKS = frozenset(".!?…؟۔।॥։።፧។៕\n") | _WIDE_ENDS


def clean_piece(text: str) -> str:
    """Replace characters that cannot be spoken, and odd line breaks, so that all offsets stay.

    See `steadyvoice.speech.text.clean_text`, which removes them.
    """
    if text.isprintable():
        return text
    return "".join(map(_cleaned, text))


class Sliceable(Protocol):
    """Text of which slices are taken."""

    def __getitem__(self, place: slice, /) -> str: ...


def next_segment_end(
    text: Sliceable, begin: int, complete: int, *, first: bool, limit: int, language: str | None = None
) -> int | None:
    """Return the end of the next segment of a text, from `begin` on; None if more text has to be waited for.

    The text up to `complete` is known to be finished. A segment has at most `limit` characters; the `first` one ends
    with its first sentence, so that it is heard as soon as possible.

    >>> next_segment_end("I asked Dr", 0, 0, first=True, limit=400)
    >>> next_segment_end("I asked Dr. Smith today. He", 0, 0, first=True, limit=400)
    >>> next_segment_end("I asked Dr. Smith today. He ", 0, 0, first=True, limit=400)
    25
    """
    at_least = 1 if first else MIN_SEGMENT
    if complete > begin:
        # No more than has to be examined: the rest may be long, and each of its segments is looked for.
        rest = text[begin : min(complete, begin + limit + LOOK_AHEAD)]
        if rest.isspace():
            return begin + len(rest)
        return begin + len(
            leading_sentences(rest, limit, at_least=at_least, language=language, find=find_sentence_ends)
        )
    longest = min(limit, MAX_SEGMENT)
    rest = text[begin : begin + 3 * longest]
    # Called for each token, most of which end nothing.
    if len(rest) <= longest and _SENTENCE_MARKS.isdisjoint(rest):
        return None
    known = known_words(rest)
    end = 0
    for each in sentence_ends(rest, language, find_sentence_ends):
        if each > limit or not (each < known or (each < len(rest) and rest[:each].rstrip()[-1] in _WIDE_ENDS)):
            break
        end = each
        if end >= at_least:
            break
    # A short sentence is not held back for the sake of the next one: the listener may be waiting for it.
    if end:
        return begin + end
    if known > longest:
        return begin + len(leading_piece(rest[:known], longest, language, find_sentence_ends))
    if len(rest) > 2 * longest:  # a text without blanks
        return begin + len(leading_piece(rest, longest, language, find_sentence_ends))
    return None


def known_words(text: str) -> int:
    """Return the offset behind the last word that is complete, because a boundary follows it."""
    if not text:
        return 0
    last = 0
    for boundary in word_boundaries(text):
        last = boundary
    return len(text) if text[-1].isspace() else last


def _cleaned(character: str) -> str:
    if character in "\n\t":
        return character
    return " " if character == "\ufeff" or unicodedata.category(character) in ("Cc", "Cs") else character
