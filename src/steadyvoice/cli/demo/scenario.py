"""Scenario of the demo: utterances and incidents as data, and the simulated providers they happen to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum

from steadyvoice.breaker import CircuitBreakerConfig, CircuitState
from steadyvoice.cli.demo.results import ChargedCharacters, CircuitChange, DemoRecord
from steadyvoice.providers.base import Accepted, AudioChunk, Provider, SynthesisOffer
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.providers.espeak import Espeak, is_installed
from steadyvoice.providers.tone import Tone
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.retry import RetryConfig
from steadyvoice.simulator import Simulator
from steadyvoice.simulator.fault_injection.actions import FaultAction, Hang, Refuse, TooShort
from steadyvoice.speech.errors import TTSLocalCrashError
from steadyvoice.speech.request import SpeechRequest

VENDOR, BACKUP = "elevenlabs", "backup"


class Incident(Enum):
    """What befalls a voice; the value is how it behaves from then on: a word or two, and more after a colon."""

    CUTS_SHORT = "cuts short: it stops in the middle, and calls that a success"
    FAILS = "answers 503"
    HANGS = "hangs: it accepts, and never answers"
    RECOVERS = "is well again"
    BACKUP_GOES = "is gone: somebody unplugged it"
    BACKUP_RETURNS = "is back: somebody plugged it in again"


@dataclass(frozen=True, slots=True)
class ScheduledIncident:
    """Something happens at a second of the story."""

    at: float
    what: Incident


@dataclass(frozen=True, slots=True)
class ScheduledUtterance:
    """Something is said at a second of the story; or as soon as the vendor's cooldown is over, if that is later."""

    at: float
    text: str
    after_cooldown: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """A morning in half a minute. `scale` stretches or shrinks every time in it, the circuit's and the clocks' too."""

    lines: tuple[ScheduledUtterance, ...]
    cues: tuple[ScheduledIncident, ...]
    length: float
    circuit: CircuitBreakerConfig
    timeouts: TimeoutConfig
    retry: RetryConfig

    @classmethod
    def usual(cls, scale: float = 1.0) -> Scenario:
        """The one that `steadyvoice demo` tells."""
        return Scenario(
            lines=tuple(replace(line, at=line.at * scale) for line in _UTTERANCES),
            cues=tuple(replace(cue, at=cue.at * scale) for cue in _INCIDENTS),
            length=_LENGTH * scale,
            circuit=CircuitBreakerConfig(
                failure_threshold=0.5,
                window_size=6,
                cooldown_period=3.0 * scale,
                cooldown_backoff=2.0,
                success_threshold=2,
            ),
            timeouts=TimeoutConfig(first_audio_timeout=1.5 * scale),
            retry=RetryConfig(base_delay=0.1 * scale),
        )


_UTTERANCES = (
    ScheduledUtterance(0.0, "Good morning. This is the first voice, and all is well."),
    ScheduledUtterance(1.6, "It belongs to a vendor, and it answers quickly."),
    ScheduledUtterance(3.2, "An application that speaks has few worries today."),
    ScheduledUtterance(
        5.0, "Now the vendor stops in the middle of its sentences. The backup says the whole of this one."
    ),
    ScheduledUtterance(7.0, "Now it answers with errors. That is one failure too many, and its circuit opens."),
    ScheduledUtterance(8.2, "While the circuit is open, nobody waits for the vendor."),
    ScheduledUtterance(9.2, "The backup speaks at once."),
    ScheduledUtterance(
        11.6, "The cooldown is over. One call asks the vendor again, but it hangs: back to the backup.", True
    ),
    ScheduledUtterance(13.8, "The circuit is open again, and for longer this time."),
    ScheduledUtterance(
        15.4, "Now the backup is gone as well. This sentence is silence, and does not pretend otherwise."
    ),
    ScheduledUtterance(17.0, "The backup is back. The vendor is still left alone."),
    ScheduledUtterance(20.2, "The vendor is well again, and a single call has found out. This is its own voice.", True),
    ScheduledUtterance(21.8, "A second call agrees, and the circuit closes."),
    ScheduledUtterance(23.4, "The first voice is back, and nobody had to do anything."),
    ScheduledUtterance(25.0, "Good night."),
)

