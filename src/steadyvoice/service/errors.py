"""The one error that belongs to two worlds: a refusal by a circuit, as speech errors tell it."""

from __future__ import annotations

from steadyvoice.breaker import CircuitOpenError, CircuitState
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import FailureKind


class TTSCircuitOpenError(TTSError, CircuitOpenError):
    """The provider's circuit refuses calls. `retry_after` is in seconds; `last_error` is what opened it."""

    kind = FailureKind.CIRCUIT_OPEN

    def __init__(self, refusal: CircuitOpenError) -> None:
        name, state, reason, retry_after, _ = refusal._about  # asking it for each would take as long as all the rest
        TTSError.__init__(self, f"circuit {_WORDS[state]}: {reason}", provider=name, retry_after=retry_after)
        self._about = refusal._about  # which the other parent has just made its own


_WORDS = {state: state.value.replace("_", "-") for state in CircuitState}
