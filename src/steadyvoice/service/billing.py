"""Billing and quota: what attempts cost, what was wasted, and how long an account's credit lasts.

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
    """Charge for an attempt, as far as it is known here: no vendor takes an idempotency key (decision 15)."""

    NOT_SENT = "not sent"  # no vendor was reached, or there is none: a local voice
    REFUSED = "refused"  # the vendor answered with an error, which costs nothing
    UNKNOWN = "sent and unknown"  # possibly charged
    BILLED = "billed"  # the vendor stated the cost

    __hash__ = object.__hash__  # Enum's is a Python call, for each request several


@dataclass(frozen=True, slots=True)
class Bill:
    """Cost of one attempt, in the vendor's characters: `characters` were charged, or for UNKNOWN may have been.

    `wasted` is the part whose audio was not delivered.
    """

    charge: Charge = Charge.NOT_SENT
    characters: float = 0.0
    wasted: float = 0.0


FREE = Bill()


def calculate_bill(
    *, accepted: bool, billed: float | None, characters: int, heard: int, error: TTSError | None
) -> Bill:
    """Return the bill for one request of `characters`, of which `heard` were delivered.

    `accepted` is whether the vendor took the request, `billed` the cost that it stated.
    """
    charge = _charge_of(accepted, billed, error)
    if charge in (Charge.NOT_SENT, Charge.REFUSED):
        return Bill(charge)
    cost = float(characters) if billed is None else billed
    return Bill(charge, cost, cost * (1 - heard / characters))


def delivered_bill(billed: float | None, characters: int) -> Bill:
    """Return the bill for a request that was delivered to its end.

    It is the cost that the vendor stated, else possibly that of all characters.
    """
    return Bill(Charge.UNKNOWN, float(characters)) if billed is None else Bill(Charge.BILLED, billed)


def _charge_of(accepted: bool, billed: float | None, error: TTSError | None) -> Charge:
    if billed is not None:
        return Charge.BILLED
    if accepted or error is None or error.meaning.billed is not Billed.NO:
        return Charge.UNKNOWN
    return Charge.NOT_SENT if error.status is None else Charge.REFUSED


class Billing:
    """Sum of the bills of one provider."""

    def __init__(self) -> None:
        self._attempts: Counter[Charge] = Counter()
        self._characters = dict.fromkeys(Charge, 0.0)
        self._wasted: dict[FailureKind, float] = {}

    def add(self, bill: Bill, error: TTSError | None) -> None:
        """Add the bill of an attempt; `error` is what ended it early."""
        self._attempts[bill.charge] += 1
        self._characters[bill.charge] += bill.characters
        if bill.wasted and error:
            self._wasted[error.kind] = self._wasted.get(error.kind, 0.0) + bill.wasted

    def add_unsent(self) -> None:
        """Add an attempt that was refused before anything was sent."""
        self._attempts[Charge.NOT_SENT] += 1

    def add_delivered(self, billed: float | None, characters: int) -> None:
        """Add the bill of an attempt that was delivered to its end: see `delivered_bill`."""
        charge, cost = (Charge.UNKNOWN, float(characters)) if billed is None else (Charge.BILLED, billed)
        self._attempts[charge] += 1
        self._characters[charge] += cost

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready value: attempts by charge, and characters. `wasted` were charged, or may have been."""
        return {
            "attempts": {charge.value.replace(" ", "_"): self._attempts[charge] for charge in Charge},
            "billed": self._characters[Charge.BILLED],
            "unknown": self._characters[Charge.UNKNOWN],
            "wasted": sum(self._wasted.values()),
            "wasted_by": {kind.value: wasted for kind, wasted in self._wasted.items()},
        }


RATE_MEMORY = 3600.0
"""Seconds after which spending counts a third in the present rate."""

_MIN_OBSERVED = 900.0  # seconds: over less, the rate would be that of the first few words

WARNING_TIMES = (24 * 3600.0, 3600.0)
"""Seconds before the end of the credit at which a warning is due."""


@dataclass(frozen=True, slots=True)
class CreditForecast:
    """Remaining credit in the vendor's characters (None: unlimited), the rate of spending, and how long it lasts.

    `ends_in` is in seconds; None if the credit lasts until it is renewed, or indefinitely.
    """

    remaining: float | None
    per_hour: float
    ends_in: float | None
    resets_at: datetime | None


class CreditMeter:
    """Meter of one account's credit: the vendor's latest statement, less what was spent here since."""

    def __init__(self) -> None:
        self._credit: Credit | None = None
        self._resets_in = math.inf  # reading of the caller's clock
        self._spent = 0.0  # characters, decaying exponentially
        self._at = 0.0  # time of that value
        self._began: float | None = None
        self._prices: dict[str | None, float] = {}
        self._remaining: float | None = None
        self._warned = math.inf
        self.is_stated = False
        """Whether the vendor has stated the credit once."""

    def update(self, credit: Credit, now: float, time_of_day: datetime) -> None:
        """Take the vendor's statement of what is left. What others spent since the last one counts towards the rate."""
        if self._remaining is not None and credit.remaining is not None:
            self._spend(max(0.0, self._remaining - credit.remaining), now)
        self._credit, self._remaining, self.is_stated = credit, credit.remaining, True
        reset = credit.resets_at
        self._resets_in = now + (reset - time_of_day).total_seconds() if reset else math.inf

    def add_spending(self, billed: float, characters: int, model: str | None, now: float) -> None:
        """Add a billed request, and learn the model's price per character from it."""
        self._spend(billed, now)
        if self._remaining is not None:
            self._remaining = max(0.0, self._remaining - billed)
        if characters:
            self._prices[model] = billed / characters

    def cost(self, characters: int, model: str | None) -> float:
        """Estimate the cost of a text by what the model's last text cost per character."""
        return characters * self._prices.get(model, 1.0)

    def forecast(self, now: float) -> CreditForecast | None:
        """Forecast the end of the credit; None until the vendor has stated it once."""
        if self._credit is None:
            return None
        rate = self._rate(now)
        ends_in = self._remaining / rate if self._remaining is not None and rate > 0 else None
        if ends_in is not None and now + ends_in >= self._resets_in:
            ends_in = None
        return CreditForecast(self._remaining, rate * 3600.0, ends_in, self._credit.resets_at)

    def warning(self, now: float) -> CreditForecast | None:
        """Return the forecast if the end has come within a warning time that was not reported yet."""
        forecast = self.forecast(now)
        if forecast is None:
            return None
        near = min((bound for bound in WARNING_TIMES if (forecast.ends_in or math.inf) <= bound), default=math.inf)
        is_due = near < self._warned
        # Rearmed only when the end has moved twice as far away: a rate that wavers would repeat the warning.
        if is_due or (forecast.ends_in or math.inf) > 2 * self._warned:
            self._warned = near
        return forecast if is_due else None

    def _spend(self, amount: float, now: float) -> None:
        if self._began is None:
            self._began = now
        self._spent = self._spent * math.exp((self._at - now) / RATE_MEMORY) + amount
        self._at = now

    def _rate(self, now: float) -> float:
        """Return characters per second: the decayed sum over the decayed observation time."""
        if self._began is None:
            return 0.0
        observed = max(_MIN_OBSERVED, now - self._began)
        spent = self._spent * math.exp((self._at - now) / RATE_MEMORY)
        return spent / (RATE_MEMORY * -math.expm1(-observed / RATE_MEMORY))
