"""What all doors of one simulator share."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from steadyvoice.providers.provider import Provider
from steadyvoice.simulator.account import Credit, Gate
from steadyvoice.simulator.elevenlabs import ElevenLabsDialect
from steadyvoice.simulator.faults import Faults
from steadyvoice.simulator.ledger import Ledger
from steadyvoice.simulator.memory import Memory
from steadyvoice.simulator.openai import OpenAIDialect
from steadyvoice.simulator.settings import Settings


@dataclass(frozen=True, slots=True)
class Vendor:
    """Both vendors behind one port, with one voice, one ledger and one set of faults."""

    settings: Settings
    voice: Memory
    faults: Faults
    ledger: Ledger
    credit: Credit
    gate: Gate
    elevenlabs: ElevenLabsDialect
    openai: OpenAIDialect
    _ids: Random = field(repr=False)

    @classmethod
    def of(cls, settings: Settings, engine: Provider, faults: Faults, ledger: Ledger) -> Vendor:
        """Open for business."""
        return cls(
            settings,
            Memory(engine),
            faults,
            ledger,
            Credit(settings.character_count, settings.character_limit, settings.character_reset or None),
            Gate(settings.concurrency, settings.queue_seconds),
            ElevenLabsDialect(settings),
            OpenAIDialect(settings),
            Random(settings.seed),
        )

    def new_request_id(self) -> str:
        """Twenty letters and digits, as ElevenLabs' are."""
        return f"{self._ids.getrandbits(80):020x}"
