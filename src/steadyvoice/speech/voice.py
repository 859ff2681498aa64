"""Voices as they are declared, and the choice of the most similar one as a fallback voice."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from steadyvoice._option_rules import Number, OneOf, OptionRule
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.option_validation import validate_option

T = TypeVar("T")

Gender = Literal["female", "male", "neutral"]

_TAG = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")
_TRAIT_RULES: Mapping[str, OptionRule] = {
    "gender": OneOf(get_args(Gender)),
    "rate": Number("words a minute", minimum=20, maximum=1000),
    "loudness": Number("LUFS", minimum=-70, maximum=0),
}
# Distances of a trait that is not declared: worse than a small difference, better than a large one.
_UNDECLARED_RATE_DISTANCE = math.log(1.25)  # as if a quarter faster
_UNDECLARED_LOUDNESS_DISTANCE = 6.0  # dB


@dataclass(frozen=True, slots=True)
class Voice:
    """Voice of a provider: the provider's id for it, and the declared traits by which a fallback voice is chosen.

    `language` is a BCP 47 tag, such as "en" or "de-AT"; `rate` the usual speech rate in words a minute (150 is common);
    `loudness` the integrated loudness in LUFS, as in ITU-R BS.1770 (-20 is common).

    Raises TTSConfigurationError, which names the field.
    """

    id: str  # the provider's id of the voice
    language: str | None = None
    gender: Gender | None = None  # "female", "male" or "neutral", None if unknown
    rate: float | None = None
    loudness: float | None = None

    def __post_init__(self) -> None:
        if not is_valid_voice_id(self.id):
            raise TTSConfigurationError(f"id: not a voice id: {self.id!r}")
        if self.language is not None and not is_language_tag(self.language):
            raise TTSConfigurationError(f"language: must be a tag such as 'en' or 'de-AT', got {self.language!r}")
        for name, rule in _TRAIT_RULES.items():
            if (value := getattr(self, name)) is not None:
                validate_option(name, value, rule)

    @property
    def has_traits(self) -> bool:
        """True if any trait is declared."""
        return any(trait is not None for trait in (self.language, self.gender, self.rate, self.loudness))


def is_language_tag(tag: object) -> bool:
    """Return whether a value has the form of a BCP 47 tag, with `_` or `-` as separator."""
    return isinstance(tag, str) and bool(_TAG.fullmatch(tag))


def is_valid_voice_id(voice: object) -> bool:
    """Return whether a value could be a voice id: printable, at most 200 characters, not only dots and blanks.

    Ids become a segment of a URL's path, where dots alone would refer to a parent.
    """
    return isinstance(voice, str) and len(voice) <= 200 and voice.isprintable() and voice.strip(". ") != ""


def most_similar_voice(target: Voice, voices: Iterable[Voice]) -> Voice:
    """Return the voice with the same id if there is one, else the first of those with the least distance."""
    return min(voices, key=lambda voice: (voice.id != target.id, voice_distance(voice, target)))


def voice_distance(voice: Voice, target: Voice) -> tuple[float, float, float, float]:
    """Return the distances of a voice from the wanted one, most important first: language, gender, rate, loudness.

    0 means as wanted, or that nothing is wanted. An undeclared trait is worse than that, and better than one declared
    to be different: for rates, more than a quarter faster or slower; for loudness, more than 6 dB away.
    """
    return (
        _trait_distance(voice.language, target.language, _language_distance, unknown=2),
        _trait_distance(voice.gender, target.gender, lambda one, other: 2.0 * (one != other), unknown=1),
        _trait_distance(
            voice.rate, target.rate, lambda one, other: abs(math.log(one / other)), unknown=_UNDECLARED_RATE_DISTANCE
        ),
        _trait_distance(
            voice.loudness, target.loudness, lambda one, other: abs(one - other), unknown=_UNDECLARED_LOUDNESS_DISTANCE
        ),
    )


def _trait_distance(has: T | None, target: T | None, distance: Callable[[T, T], float], *, unknown: float) -> float:
    if target is None:
        return 0.0
    return unknown if has is None else distance(has, target)


def _language_distance(one: str, other: str) -> float:
    """Return 0 for the same tag, 1 for another variant of the same language, 3 for another language."""
    tag, other_tag = (each.lower().replace("_", "-") for each in (one, other))
    if tag == other_tag:
        return 0.0
    return 1.0 if tag.partition("-")[0] == other_tag.partition("-")[0] else 3.0
