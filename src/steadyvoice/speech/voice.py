"""A voice as it is declared, and which of several is most like another: by what is declared, for nobody listens."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from steadyvoice.speech.errors import TTSConfigurationError

T = TypeVar("T")

Gender = Literal["female", "male", "neutral"]

_TAG = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")
_UNDECLARED_RATE_DISTANCE = math.log(1.25)  # how far away a rate is that nobody declared: a quarter faster
_UNDECLARED_LOUDNESS_DISTANCE = 6.0  # dB, likewise


@dataclass(frozen=True, slots=True)
class Voice:
    """One of a provider's voices: its own id for it, and what is declared of it, so that one like it can stand in.

    `language` is a BCP 47 tag, such as "en" or "de-AT"; `rate` the words a minute that it speaks at its usual pace
    (150 is common); `loudness` the LUFS of its speech: integrated loudness, as in ITU-R BS.1770 (-20 is common).

    Raises TTSConfigurationError, which names the field.
    """

    id: str
    language: str | None = None
    gender: Gender | None = None
    rate: float | None = None
    loudness: float | None = None

    def __post_init__(self) -> None:
        if not is_valid_voice_id(self.id):
            raise TTSConfigurationError(f"id: not a voice id: {self.id!r}")
        if self.language is not None and not is_language_tag(self.language):
            raise TTSConfigurationError(f"language: must be a tag such as 'en' or 'de-AT', got {self.language!r}")
        if self.gender is not None and self.gender not in get_args(Gender):
            raise TTSConfigurationError(f"gender: must be one of {', '.join(get_args(Gender))}, got {self.gender!r}")
        _check("rate", self.rate, 20, 1000, "words a minute")
        _check("loudness", self.loudness, -70, 0, "LUFS")

    @property
    def has_traits(self) -> bool:
        """Whether anything is declared of it."""
        return any(trait is not None for trait in (self.language, self.gender, self.rate, self.loudness))


def is_language_tag(tag: object) -> bool:
    """Whether it has the shape of a BCP 47 tag; `_` will do for `-`."""
    return isinstance(tag, str) and bool(_TAG.fullmatch(tag))


def is_valid_voice_id(voice: object) -> bool:
    """Whether it could be a voice's id. Dots alone would walk up the path of a URL, and what cannot be printed has no
    business in one.
    """
    return isinstance(voice, str) and len(voice) <= 200 and voice.isprintable() and voice.strip(". ") != ""


def most_similar_voice(wanted: Voice, voices: Iterable[Voice]) -> Voice:
    """Choose who stands in: the very same voice if it is there, else the first of those that differ the least."""
    return min(voices, key=lambda voice: (voice.id != wanted.id, voice_distance(voice, wanted)))


def voice_distance(voice: Voice, wanted: Voice) -> tuple[float, float, float, float]:
    """Say how a voice differs from the one wanted, the gravest first: in language, gender, rate and loudness.

    0 is as wanted, or nobody said what is wanted. What is not declared is worse than that, and better than what is
    declared to be something else: of rates, more than a quarter faster or slower; of loudness, more than 6 dB away.
    """
    return (
        _trait_distance(voice.language, wanted.language, _language_distance, unknown=2),
        _trait_distance(voice.gender, wanted.gender, lambda one, other: 2.0 * (one != other), unknown=1),
        _trait_distance(
            voice.rate, wanted.rate, lambda one, other: abs(math.log(one / other)), unknown=_UNDECLARED_RATE_DISTANCE
        ),
        _trait_distance(
            voice.loudness, wanted.loudness, lambda one, other: abs(one - other), unknown=_UNDECLARED_LOUDNESS_DISTANCE
        ),
    )


def _trait_distance(has: T | None, wanted: T | None, distance: Callable[[T, T], float], *, unknown: float) -> float:
    if wanted is None:
        return 0.0
    return unknown if has is None else distance(has, wanted)


def _language_distance(one: str, other: str) -> float:
    """0 for the same tag, 1 for another kind of the same language, 3 for another language."""
    tag, other_tag = (each.lower().replace("_", "-") for each in (one, other))
    if tag == other_tag:
        return 0.0
    return 1.0 if tag.partition("-")[0] == other_tag.partition("-")[0] else 3.0


def _check(field: str, value: object, least: float, most: float, unit: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise TTSConfigurationError(f"{field}: must be from {least} to {most} {unit}, got {value!r}")
