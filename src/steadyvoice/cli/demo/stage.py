"""What the story is played on: vendors that misbehave on cue, and a backup that can be unplugged."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from steadyvoice.cli.demo.chronicle import Charged
from steadyvoice.cli.demo.story import BACKUP, VENDOR, Happening
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.providers.espeak import Espeak, installed
from steadyvoice.providers.provider import Accepted, Audio, Offer, Provider
from steadyvoice.providers.tone import Tone
from steadyvoice.simulator import Simulator
from steadyvoice.simulator.acts import Act, Hang, Refuse, TooShort
from steadyvoice.speech.errors import TTSLocalCrashError
from steadyvoice.speech.request import SpeechRequest


@dataclass(frozen=True, slots=True)
class Stage:
    """Two vendors alike, so that neither client is in the other's way, and one backup."""

    vendor: Simulator
    bare_vendor: Simulator
    backup: Unpluggable

    @staticmethod
    @asynccontextmanager
    async def set_up(seed: int) -> AsyncIterator[Stage]:
        """Start everything, on this machine only."""
        async with Simulator(voice="auto", seed=seed) as vendor, Simulator(voice="auto", seed=seed) as bare_vendor:
            yield Stage(vendor, bare_vendor, Unpluggable(_local_voice()))

    @property
    def providers(self) -> list[Provider]:
        """In order of preference."""
        return [ElevenLabs("demo", name=VENDOR, base_url=self.vendor.url), self.backup]

    @property
    def bare_url(self) -> str:
        return self.bare_vendor.url

    @property
    def charged(self) -> Charged:
        """What the two vendors have charged for."""
        return Charged(self.vendor.ledger.charged, self.bare_vendor.ledger.charged)

    def happen(self, what: Happening) -> None:
        """Let something happen to a voice, from now on."""
        match what:
            case Happening.BACKUP_GOES | Happening.BACKUP_RETURNS:
                self.backup.plugged = what is Happening.BACKUP_RETURNS
            case _:
                for simulator in (self.vendor, self.bare_vendor):
                    simulator.faults.set(*_FAULTS[what])


_FAULTS: dict[Happening, tuple[Act, ...]] = {
    Happening.CUTS_SHORT: (TooShort(),),
    Happening.FAILS: (Refuse(status=503, message="temporarily unavailable"),),
    Happening.HANGS: (Hang(),),
    Happening.RECOVERS: (),
}


class Unpluggable:
    """Any provider, until somebody pulls its plug."""

    local = True

    def __init__(self, provider: Provider) -> None:
        self.name = provider.name
        self.plugged = True
        self._provider = provider

    def offer(self, request: SpeechRequest) -> Offer:
        return self._provider.offer(request)

    async def speak(
        self, request: SpeechRequest, offer: Offer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | Audio, None]:
        if not self.plugged:
            raise TTSLocalCrashError("it is unplugged", provider=self.name)
        async for part in self._provider.speak(request, offer, connection_timeout=connection_timeout):
            yield part

    async def aclose(self) -> None:
        await self._provider.aclose()


def _local_voice() -> Provider:
    """Another voice than the simulator's, so that one hears who speaks."""
    return Espeak(name=BACKUP, voices={"default": "en-us+f3"}) if installed() else Tone(name=BACKUP)
