"""Results of a demo run as values. Times are seconds since the scenario began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from steadyvoice.breaker import CircuitState
from steadyvoice.service.result import Outcome


@dataclass(frozen=True, slots=True)
class ProviderChange:
    """Change of a provider's behavior, which neither client is informed of."""

    at: float
    provider: str
    now: str  # its behavior from here on: a short label, and details after a colon
    well: bool = False


@dataclass(frozen=True, slots=True)
class UtteranceRequested:
    """Request for an utterance."""

    number: int
    text: str
    requested_at: float


@dataclass(frozen=True, slots=True)
class CircuitChange:
    """Transition of a circuit."""

    at: float
    circuit: str
    before: CircuitState
    after: CircuitState
    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class UtteranceResult:
    """Result of an utterance through steadyvoice. A provider of None means silence."""

    number: int
    text: str
    requested_at: float
    answered_at: float
    outcome: Outcome
    provider: str | None
    duration: float  # of the audio
    failures: tuple[str, ...] = ()  # errors of providers that were asked
    refusals: tuple[str, ...] = ()  # errors of providers whose circuit was open

    @property
    def waited(self) -> float:
        """Seconds from request to answer."""
        return self.answered_at - self.requested_at


DirectOutcome = Literal["spoken", "cut short", "failed", "still waiting"]


@dataclass(frozen=True, slots=True)
class DirectResult:
    """Result of the same utterance, requested at the same moment from the vendor alone."""

    number: int
    requested_at: float
    ended: float
    outcome: DirectOutcome
    detail: str = ""

    @property
    def waited(self) -> float:
        """Seconds from request to the end."""
        return self.ended - self.requested_at


@dataclass(frozen=True, slots=True)
class ChargedCharacters:
    """Characters that the vendor has charged, with and without steadyvoice."""

    with_us: int = 0
    without: int = 0


@dataclass(frozen=True, slots=True)
class DemoRecord:
    """Record of a demo run. `circuits` are in order of preference."""

    length: float
    circuits: tuple[str, ...]
    provider_changes: tuple[ProviderChange, ...]
    circuit_changes: tuple[CircuitChange, ...]
    results: tuple[UtteranceResult, ...]
    direct_results: tuple[DirectResult, ...]
    charged: ChargedCharacters = ChargedCharacters()


@dataclass(frozen=True, slots=True)
class StateSpan:
    """Span of time in which a circuit had one state."""

    state: CircuitState
    start: float
    stop: float
    reason: str = ""


def state_spans(record: DemoRecord, circuit: str) -> list[StateSpan]:
    """Return the states of a circuit over the whole run, in order. Every circuit begins closed."""
    moves = [move for move in record.circuit_changes if move.circuit == circuit]
    edges = [0.0, *(move.at for move in moves), record.length]
    states = [CircuitState.CLOSED, *(move.after for move in moves)]
    reasons = ["", *(move.reason for move in moves)]
    return [
        StateSpan(state, edges[i], edges[i + 1], reason)
        for i, (state, reason) in enumerate(zip(states, reasons, strict=True))
    ]


def state_label(state: CircuitState) -> str:
    """Return the name of a state for display."""
    return state.value.replace("_", "-")
