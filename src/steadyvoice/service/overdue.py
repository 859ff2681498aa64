"""How long a provider that works is silent, by voice: a call that has waited longer than that is overdue.

A caller who leaves says nothing of the provider, unless the provider was overdue by then. With one limit for all,
callers who give up on a dead vendor would count for nothing, or impatient ones would open the circuit of one that is
merely slow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from steadyvoice.providers.provider import Offer

FACTOR = 1.5
"""Times the slowest of the recent first audios, where the circuit's settings name no `hung_factor`."""

KNOWN = 5
"""First audios of a voice that must be known; until then its limit is `overdue_after`, or more where it was slower."""

LEAST = 0.5
"""Seconds of silence that are never overdue, however soon the provider answers as a rule."""

REMEMBERED = 50
_VOICES = 200


class FirstAudios:
    """Seconds that one voice of one provider lately took to its first audio."""

    __slots__ = ("_given_up", "_heard", "_owner", "heard")

    def __init__(self, owner: Overdue) -> None:
        self._owner = owner
        self._heard: deque[float] = deque(maxlen=REMEMBERED)
        self.heard = self._heard.append
        """Record the seconds that a call took to its first audio."""
        self._given_up: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def known(self) -> bool:
        """Whether there are enough of them to judge by."""
        return len(self._heard) >= KNOWN

    def given_up(self, seconds: float) -> None:
        """Record that a caller left after so many seconds, when the provider was not overdue.

        Its first audio would have taken longer. Were that left out, only the quick answers of a provider whose callers
        are impatient would be known, and all others would look overdue.
        """
        self._given_up.append(seconds)

    def limit(self, cold: float) -> float:
        """Return the seconds of silence after which a call is overdue; `cold` while too little is known."""
        factor = self._owner.factor
        usual = factor * max(self._heard, default=0.0)
        if not self.known:
            return max(cold, usual)
        # Of those who left not more than `cold` is taken: callers in less and less of a hurry would raise it for ever.
        return max(LEAST, usual, min(cold, factor * max(self._given_up, default=0.0)))


class Overdue:
    """First audios of one provider, by voice and model. `hung_factor` gives the circuit's own factor, or None."""

    def __init__(self, hung_factor: Callable[[], float | None] = lambda: None) -> None:
        self._hung_factor = hung_factor
        self._voices: dict[tuple[str, str | None], FirstAudios] = {}
        self.cold = 3.0
        """Seconds of `overdue_after`, by the settings in force: for the limits that are shown."""

    @property
    def factor(self) -> float:
        """Times the slowest of the recent first audios after which a call is overdue."""
        return self._hung_factor() or FACTOR

    def of(self, offer: Offer) -> FirstAudios:
        """Return the first audios of the voice and model that are offered."""
        key = offer.voice, offer.model
        found = self._voices.get(key)
        if found is None:
            if len(self._voices) >= _VOICES:
                del self._voices[next(iter(self._voices))]
            found = self._voices[key] = FirstAudios(self)
        return found

    def limits(self) -> dict[str, float]:
        """Return the seconds of silence after which a call is overdue, by voice; for several models, the most."""
        limits: dict[str, float] = {}
        for (voice, _), times in self._voices.items():
            if times.known:
                limits[voice] = max(limits.get(voice, 0.0), times.limit(self.cold))
        return limits
