"""What ElevenLabs knows of an account: its credit, and how many requests it has running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from steadyvoice.simulator.refusal import Refusal, RefusedError
from steadyvoice.wire.elevenlabs.account import Subscription


class Credit:
    """Counts characters. They are charged when a request is accepted, whatever becomes of it."""

    def __init__(self, used: int, limit: int, reset: int | None = None) -> None:
        self.used = used
        self.limit = limit
        self.reset = reset  # Unix seconds; it is told, and does not come by itself

    @property
    def subscription(self) -> Subscription:
        return Subscription(self.used, self.limit, next_reset_unix=self.reset, tier="pro")

    def charge(self, characters: int) -> None:
        """Take them off. Raises RefusedError when there are not enough: a shorter text may still pass."""
        remaining = max(0, self.limit - self.used)
        if characters > remaining:
            message = (
                f"This request exceeds your quota of {self.limit}. You have {remaining} credits remaining, "
                f"while {characters} credits are required for this request."
            )
            raise RefusedError(Refusal("quota_exceeded", message))
        self.used += characters


class Gate:
    """Lets so many requests run at once; one more waits a moment for its turn, then is refused.

    ElevenLabs queues for about 50 ms: https://elevenlabs.io/docs/overview/models#concurrency-and-priority
    """

    def __init__(self, limit: int, patience: float) -> None:
        self.limit = limit
        self.running = 0
        self.peak = 0
        self._patience = patience
        self._places = asyncio.Semaphore(limit)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[int]:
        """Hold a place, and tell how many are taken, this one included. Raises RefusedError."""
        await self._enter()
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            yield self.running
        finally:
            self.running -= 1
            self._places.release()

    async def _enter(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            message = (
                f"Too many concurrent requests. Your current subscription is associated with a maximum of "
                f"{self.limit} concurrent requests (running in parallel)."
            )
            raise RefusedError(Refusal("concurrent_limit_exceeded", message)) from None
