"""Where words begin: the places in a text from which another voice may go on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from steadyvoice.speech.markup import MarkedText, marked_text

# Chinese and Japanese write no blanks. There a word surely begins behind a mark, and, in Japanese, where kanji follow
# kana: "私は|東京に|行く". An honorific belongs to what follows it: "お|金" is one word.
_MARKS = "、。，；：！？…」』）”’"
_KANA = "\u3041-\u3096\u30a1-\u30fa\u30fc"
_KANJI = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_BEGIN = re.compile(
    rf"(?<=\s)(?=\S)"
    rf"|(?<=[{_MARKS}])(?=[{_KANA}{_KANJI}「『（])"
    rf"|(?<=[{_KANA}])(?<![おご])(?=[{_KANJI}])"
)


def longest_word(text: str) -> int:
    """Count the characters of the longest word, blanks behind it included. Thai has no blanks: it may be all of it.

    >>> longest_word("Well, it rains.")
    6
    """
    return max(end - begin for begin, end in pairwise((0, *word_begins(text), len(text))))


def word_begins(text: str, marked: MarkedText | None = None) -> Iterator[int]:
    """Give the offset of each word but the first.

    >>> list(word_begins("Well, it rains."))
    [6, 9]
    >>> list(word_begins('Well, <break time="1s"/> it rains.'))
    [6, 25, 28]

    No word begins inside of markup, or of what is pronounced as one: half of a tag would be read aloud. `marked` is the
    text with its markup, if that is known.
    """
    first = len(text) - len(text.lstrip())
    marked = marked or marked_text(text)
    solid = iter(marked.solid_markup if marked else ())
    one = next(solid, None)
    for found in _BEGIN.finditer(text):
        while one and one.stop <= found.start():
            one = next(solid, None)
        if found.start() > first and not (one and one.start < found.start()):
            yield found.start()
