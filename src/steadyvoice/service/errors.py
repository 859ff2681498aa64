"""The one error that belongs to two worlds: a refusal by a circuit, as speech errors tell it."""

from __future__ import annotations

from steadyvoice.breaker import CircuitOpenError
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.taxonomy import Kind


class TTSCircuitOpenError(TTSError, CircuitOpenError):
    """The provider's circuit refuses calls. `retry_after` is in seconds; `last_error` is what opened it."""

    kind = Kind.CIRCUIT_OPEN

    def __init__(self, refusal: CircuitOpenError) -> None:
        message = f"circuit {refusal.state.value.replace('_', '-')}: {refusal.reason}"
        TTSError.__init__(self, message, provider=refusal.name, retry_after=refusal.retry_after)
        self._about = refusal._about  # which the other parent has just made its own
