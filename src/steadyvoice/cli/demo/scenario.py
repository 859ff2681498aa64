"""Scenario of the demo: utterances and incidents as data, and the simulated providers they happen to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum

from steadyvoice.breaker import CircuitBreakerConfig, CircuitState
from steadyvoice.cli.demo.results import ChargedCharacters, CircuitChange, DemoRecord
from steadyvoice.providers import espeak, neural
from steadyvoice.providers.base import Accepted, AudioChunk, Provider, SupportsWarmUp, SynthesisOffer
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.providers.espeak import Espeak
from steadyvoice.providers.neural import Neural
from steadyvoice.providers.tone import Tone
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.resilience.retry import RetryConfig
from steadyvoice.simulator import Simulator
from steadyvoice.simulator.fault_injection.actions import FaultAction, Hang, Refuse, TooShort
from steadyvoice.speech.errors import TTSLocalCrashError
from steadyvoice.speech.request import SpeechRequest

VENDOR, BACKUP = "elevenlabs", "backup"


class Incident(Enum):
    """Incident of a provider. The value is its behavior from then on: a short label, and details after a colon."""

    CUTS_SHORT = "cuts answers short: it stops in the middle, and reports success"
    FAILS = "answers 503"
    HANGS = "hangs: it accepts requests, and never answers"
    RECOVERS = "has recovered"
    BACKUP_GOES = "is unavailable: switched off"
    BACKUP_RETURNS = "is available again: switched on"


@dataclass(frozen=True, slots=True)
class ScheduledIncident:
    """Incident at a second of the scenario."""

    at: float
    incident: Incident


@dataclass(frozen=True, slots=True)
class ScheduledUtterance:
    """Utterance at a second of the scenario, or after the vendor's cooldown if that ends later (`after_cooldown`)."""

    at: float
    text: str
    after_cooldown: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """Scenario of the demo: utterances, incidents, and the settings of the service. Times are in seconds."""

    utterances: tuple[ScheduledUtterance, ...]
    incidents: tuple[ScheduledIncident, ...]
    length: float
    circuit: CircuitBreakerConfig
    timeouts: TimeoutConfig
    retry: RetryConfig

    @classmethod
    def usual(cls, scale: float = 1.0) -> Scenario:
        """Return the scenario of `steadyvoice demo`. `scale` multiplies all times, those of the settings included."""
        return Scenario(
            utterances=tuple(replace(line, at=line.at * scale) for line in _UTTERANCES),
            incidents=tuple(replace(cue, at=cue.at * scale) for cue in _INCIDENTS),
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
    ScheduledUtterance(0.0, "Good morning. This is the first voice, and everything works."),
    ScheduledUtterance(1.6, "It belongs to a cloud provider that answers quickly."),
    ScheduledUtterance(3.2, "The application only sends its texts and plays the audio."),
    ScheduledUtterance(5.0, "Now the provider stops in the middle of its sentences. The backup says all of this one."),
    ScheduledUtterance(7.0, "Now it answers with errors. Too many calls have failed, and its circuit opens."),
    ScheduledUtterance(8.2, "While the circuit is open, no call waits for the provider."),
    ScheduledUtterance(9.2, "The backup answers at once."),
    ScheduledUtterance(11.6, "The cooldown is over. One probe asks the provider again, but it hangs.", True),
    ScheduledUtterance(13.8, "The circuit is open again, with a longer cooldown."),
    ScheduledUtterance(15.4, "Now the backup is unavailable as well. This sentence is silence, reported as muted."),
    ScheduledUtterance(17.0, "The backup is available again. The provider is still not asked."),
    ScheduledUtterance(20.2, "The provider has recovered, and a single probe has found out. This is its voice.", True),
    ScheduledUtterance(21.8, "A second probe succeeds, and the circuit closes."),
    ScheduledUtterance(23.4, "The first voice is back, without any intervention."),
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


def missing_events(record: DemoRecord) -> list[str]:
    """Return the expected events that did not happen, empty if all did."""
    path = [move.after for move in record.circuit_changes if move.circuit == VENDOR]
    results = [(answer.outcome, answer.provider) for answer in record.results]
    expected = {
        "the vendor's circuit opens, reopens after a failed probe, and closes again": path == _EXPECTED_STATES,
        "the second cooldown is longer than the first": _cooldowns_grow(record.circuit_changes),
        "an open circuit refuses calls": any(answer.refusals for answer in record.results),
        "the backup answers while the vendor cannot": ("substituted", BACKUP) in results,
        "without any provider the answer is muted": ("muted", None) in results,
        "the first provider answers at the end": results[-1:] == [("spoken", VENDOR)],
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
    """Two identical simulated vendors, one for each client so that they do not interfere, and a backup provider."""

    vendor: Simulator
    direct_vendor: Simulator
    backup: SwitchableProvider

    @staticmethod
    @asynccontextmanager
    async def set_up(seed: int) -> AsyncIterator[DemoEnvironment]:
        """Start both simulators, on this machine only."""
        # Both clients get a simulator of their own with the same seed, so that they do not interfere.
        async with Simulator(voice="auto", seed=seed) as vendor, Simulator(voice="auto", seed=seed) as bare_vendor:
            yield DemoEnvironment(vendor, bare_vendor, SwitchableProvider(_local_voice()))

    @property
    def providers(self) -> list[Provider]:
        """Providers of the service, in order of preference."""
        return [ElevenLabs("demo", name=VENDOR, base_url=self.vendor.url), self.backup]

    @property
    def direct_url(self) -> str:
        """URL of the vendor for the client without steadyvoice."""
        return self.direct_vendor.url

    @property
    def charged(self) -> ChargedCharacters:
        """Characters that both vendors have charged so far."""
        return ChargedCharacters(self.vendor.ledger.charged, self.direct_vendor.ledger.charged)

    def apply(self, what: Incident) -> None:
        """Apply an incident to a provider, from now on."""
        match what:
            case Incident.BACKUP_GOES | Incident.BACKUP_RETURNS:
                self.backup.available = what is Incident.BACKUP_RETURNS
            case _:
                for simulator in (self.vendor, self.direct_vendor):
                    simulator.faults.set(*_FAULTS[what])


_FAULTS: dict[Incident, tuple[FaultAction, ...]] = {
    Incident.CUTS_SHORT: (TooShort(),),
    Incident.FAILS: (Refuse(status=503, message="temporarily unavailable"),),
    Incident.HANGS: (Hang(),),
    Incident.RECOVERS: (),
}


class SwitchableProvider:
    """Provider that can be switched off."""

    local = True

    def __init__(self, provider: Provider) -> None:
        self.name = provider.name
        self.available = True
        self._provider = provider

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        return self._provider.offer(request)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        if not self.available:
            raise TTSLocalCrashError("it is switched off", provider=self.name)
        async for part in self._provider.speak(request, offer, connection_timeout=connection_timeout):
            yield part

    def warm_up(self) -> None:
        if isinstance(self._provider, SupportsWarmUp):
            self._provider.warm_up()

    async def aclose(self) -> None:
        await self._provider.aclose()


def _local_voice() -> Provider:
    """Return a local provider with another voice than the simulator's, so that a substitution is audible."""
    if neural.is_installed():
        return Neural(name=BACKUP)
    return Espeak(name=BACKUP, voices={"default": "en-us+f3"}) if espeak.is_installed() else Tone(name=BACKUP)