_INCIDENTS = (
    ScheduledIncident(4.4, Incident.CUTS_SHORT),
    ScheduledIncident(6.4, Incident.FAILS),
    ScheduledIncident(10.4, Incident.HANGS),
    ScheduledIncident(14.8, Incident.BACKUP_GOES),
    ScheduledIncident(16.4, Incident.BACKUP_RETURNS),
    ScheduledIncident(18.0, Incident.RECOVERS),
)

_LENGTH = 26.0


def missing_events(chronicle: DemoRecord) -> list[str]:
    """What should have happened, and did not. Nothing: the story is true."""
    path = [move.after for move in chronicle.moves if move.circuit == VENDOR]
    heard = [(answer.outcome, answer.provider) for answer in chronicle.answers]
    expected = {
        "the vendor's circuit opens, reopens after a failed probe, and closes again": path == _EXPECTED_STATES,
        "the second cooldown is longer than the first": _cooldowns_grow(chronicle.moves),
        "an open circuit refuses calls": any(answer.refusals for answer in chronicle.answers),
        "the backup speaks while the vendor cannot": ("substituted", BACKUP) in heard,
        "without any voice there is silence": ("muted", None) in heard,
        "the first voice speaks at the end": heard[-1:] == [("spoken", VENDOR)],
    }
    return [what for what, happened in expected.items() if not happened]


_EXPECTED_STATES = [
    CircuitState.OPEN,
    CircuitState.HALF_OPEN,
    CircuitState.OPEN,
    CircuitState.HALF_OPEN,
    CircuitState.CLOSED,
]


def _cooldowns_grow(moves: tuple[CircuitChange, ...]) -> bool:
    cooldowns = [move.retry_after or 0.0 for move in moves if move.after is CircuitState.OPEN]
    return len(cooldowns) > 1 and cooldowns == sorted(set(cooldowns))


@dataclass(frozen=True, slots=True)
class DemoEnvironment:
    """Two vendors alike, so that neither client is in the other's way, and one backup."""

    vendor: Simulator
    bare_vendor: Simulator
    backup: SwitchableProvider

    @staticmethod
    @asynccontextmanager
    async def set_up(seed: int) -> AsyncIterator[DemoEnvironment]:
        """Start everything, on this machine only."""
        async with Simulator(voice="auto", seed=seed) as vendor, Simulator(voice="auto", seed=seed) as bare_vendor:
            yield DemoEnvironment(vendor, bare_vendor, SwitchableProvider(_local_voice()))

    @property
    def providers(self) -> list[Provider]:
        """In order of preference."""
        return [ElevenLabs("demo", name=VENDOR, base_url=self.vendor.url), self.backup]

    @property
    def bare_url(self) -> str:
        return self.bare_vendor.url

    @property
    def charged(self) -> ChargedCharacters:
        """What the two vendors have charged for."""
        return ChargedCharacters(self.vendor.ledger.charged, self.bare_vendor.ledger.charged)

    def happen(self, what: Incident) -> None:
        """Let something happen to a voice, from now on."""
        match what:
            case Incident.BACKUP_GOES | Incident.BACKUP_RETURNS:
                self.backup.plugged = what is Incident.BACKUP_RETURNS
            case _:
                for simulator in (self.vendor, self.bare_vendor):
                    simulator.faults.set(*_FAULTS[what])


_FAULTS: dict[Incident, tuple[FaultAction, ...]] = {
    Incident.CUTS_SHORT: (TooShort(),),
    Incident.FAILS: (Refuse(status=503, message="temporarily unavailable"),),
    Incident.HANGS: (Hang(),),
    Incident.RECOVERS: (),
}


class SwitchableProvider:
    """Any provider, until somebody pulls its plug."""

    local = True

    def __init__(self, provider: Provider) -> None:
        self.name = provider.name
        self.plugged = True
        self._provider = provider

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return self._provider.offer(request)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        if not self.plugged:
            raise TTSLocalCrashError("it is unplugged", provider=self.name)
        async for part in self._provider.speak(request, offer, connection_timeout=connection_timeout):
            yield part

    async def aclose(self) -> None:
        await self._provider.aclose()


def _local_voice() -> Provider:
    """Another voice than the simulator's, so that one hears who speaks."""
    return Espeak(name=BACKUP, voices={"default": "en-us+f3"}) if is_installed() else Tone(name=BACKUP)
