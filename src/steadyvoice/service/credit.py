"""How much credit an account has left, and when it ends at the present rate. It reads no clock and asks nobody."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from steadyvoice.providers.base import Credit

MEMORY = 3600.0
"""Seconds after which what was spent weighs a third in the present rate."""

_LEAST_WATCHED = 900.0  # seconds: a rate from less would be that of the first few words

WARNINGS = (24 * 3600.0, 3600.0)
"""Seconds before the end of the credit at which it is said that it ends."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is left, in characters as the vendor counts them, the rate at which it goes, and how long it lasts.

    `ends_in` is in seconds: None when it lasts until there is new credit, or for ever.
    """

    remaining: float | None
    per_hour: float
    ends_in: float | None
    resets_at: datetime | None


class Meter:
    """Counts what one account spends: what the vendor told of it, less what we spent since."""

    def __init__(self) -> None:
        self._credit: Credit | None = None
        self._resets_in = math.inf  # on the clock of `now`
        self._spent = 0.0  # fading
        self._at = 0.0  # as of when
        self._began: float | None = None
        self._prices: dict[str | None, float] = {}
        self._remaining: float | None = None
        self._warned = math.inf

    def told(self, credit: Credit, now: float, time_of_day: datetime) -> None:
        """The vendor says what is left. What others have spent of it counts towards the rate."""
        if self._remaining is not None and credit.remaining is not None:
            self._spend(max(0.0, self._remaining - credit.remaining), now)
        self._credit, self._remaining = credit, credit.remaining
        reset = credit.resets_at
        self._resets_in = now + (reset - time_of_day).total_seconds() if reset else math.inf

    def spent(self, billed: float, characters: int, model: str | None, now: float) -> None:
        """A request was billed."""
        self._spend(billed, now)
        if self._remaining is not None:
            self._remaining = max(0.0, self._remaining - billed)
        if characters:
            self._prices[model] = billed / characters

    def cost(self, characters: int, model: str | None) -> float:
        """What a text of so many characters will cost, by what the model's last one did."""
        return characters * self._prices.get(model, 1.0)

    def forecast(self, now: float) -> Forecast | None:
        """How long it will last. None as long as nobody has told what there is."""
        if self._credit is None:
            return None
        rate = self._rate(now)
        ends_in = self._remaining / rate if self._remaining is not None and rate > 0 else None
        if ends_in is not None and now + ends_in >= self._resets_in:
            ends_in = None
        return Forecast(self._remaining, rate * 3600.0, ends_in, self._credit.resets_at)

    def warning(self, now: float) -> Forecast | None:
        """The forecast, when it has become so near that somebody should know, and does not yet."""
        forecast = self.forecast(now)
        if forecast is None:
            return None
        near = min((bound for bound in WARNINGS if (forecast.ends_in or math.inf) <= bound), default=math.inf)
        news = near < self._warned
        if news or (forecast.ends_in or math.inf) > 2 * self._warned:  # a rate that wavers is no news
            self._warned = near
        return forecast if news else None

    def _spend(self, amount: float, now: float) -> None:
        if self._began is None:
            self._began = now
        self._spent = self._faded(now) + amount
        self._at = now

    def _faded(self, now: float) -> float:
        return self._spent * math.exp((self._at - now) / MEMORY)

    def _rate(self, now: float) -> float:
        """Characters a second: what has not faded, by how much of a steady one would not have."""
        if self._began is None:
            return 0.0
        watched = max(_LEAST_WATCHED, now - self._began)
        return self._faded(now) / (MEMORY * -math.expm1(-watched / MEMORY))
