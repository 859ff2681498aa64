"""Failures that a turn and a conversation remember, so that a listener meets each of them once.

A provider that failed in a turn is asked again in it only if no other can speak. In later turns of the conversation it
is not the first choice until some call of it has succeeded, or until a turn probes it with another provider ready. The
circuit has rules of evidence of its own: one failure opens nothing, and helps a lone caller nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from steadyvoice.service.resilience.error_classification import classify
from steadyvoice.service.resilience.error_handler import AttemptHistory, TTSErrorHandler
from steadyvoice.service.resilience.failover import CandidateStatus
from steadyvoice.speech.errors import TTSError

PROBE_AFTER = 15.0
"""Seconds after a failure from which a turn may ask the provider first again. Doubled with each probe that fails."""

_MAX_PROBE_PAUSE = 300.0  # seconds


@dataclass(slots=True)
class _Lapse:
    """Failure of a provider, remembered until some call of it succeeds."""

    successes: int  # calls of the provider that had succeeded by then
    pause: float
    probe_at: float


class ProviderMemory:
    """Memory of one conversation for providers that failed in its turns. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lapses: dict[str, _Lapse] = {}

    def record_failure(self, handler: TTSErrorHandler) -> None:
        """Note that a provider failed in a turn."""
        known = self._lapses.get(handler.name)
        pause = min(2 * known.pause, _MAX_PROBE_PAUSE) if known else PROBE_AFTER
        self._lapses[handler.name] = _Lapse(_successes(handler), pause, self._clock() + pause)

    def avoids(self, handler: TTSErrorHandler) -> bool:
        """Return whether the provider should not be the first choice now."""
        lapse = self._lapses.get(handler.name)
        if lapse and _successes(handler) > lapse.successes:
            del self._lapses[handler.name]
            lapse = None
        return lapse is not None and self._clock() < lapse.probe_at

    def probes(self, handler: TTSErrorHandler) -> bool:
        """Return whether a call now would tell whether the provider works again."""
        return handler.name in self._lapses and not self.avoids(handler) and handler.name in self._lapses


class TurnFailures:
    """Failures of one turn, by provider."""

    def __init__(self, memory: ProviderMemory) -> None:
        self._memory = memory
        self.by_provider: dict[str, TTSError] = {}

    def add(self, handler: TTSErrorHandler, error: Exception) -> None:
        """Record a failure. One that says nothing about the provider is not remembered behind the turn."""
        failure = classify(error, handler.name)
        self.by_provider[handler.name] = failure
        if failure.meaning.circuit_weight and not failure.starved:
            self._memory.record_failure(handler)


class TurnAttemptHistory(AttemptHistory):
    """History of one provider's attempts at a segment, which does not forget failures at earlier ones."""

    def __init__(self, handler: TTSErrorHandler, failures: TurnFailures, *, local: bool, probes: bool) -> None:
        super().__init__(handler, local=local)
        self._failures, self._probes = failures, probes

    def failed(self, error: Exception) -> None:
        """Record an attempt that failed or was refused."""
        tries = self.tries
        super().failed(error)
        if self.tries > tries:
            self._failures.add(self.handler, error)

    def fresh_copy(self) -> TurnAttemptHistory:
        """Return an empty history of the same provider, for another text."""
        return TurnAttemptHistory(self.handler, self._failures, local=self.local, probes=self._probes)

    def status(self, *, refused: bool = False, billed: bool = False) -> CandidateStatus:
        """Return the status for the choice of the next provider: after a failure in the turn, behind all others."""
        failed = self.handler.name in self._failures.by_provider
        status = super().status(refused=refused, billed=billed or failed)
        if self._probes and not failed and status.probe is None:
            status = status._replace(probe=self.handler.probe_timeout.seconds)
        return status


def _successes(handler: TTSErrorHandler) -> int:
    return handler.circuit.snapshot().totals.successes
