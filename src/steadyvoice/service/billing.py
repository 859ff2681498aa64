"""Billing: what attempts cost, what was wasted, and how long an account's credit lasts.

Pure accounting without a clock or I/O: times come in as arguments.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from steadyvoice.providers.base import Credit
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import Billed, FailureKind


class Charge(Enum):
    """What became of an attempt in the vendor's books, as far as one can tell from here."""

    NOT_SENT = "not sent"  # it never reached a vendor, or there is none: a local voice
    REFUSED = "refused"  # the vendor said no, which costs nothing
    UNKNOWN = "sent and unknown"  # it may have been charged for
    BILLED = "billed"  # the vendor said what it costs


@dataclass(frozen=True, slots=True)
class Bill:
    """One attempt's. In the vendor's characters: `characters` that were charged, or for UNKNOWN may have been.

    `wasted` of them nobody heard.
    """

    charge: Charge = Charge.NOT_SENT
    characters: float = 0.0
    wasted: float = 0.0


FREE = Bill()


def calculate_bill(
    *, accepted: bool, billed: float | None, characters: int, heard: int, error: TTSError | None
) -> Bill:
    """Settle one request of so many characters that was made to a vendor, of which so many were heard."""
    charge = _charge_of(accepted, billed, error)
    if charge in (Charge.NOT_SENT, Charge.REFUSED):
        return Bill(charge)
    cost = float(characters) if billed is None else billed
    return Bill(charge, cost, cost * (1 - heard / characters))


def _charge_of(accepted: bool, billed: float | None, error: TTSError | None) -> Charge:
    if billed is not None:
        return Charge.BILLED
    if accepted or error is None or error.meaning.billed is not Billed.NO:
        return Charge.UNKNOWN
    return Charge.NOT_SENT if error.status is None else Charge.REFUSED


class Billing:
    """Adds up one provider's."""

    def __init__(self) -> None:
        self._attempts: Counter[Charge] = Counter()
        self._characters = dict.fromkeys(Charge, 0.0)
        self._wasted: dict[FailureKind, float] = {}

    def add(self, bill: Bill, error: TTSError | None) -> None:
        """One more attempt is over; `error` is what ended it early."""
        self._attempts[bill.charge] += 1
        self._characters[bill.charge] += bill.characters
        if bill.wasted and error:
            self._wasted[error.kind] = self._wasted.get(error.kind, 0.0) + bill.wasted

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: attempts by what became of them, and characters. `wasted` were charged, or may have been."""
        return {
            "attempts": {charge.value.replace(" ", "_"): self._attempts[charge] for charge in Charge},
            "billed": self._characters[Charge.BILLED],
            "unknown": self._characters[Charge.UNKNOWN],
            "wasted": sum(self._wasted.values()),
            "wasted_by": {kind.value: wasted for kind, wasted in self._wasted.items()},
        }


RATE_MEMORY = 3600.0
"""Seconds after which what was spent weighs a third in the present rate."""

_MIN_OBSERVED = 900.0  # seconds: a rate from less would be that of the first few words

WARNING_TIMES = (24 * 3600.0, 3600.0)
"""Seconds before the end of the credit at which it is said that it ends."""


@dataclass(frozen=True, slots=True)
class CreditForecast:
    """What is left, in characters as the vendor counts them, the rate at which it goes, and how long it lasts.

    `ends_in` is in seconds: None when it lasts until there is new credit, or for ever.
    """

    remaining: float | None
    per_hour: float
    ends_in: float | None
    resets_at: datetime | None


class CreditMeter:
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

    def forecast(self, now: float) -> CreditForecast | None:
        """How long it will last. None as long as nobody has told what there is."""
        if self._credit is None:
            return None
        rate = self._rate(now)
        ends_in = self._remaining / rate if self._remaining is not None and rate > 0 else None
        if ends_in is not None and now + ends_in >= self._resets_in:
            ends_in = None
        return CreditForecast(self._remaining, rate * 3600.0, ends_in, self._credit.resets_at)

    def warning(self, now: float) -> CreditForecast | None:
        """The forecast, when it has become so near that somebody should know, and does not yet."""
        forecast = self.forecast(now)
        if forecast is None:
            return None
        near = min((bound for bound in WARNING_TIMES if (forecast.ends_in or math.inf) <= bound), default=math.inf)
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
        return self._spent * math.exp((self._at - now) / RATE_MEMORY)

    def _rate(self, now: float) -> float:
        """Characters a second: what has not faded, by how much of a steady one would not have."""
        if self._began is None:
            return 0.0
        watched = max(_MIN_OBSERVED, now - self._began)
        return self._faded(now) / (RATE_MEMORY * -math.expm1(-watched / RATE_MEMORY))
