"""Limit on the bytes that one answer costs between two turns of the event loop.

A vendor that always has bytes ready never makes its reader wait, so nothing else would run: no other request, no
deadline, no signal handler. Whoever reads such bytes spends from a budget and lets the loop turn when it is used up.
"""

from __future__ import annotations

import asyncio

CHUNK_SIZE = 32 * 1024
"""Bytes that are handed on at once. Each is unpacked, scanned and copied, so that what is done between two turns of the
loop, a piece and at most one more, stays below 256 KiB.
"""

STEP_COST = 512
"""Bytes that a step costs besides those it brings: ten thousand empty lines take longer to read than their bytes."""


class WorkBudget:
    """Bytes remaining to one answer until the event loop must turn."""

    __slots__ = ("remaining",)

    def __init__(self) -> None:
        self.remaining = CHUNK_SIZE
        """None or less: the loop must turn before more is done. Where every call counts, it is counted down here."""

    @property
    def exhausted(self) -> bool:
        """Whether the loop must turn before more is done."""
        return self.remaining <= 0

    def spend(self, size: int) -> None:
        """Note that so many bytes were dealt with in one step."""
        self.remaining -= size + STEP_COST

    async def yield_to_loop(self) -> None:
        """Let the event loop turn once, and start anew."""
        self.remaining = CHUNK_SIZE
        await asyncio.sleep(0)
