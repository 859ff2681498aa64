"""What an attempt may have cost, and how much of it nobody heard; and one provider's sum of that."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any

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


def bill_of(*, accepted: bool, billed: float | None, characters: int, heard: int, error: TTSError | None) -> Bill:
    """Settle one request of so many characters that was made to a vendor, of which so many were heard."""
    charge = _charge(accepted, billed, error)
    if charge in (Charge.NOT_SENT, Charge.REFUSED):
        return Bill(charge)
    cost = float(characters) if billed is None else billed
    return Bill(charge, cost, cost * (1 - heard / characters))


def _charge(accepted: bool, billed: float | None, error: TTSError | None) -> Charge:
    if billed is not None:
        return Charge.BILLED
    if accepted or error is None or error.meaning.billed is not Billed.NO:
        return Charge.UNKNOWN
    return Charge.NOT_SENT if error.status is None else Charge.REFUSED


class Bills:
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
