"""Failure as it is shown: in snapshots, explanations and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """Failure as it is shown. `latency` in seconds is None if it was not measured; `at` is the time of day in UTC."""

    kind: str  # name of the exception's class, or a word of the caller's
    message: str  # text of the failure
    at: datetime
    latency: float | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind
