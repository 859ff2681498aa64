"""A clock that time passes on while the event loop does not run, as it does for a process without processor time."""

from __future__ import annotations

import asyncio

from .conftest import loop_clock


class SkippingClock:
    """The loop's time, and what passed while the loop did not run."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return loop_clock() + self.skipped

    def skip(self, seconds: float) -> None:
        """Keep the loop from running for so long."""
        self.skipped += seconds

    def skip_at(self, after: float, seconds: float) -> None:
        """Do so in so many seconds."""
        asyncio.get_running_loop().call_later(after, self.skip, seconds)
