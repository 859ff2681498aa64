"""Limits on the length of a text, as a vendor's refusals teach them: below what its documentation says."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from steadyvoice.speech.errors import TTSTextTooLongError

LIMIT_LIFETIME = 24 * 3600.0
"""Seconds after which the stated limit is tried again: a refusal costs a request, but no characters."""

MIN_CHARACTERS = 20
"""Characters: a text as short as this is not refused for its length."""

_MAX_MODELS = 200  # of one provider; callers may make up names


class _Limit(NamedTuple):
    characters: int
    until: float


class TextLimits:
    """One provider's limits by model, learnt from refusals. `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._limits: dict[str | None, _Limit] = {}

    def most(self, model: str | None, stated: int | None) -> int | None:
        """Return how many characters one request may have. None: any number."""
        if not self._limits:
            return stated
        learnt = self._learnt(model)
        return min(stated or learnt, learnt) if learnt else stated

    def learn(self, model: str | None, sent: int, refusal: TTSTextTooLongError) -> bool:
        """Note that so many characters were too many. Return whether fewer are worth another request.

        The first refusal may name the limit; if not, or if a text within that is refused, half of it is the next limit.
        So a text of 40,000 characters is cut eleven times at most. A text that was longer than a known limit tells
        nothing new: it was on its way when the limit became known. A refusal of a text that is as short as can be is
        not about its length, and what led there is forgotten.
        """
        if sent <= MIN_CHARACTERS:
            self._limits.pop(model, None)
            return False
        known = self._learnt(model)
        if known is not None and sent > known:
            return True
        named = refusal.limit
        characters = max(MIN_CHARACTERS, sent // 2)
        if named is not None and known is None and MIN_CHARACTERS <= named < sent:
            characters = named
        self._limits.pop(model, None)
        self._limits[model] = _Limit(characters, self._clock() + LIMIT_LIFETIME)
        if len(self._limits) > _MAX_MODELS:
            del self._limits[next(iter(self._limits))]
        return True

    def _learnt(self, model: str | None) -> int | None:
        limit = self._limits.get(model)
        if limit is None or limit.until > self._clock():
            return limit and limit.characters
        del self._limits[model]
        return None
