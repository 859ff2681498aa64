"""Failure as it is shown: in snapshots, explanations and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """Failure as it is shown. `latency` is in seconds, None where no clock was running; `at` is the time of day in UTC."""

    kind: str
    message: str
    at: datetime
    latency: float | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind
