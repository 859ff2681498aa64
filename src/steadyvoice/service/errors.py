"""The one error that belongs to two worlds: a refusal by a circuit, as speech errors tell it."""

from __future__ import annotations

from steadyvoice.breaker import CircuitOpenError
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.taxonomy import Kind


class TTSCircuitOpenError(TTSError, CircuitOpenError):
    """The provider's circuit refuses calls. `retry_after` is in seconds; `last_error` is what opened it."""

    kind = Kind.CIRCUIT_OPEN

    def __init__(self, refusal: CircuitOpenError) -> None:
        self._about = refusal._about
        message = f"circuit {self.state.value.replace('_', '-')}: {self.reason}"
        TTSError.__init__(self, message, provider=self.name, retry_after=refusal.retry_after)
