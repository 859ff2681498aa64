"""Cooperative scheduling: a budget of bytes that one response may process before the event loop runs other tasks.

A vendor that always has bytes ready never makes its reader wait, so nothing else would run: no other request, no
deadline, no signal handler. A reader of such bytes spends from its budget, and yields to the loop when it is used up.
"""

from __future__ import annotations

import asyncio

CHUNK_SIZE = 32 * 1024
"""Bytes that are handed on at once. Each is decompressed, scanned and copied, so that the work between two iterations
of the loop, a chunk and at most one more, stays below 256 KiB.
"""

STEP_COST = 512
"""Bytes that a step costs besides its data: ten thousand empty lines take longer to read than their bytes do."""


class WorkBudget:
    """Budget of one response, in bytes, until it has to yield to the event loop."""

    __slots__ = ("remaining",)

    def __init__(self) -> None:
        self.remaining = CHUNK_SIZE
        """Bytes left; at zero or below, yield before more work. Hot paths count this attribute down directly."""

    @property
    def exhausted(self) -> bool:
        """Whether the task has to yield before more work."""
        return self.remaining <= 0

    def spend(self, size: int) -> None:
        """Subtract one step that processed `size` bytes."""
        self.remaining -= size + STEP_COST

    async def yield_to_loop(self) -> None:
        """Let the event loop run other tasks once, and reset the budget."""
        self.remaining = CHUNK_SIZE
        await asyncio.sleep(0)
