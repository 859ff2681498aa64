"""State that all routes of one simulator share: account, request limit, voice, faults and ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from steadyvoice.providers.base import Provider
from steadyvoice.simulator.elevenlabs import SimulatedElevenLabs
from steadyvoice.simulator.fault_injection.matching import FaultRules
from steadyvoice.simulator.http.response import Rejection, RequestRejectedError
from steadyvoice.simulator.ledger import RequestLedger
from steadyvoice.simulator.openai import SimulatedOpenAI
from steadyvoice.simulator.script import SimulatorSettings
from steadyvoice.simulator.synthesis import EncodedAudioCache
from steadyvoice.wire.elevenlabs.account import Subscription


class CharacterCredit:
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
            raise RequestRejectedError(Rejection("quota_exceeded", message))
        self.used += characters


class RequestLimit:
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
            raise RequestRejectedError(Rejection("concurrent_limit_exceeded", message)) from None


@dataclass(frozen=True, slots=True)
class SimulatedVendor:
    """Both vendors behind one port, with one voice, one ledger and one set of faults."""

    settings: SimulatorSettings
    voice: EncodedAudioCache
    faults: FaultRules
    ledger: RequestLedger
    credit: CharacterCredit
    request_limit: RequestLimit
    elevenlabs: SimulatedElevenLabs
    openai: SimulatedOpenAI
    _ids: Random = field(repr=False)

    @classmethod
    def of(
        cls, settings: SimulatorSettings, engine: Provider, faults: FaultRules, ledger: RequestLedger
    ) -> SimulatedVendor:
        """Open for business."""
        return cls(
            settings,
            EncodedAudioCache(engine),
            faults,
            ledger,
            CharacterCredit(settings.character_count, settings.character_limit, settings.character_reset or None),
            RequestLimit(settings.concurrency, settings.queue_seconds),
            SimulatedElevenLabs(settings),
            SimulatedOpenAI(settings),
            Random(settings.seed),
        )

    def new_request_id(self) -> str:
        """Twenty letters and digits, as ElevenLabs' are."""
        return f"{self._ids.getrandbits(80):020x}"
