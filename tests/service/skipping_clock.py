"""Clock that goes on while the event loop stands still, as in a process without processor time."""

from __future__ import annotations

import asyncio

from .conftest import loop_clock


class SkippingClock:
    """Clock of the loop's time, plus the time skipped while the loop did not run."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return loop_clock() + self.skipped

    def skip(self, seconds: float) -> None:
        """Skip so many seconds."""
        self.skipped += seconds

    def skip_at(self, after: float, seconds: float) -> None:
        """Skip seconds after a delay."""
        asyncio.get_running_loop().call_later(after, self.skip, seconds)
