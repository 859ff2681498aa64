"""What may be the end of a sentence, as the library `sentencex` finds it in some 300 languages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from itertools import accumulate

from steadyvoice.speech.sentences import ends_by_marks


def ends_by_library(text: str, language: str) -> Iterable[int]:
    """Give the offsets behind which a sentence may begin. Where there is no library, those behind the marks."""
    try:
        from sentencex import segment  # when it is needed first: four megabytes, and few requests are cut
    except ImportError:
        return ends_by_marks(text, language)
    try:
        pieces = segment(language, text.translate(_BLANKS))
    except (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError):
        raise
    except BaseException:  # a panic of its Rust is no Exception
        return ends_by_marks(text, language)
    if sum(map(len, pieces)) != len(text):  # it would cut at the wrong places
        return ends_by_marks(text, language)
    ends = accumulate(map(len, pieces))
    if "\u17d4" in text or "\u17d5" in text:
        return sorted({*ends, *(mark.end() for mark in _KHMER.finditer(text))})
    return ends


# A blank of several bytes behind a capital letter makes it panic, in some languages. U+3000 is the last of Unicode's.
_BLANKS = {code: "\n" if code in (0x2028, 0x2029) else " " for code in range(0x80, 0x3001) if chr(code).isspace()}
_KHMER = re.compile(r"[\u17d4\u17d5]+\s*")  # marks that the library does not know
