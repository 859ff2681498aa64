"""State that all routes of one simulator share: account, request limit, voice, faults and ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from steadyvoice.providers.base import Provider
from steadyvoice.simulator.azure import SimulatedAzure
from steadyvoice.simulator.cartesia import SimulatedCartesia
from steadyvoice.simulator.deepgram import SimulatedDeepgram
from steadyvoice.simulator.elevenlabs import SimulatedElevenLabs
from steadyvoice.simulator.fault_injection.matching import FaultRules
from steadyvoice.simulator.google import SimulatedGoogle
from steadyvoice.simulator.http.response import Rejection, RequestRejectedError
from steadyvoice.simulator.ledger import RequestLedger
from steadyvoice.simulator.openai import SimulatedOpenAI
from steadyvoice.simulator.polly import SimulatedPolly
from steadyvoice.simulator.script import SimulatorSettings
from steadyvoice.simulator.synthesis import EncodedAudioCache, entries_of
from steadyvoice.simulator.vendor_dialect import VendorDialect
from steadyvoice.wire.elevenlabs.catalog import Subscription

FURTHER_VENDORS: tuple[type[VendorDialect], ...] = (
    SimulatedAzure,
    SimulatedCartesia,
    SimulatedDeepgram,
    SimulatedGoogle,
    SimulatedPolly,
)
"""Vendors besides ElevenLabs and OpenAI."""


class CharacterCredit:
    """Credit of an account in characters, charged when a request is accepted, whatever its outcome."""

    def __init__(self, used: int, limit: int, reset: int | None = None) -> None:
        self.used = used
        self.limit = limit
        # Only reported: the credit is not refilled at that time.
        self.reset = reset  # Unix seconds

    @property
    def subscription(self) -> Subscription:
        """Subscription as ElevenLabs' endpoint reports it."""
        return Subscription(self.used, self.limit, next_reset_unix=self.reset, tier="pro")

    def charge(self, characters: int) -> None:
        """Charge characters. Raises RequestRejectedError if fewer are left; a shorter text may still be accepted."""
        remaining = max(0, self.limit - self.used)
        if characters > remaining:
            message = (
                f"This request exceeds your quota of {self.limit}. You have {remaining} credits remaining, "
                f"while {characters} credits are required for this request."
            )
            raise RequestRejectedError(Rejection("quota_exceeded", message))
        self.used += characters


class RequestLimit:
    """Limit of concurrent requests. A request beyond it waits up to `queue_timeout` seconds, then is rejected.

    ElevenLabs queues for about 50 ms: https://elevenlabs.io/docs/overview/models#concurrency-and-priority
    """

    def __init__(self, limit: int, queue_timeout: float) -> None:
        self.limit = limit
        self.running = 0
        self.peak = 0
        self._queue_timeout = queue_timeout
        self._slots = asyncio.Semaphore(limit)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[int]:
        """Hold a slot, and yield the number of slots in use. Raises RequestRejectedError."""
        await self._acquire()
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            yield self.running
        finally:
            self.running -= 1
            self._slots.release()

    async def _acquire(self) -> None:
        # `asyncio.timeout` with a time of 0 would expire even where a slot is free.
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(self._queue_timeout):
                await self._slots.acquire()
        except TimeoutError:
            message = (
                f"Too many concurrent requests. Your current subscription is associated with a maximum of "
                f"{self.limit} concurrent requests (running in parallel)."
            )
            raise RequestRejectedError(Rejection("concurrent_limit_exceeded", message)) from None


@dataclass(frozen=True, slots=True)
class SimulatedVendor:
    """State of all vendors behind one port: one voice, one ledger and one set of fault rules."""

    settings: SimulatorSettings
    voice: EncodedAudioCache
    faults: FaultRules
    ledger: RequestLedger
    credit: CharacterCredit
    request_limit: RequestLimit
    elevenlabs: SimulatedElevenLabs
    openai: SimulatedOpenAI
    further: Sequence[VendorDialect]
    _ids: Random = field(repr=False)

    @classmethod
    def create(
        cls, settings: SimulatorSettings, engine: Provider, faults: FaultRules, ledger: RequestLedger
    ) -> SimulatedVendor:
        """Return a vendor with full credit and no running requests."""
        return cls(
            settings,
            EncodedAudioCache(engine, entries_of(settings.voice)),
            faults,
            ledger,
            CharacterCredit(settings.character_count, settings.character_limit, settings.character_reset or None),
            RequestLimit(settings.concurrency, settings.queue_seconds),
            SimulatedElevenLabs(settings),
            SimulatedOpenAI(settings),
            [dialect(settings) for dialect in FURTHER_VENDORS],
            Random(settings.seed),
        )

    def new_request_id(self) -> str:
        """Return a request id of twenty characters, the length of ElevenLabs' ids."""
        return f"{self._ids.getrandbits(80):020x}"
