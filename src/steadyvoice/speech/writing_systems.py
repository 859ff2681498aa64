"""Writing systems (scripts) of texts and of languages.

Scripts have their Unicode names: "Latin", "Cyrillic", "Han" (Chinese characters), "Hiragana".
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

LATIN = frozenset({"Latin"})

_MAX_FOREIGN_SHARE = 1 / 3
"""Largest share of letters in unsupported scripts: a few foreign words may be skipped; with more the sense is lost."""


def count_scripts(text: str) -> Counter[str]:
    """Count the letters of each script. Digits, marks, punctuation and emoji belong to none.

    >>> count_scripts("Да, 42 times!")
    Counter({'Latin': 5, 'Cyrillic': 2})
    """
    if text.isascii():
        letters = len(text.encode().translate(None, _ASCII_NON_LETTERS))
        return Counter(Latin=letters) if letters else Counter()
    found: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if script := _script(character):
            found[script] += count
    return found


def is_latin(text: str) -> bool:
    """Return whether a text is in ASCII and has letters."""
    return text.isascii() and text.lower() != text.upper()


def unsupported_script(found: Counter[str], scripts: frozenset[str] | None) -> str | None:
    """Return the most frequent unsupported script of a text if more than a third of its letters are in such, else None.

    `found` is the result of `count_scripts`. `scripts` are the supported ones; None means unknown: all are supported.

    >>> unsupported_script(count_scripts("Привет, Anna!"), LATIN)
    'Cyrillic'
    >>> unsupported_script(count_scripts("Say 世界 to all of them!"), LATIN)
    """
    if scripts is None or scripts >= found.keys():
        return None
    foreign = Counter({script: count for script, count in found.items() if script not in scripts})
    if foreign.total() <= _MAX_FOREIGN_SHARE * found.total():
        return None
    return foreign.most_common(1)[0][0]


def scripts_of_languages(languages: Iterable[str]) -> frozenset[str] | None:
    """Return the scripts that a voice of these languages (BCP 47) reads; None if one of the languages is unknown.

    Latin is always included: names and quotations in it occur in all languages.

    >>> sorted(scripts_of_languages(["en", "ja-JP"]))
    ['Han', 'Hiragana', 'Katakana', 'Latin']
    """
    bases = [language.lower().replace("_", "-").partition("-")[0] for language in languages]
    if not all(base in _SCRIPTS_OF_LANGUAGE for base in bases):
        return None
    return LATIN.union(*(_SCRIPTS_OF_LANGUAGE[base] for base in bases))


def usual_language(script: str) -> str | None:
    """Return the language most often written in a script. None for Latin, which many languages share, and if unknown.

    >>> usual_language("Cyrillic")
    'ru'
    """
    languages = None if script in LATIN else _LANGUAGES_OF_SCRIPT.get(script)
    return languages.split()[0] if languages else None


@lru_cache(4096)
def _script(character: str) -> str | None:
    """Return the script of a character, None if it is no letter.

    The standard library has no table of scripts, but letters' names begin with them: CYRILLIC SMALL LETTER PE.
    """
    plain = unicodedata.normalize("NFKC", character)[0]  # full-width and mathematical letters are plain ones, too
    # Symbols such as "㊊" and "🄰" are made of letters, but voices may leave them unspoken like other symbols.
    if not unicodedata.category(plain).startswith("L") or unicodedata.category(character) == "So":
        return None
    first = unicodedata.name(plain, "").partition(" ")[0].partition("-")[0]
    return _SCRIPT_OF_NAME.get(first, first.capitalize()) or None


_ASCII_NON_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
_SCRIPT_OF_NAME = {"CJK": "Han", "IDEOGRAPHIC": "Han", "MODIFIER": "", "FEMININE": "", "MASCULINE": ""}

# Scripts of living languages by https://cldr.unicode.org, the most usual language of each first. A language that is
# missing here may be written in any script.
_LANGUAGES_OF_SCRIPT: Mapping[str, str] = {
    "Arabic": "ar ckb fa ku ps sd ug ur",
    "Armenian": "hy hyw",
    "Bengali": "bn as bpy",
    "Cherokee": "chr",
    "Cyrillic": "ru ab az ba be bg bs cv kk ky mk mn nog os sr tg tk tt uk uz",
    "Devanagari": "hi bho kok mai mr ne sa",
    "Ethiopic": "am ti",
    "Georgian": "ka",
    "Greek": "el grc",
    "Gujarati": "gu",
    "Gurmukhi": "pa",
    "Han": "zh cmn ja ko yue",
    "Hangul": "ko",
    "Hebrew": "he yi",
    "Hiragana": "ja",
    "Kannada": "kn",
    "Katakana": "ja",
    "Khmer": "km",
    "Lao": "lo",
    "Latin": "af an ca ceb cs cy da de en eo es et eu fi fil fr ga gd gl gn ha haw hr ht hu ia id io is it jv kl la lb "
    "lfn ln lt ltg lv mi ms mt nb nci nl nn no ny om pap pl pt qu quc ro sk sl smj so sq sv sw tl tn tr vi xh yo zu",
    "Malayalam": "ml",
    "Mongolian": "mn",
    "Myanmar": "my shn",
    "Oriya": "or",
    "Sinhala": "si",
    "Tamil": "ta",
    "Telugu": "te",
    "Thaana": "dv",
    "Thai": "th",
    "Tibetan": "bo dz",
}


def _invert_languages() -> dict[str, set[str]]:
    written: dict[str, set[str]] = {}
    for script, languages in _LANGUAGES_OF_SCRIPT.items():
        for language in languages.split():
            written.setdefault(language, set()).add(script)
    return written


_SCRIPTS_OF_LANGUAGE = _invert_languages()
