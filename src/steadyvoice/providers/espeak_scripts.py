"""Which scripts espeak's voices read, and which they only spell out: "Chinese letter, Chinese letter".

Measured with espeak-ng 1.52, every voice: what it reads takes some 60 ms a letter, what it spells 500 and more. Where
it can, it lets another voice say the foreign word.
"""

from __future__ import annotations

from steadyvoice.speech.writing_systems import scripts_of_languages

_BY_ANY_VOICE = frozenset(
    (
        *("Bengali", "Devanagari", "Georgian", "Greek", "Gujarati", "Gurmukhi"),
        *("Hangul", "Kannada", "Malayalam", "Sinhala", "Tamil"),
    )
)
_BESIDES = {"ka": {"Cyrillic"}, "ltg": {"Cyrillic"}, "lv": {"Cyrillic"}}
_SPELT = {
    **{language: {"Greek"} for language in ("af", "bs", "en", "hr", "lt", "mk", "sr", "vi")},
    **{language: {"Latin"} for language in ("ba", "cv", "hyw", "kok", "ky", "my", "nog", "shn", "ti")},
    **{language: {"Cyrillic"} for language in ("az", "tk")},
    "chr": {"Cherokee"},  # not even spelt: it is silent
    "ja": {"Han", "Latin"},
    "ko": {"Han"},
    "ku": {"Arabic"},
}


def reads(voice: str) -> frozenset[str] | None:
    """Give the scripts that a voice, such as `en-us` or `de+f3`, reads. None: not known.

    >>> "Cyrillic" in reads("ru"), "Cyrillic" in reads("en-us+f3")
    (True, False)
    """
    language = voice.partition("+")[0].partition("-")[0]
    own = scripts_of_languages([language])
    if own is None:
        return None
    return (own | _BY_ANY_VOICE | _BESIDES.get(language, set())) - _SPELT.get(language, set())
