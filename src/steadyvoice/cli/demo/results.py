"""Results of a demo run as values. Times are seconds since the scenario began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from steadyvoice.breaker import CircuitState
from steadyvoice.service.result import Outcome


@dataclass(frozen=True, slots=True)
class ProviderChange:
    """Something happened to a provider, unknown to everybody else."""

    at: float
    who: str
    now: str  # how it behaves from here on: a word or two, and more after a colon
    well: bool = False


@dataclass(frozen=True, slots=True)
class UtteranceRequested:
    """A caller asks for an utterance."""

    number: int
    text: str
    asked: float


@dataclass(frozen=True, slots=True)
class CircuitChange:
    """A circuit changed its state."""

    at: float
    circuit: str
    before: CircuitState
    after: CircuitState
    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class UtteranceResult:
    """One utterance, as its caller lived it: asked, and answered with audio. No provider: silence."""

    number: int
    text: str
    asked: float
    answered: float
    outcome: Outcome
    provider: str | None
    duration: float  # of the audio
    failures: tuple[str, ...] = ()  # of those who were asked and failed
    refusals: tuple[str, ...] = ()  # of those who were not even asked

    @property
    def waited(self) -> float:
        return self.answered - self.asked


DirectOutcome = Literal["spoken", "cut short", "failed", "still waiting"]


@dataclass(frozen=True, slots=True)
class DirectResult:
    """The same utterance, asked at the same moment of the same vendor without anything in between."""

    number: int
    asked: float
    ended: float
    outcome: DirectOutcome
    told: str = ""

    @property
    def waited(self) -> float:
        return self.ended - self.asked


@dataclass(frozen=True, slots=True)
class ChargedCharacters:
    """What the vendor charged for, in characters."""

    with_us: int = 0
    without: int = 0


@dataclass(frozen=True, slots=True)
class DemoRecord:
    """All of it. `circuits` in order of preference."""

    length: float
    circuits: tuple[str, ...]
    turns: tuple[ProviderChange, ...]
    moves: tuple[CircuitChange, ...]
    answers: tuple[UtteranceResult, ...]
    bare: tuple[DirectResult, ...]
    charged: ChargedCharacters = ChargedCharacters()


@dataclass(frozen=True, slots=True)
class StateSpan:
    """A circuit stayed in one state for a while."""

    state: CircuitState
    start: float
    stop: float
    reason: str = ""


def state_spans(chronicle: DemoRecord, circuit: str) -> list[StateSpan]:
    """Cut the whole time into the states a circuit was in. Every circuit begins closed."""
    moves = [move for move in chronicle.moves if move.circuit == circuit]
    edges = [0.0, *(move.at for move in moves), chronicle.length]
    states = [CircuitState.CLOSED, *(move.after for move in moves)]
    reasons = ["", *(move.reason for move in moves)]
    return [
        StateSpan(state, edges[i], edges[i + 1], reason)
        for i, (state, reason) in enumerate(zip(states, reasons, strict=True))
    ]


def state_label(state: CircuitState) -> str:
    """Write a state as people do."""
    return state.value.replace("_", "-")
