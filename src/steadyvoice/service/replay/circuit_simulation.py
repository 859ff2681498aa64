"""Circuits of a replay under an alternative: the settings in force, the service's own objects, changes by hand."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from random import Random

from steadyvoice.breaker import CircuitBreaker, CircuitState, Event, StateChanged
from steadyvoice.service.journal.records import ResetLine, Run, SettingsLine, TransitionLine
from steadyvoice.service.replay.alternatives import Alternative, ReplayedProvider, ReplaySettings
from steadyvoice.service.replay.evidence import AttemptOutcome, Evidence
from steadyvoice.service.resilience.error_handler import TTSErrorHandler

SAME_MOMENT = 1e-6
"""Seconds by which times of the same moment differ, after a subtraction."""

Steps = Generator[float, None, None]
"""Process of the simulation: yields the times at which it goes on."""


@dataclass(frozen=True, slots=True)
class Transition:
    """Change of a circuit's state."""

    at: float
    provider: str
    from_state: str
    to_state: str
    cause: str


class VirtualTime:
    """Clock of a simulation, set by its loop."""

    __slots__ = ("now",)

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class SimulatedCircuits:
    """Error handlers of all providers under an alternative, with their circuits, from the virtual time `began` on.

    `transitions` has all changes of circuits so far.
    """

    def __init__(self, run: Run, alternative: Alternative, evidence: Evidence, *, began: float, seed: int) -> None:
        self._alternative, self._evidence = alternative, evidence
        self.clock = VirtualTime(began)
        self._wall_offset = run.wall_offset
        self._rng = Random(seed)
        self._recorded = ReplaySettings.of(run.settings[0])
        self.settings = alternative.apply(self._recorded)
        self.transitions: list[Transition] = []
        self._jitters = {
            (change.provider, change.at): change.jitter
            for change in run.changes
            if isinstance(change, TransitionLine) and change.to_state == CircuitState.OPEN.value
        }
        self.handlers: dict[str, TTSErrorHandler] = {}
        self._use(self.settings)

    @property
    def retries_as_recorded(self) -> bool:
        """True if pauses before retries are the recorded ones."""
        return self.settings.retry == self._recorded.retry

    def timeouts_as_recorded(self, name: str) -> bool:
        """Return whether attempts of a provider are bounded as they were."""
        recorded = next((each for each in self._recorded.providers if each.name == name), None)
        return recorded is not None and recorded.timeouts == self.provider(name).timeouts

    def provider(self, name: str) -> ReplayedProvider:
        """Return a provider with its settings in force."""
        return next(each for each in self.settings.providers if each.name == name)

    def evidence_now(self, name: str) -> AttemptOutcome:
        """Return what a provider did in the recorded attempt that is nearest to the present time."""
        return self._evidence.at(name, self._wall_time())

    def _use(self, settings: ReplaySettings) -> None:
        for provider in settings.providers:
            handler = self.handlers.get(provider.name)
            if handler is None:
                circuit = CircuitBreaker(
                    provider.name,
                    provider.circuit,
                    clock=self.clock,
                    wall_clock=self._wall_time,
                    random=lambda name=provider.name: self._jitter(name),  # type: ignore[misc]
                    listeners=[self._note],
                )
                handler = TTSErrorHandler(
                    provider.name,
                    retry_config=settings.retry,
                    clock=self.clock,
                    wall_clock=self._wall_time,
                    rng=self._rng,
                    circuit=circuit,
                )
                self.handlers[provider.name] = handler
            elif handler.circuit.config != provider.circuit:
                handler.circuit.update(provider.circuit)
            handler.silence_limits.default = provider.timeouts.overdue_after
        self.settings = settings

    def _wall_time(self) -> float:
        return self.clock.now + self._wall_offset

    def _jitter(self, name: str) -> float:
        """Return the random number for a cooldown: the recorded one, if the circuit opened at this time then, too."""
        recorded = self._jitters.get((name, self.clock.now))
        if recorded is None:
            recorded = next(
                (
                    jitter
                    for (other, at), jitter in self._jitters.items()
                    if other == name and abs(at - self.clock.now) < SAME_MOMENT
                ),
                None,
            )
        return self._rng.random() if recorded is None else recorded

    def _note(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            states = event.from_state.value, event.to_state.value
            self.transitions.append(Transition(event.at, event.name, *states, event.cause.value))

    def change_settings(self, line: SettingsLine) -> Steps:
        """Put recorded settings into force, as the alternative changes them."""
        self._recorded = ReplaySettings.of(line)
        self._use(self._alternative.apply(self._recorded))
        yield from ()

    def act(self, change: TransitionLine | ResetLine) -> Steps:
        """Do what was done by hand, or by a fleet; what a circuit did by itself, it does by itself."""
        handler = self.handlers.get(change.provider)
        if handler is not None:
            circuit = handler.circuit
            if isinstance(change, ResetLine):
                circuit.reset()
            elif change.cause in ("manual", "reset"):
                match change.to_state:
                    case "closed":
                        circuit.reset() if change.cause == "reset" else circuit.close()
                    case "forced_open":
                        circuit.force_open("replayed", change.retry_after)
                    case "disabled":
                        circuit.disable()
                    case "monitoring":
                        circuit.monitor()
            elif change.cause in ("adopted", "restored"):
                if change.to_state == "open":
                    circuit.trip("replayed", change.retry_after)
                elif change.to_state == "closed":
                    circuit.recover("replayed")
        yield from ()
