"""Text length limits, learned from a vendor's refusals, where they are below the documented ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from steadyvoice.speech.errors import TTSTextTooLongError

LIMIT_LIFETIME = 24 * 3600.0
"""Seconds after which the stated limit is tried again: a refusal costs a request, but no characters."""

MIN_CHARACTERS = 20
"""Number of characters of a text so short that it is not refused for its length."""

_MAX_MODELS = 200  # of one provider; bounded, because callers may invent model names


class _Limit(NamedTuple):
    characters: int
    until: float


class TextLimits:
    """Limits of one provider by model, learned from refusals.

    `clock` returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._limits: dict[str | None, _Limit] = {}

    def max_characters(self, model: str | None, stated: int | None) -> int | None:
        """Return the most characters that one request may have; None if there is no limit."""
        if not self._limits:
            return stated
        learnt = self._current(model)
        return min(stated or learnt, learnt) if learnt else stated

    def learn(self, model: str | None, sent: int, refusal: TTSTextTooLongError) -> bool:
        """Record that a text of so many characters was refused. Return whether a shorter one is worth another request.

        The first refusal may state the limit; if not, or if a text within it is refused, half of the text is the next
        limit. So a text of 40,000 characters is split eleven times at most. A text longer than a known limit teaches
        nothing: it was sent before the limit became known. A refusal of a text of the minimum length is not about its
        length, and the limits that led to it are forgotten.
        """
        if sent <= MIN_CHARACTERS:
            self._limits.pop(model, None)
            return False
        known = self._current(model)
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

    def _current(self, model: str | None) -> int | None:
        limit = self._limits.get(model)
        if limit is None or limit.until > self._clock():
            return limit and limit.characters
        del self._limits[model]
        return None
