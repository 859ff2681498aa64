"""Classification of any exception as a TTSError with its failure kind, and the speech error of an open circuit."""

from __future__ import annotations

import msgspec

from steadyvoice.breaker import CircuitOpenError, CircuitState
from steadyvoice.breaker.errors import RefusalFields
from steadyvoice.breaker.failure_classification import is_cancellation, iter_leaf_errors
from steadyvoice.speech.errors import (
    TTSConnectError,
    TTSError,
    TTSHoldError,
    TTSReadTimeoutError,
    TTSUnexpectedError,
    copy_without_traceback,
)
from steadyvoice.speech.failure_kinds import FailureKind


class TTSCircuitOpenError(TTSError, CircuitOpenError):
    """Refusal of a call by the provider's circuit.

    `retry_after` is in seconds; `last_error` is the latest failure, as in `snapshot()`.

    - `refusal`: the circuit's own error.
    """

    kind = FailureKind.CIRCUIT_OPEN

    def __init__(self, refusal: CircuitOpenError) -> None:
        name, state, reason, retry_after, _ = refusal._refusal_fields  # its attributes take as long as all the rest
        TTSError.__init__(self, f"circuit {_WORDS[state]}: {reason}", provider=name, retry_after=retry_after)
        self._refusal_fields = refusal._refusal_fields  # set by the other base class as well, to the same


class ProviderRefusal(msgspec.Struct, frozen=True):
    """Refusal of a provider by its circuit or a hold; the error is made when it is read.

    A structure, because an outage makes one for each utterance that the next provider speaks.
    """

    provider: str
    voice: str | None
    kind: str
    """Value of the error's FailureKind."""
    refused: RefusalFields | TTSHoldError

    @property
    def error(self) -> TTSError:
        """Error with which the call is refused."""
        if isinstance(self.refused, TTSHoldError):
            return self.refused
        return TTSCircuitOpenError(CircuitOpenError.from_fields(self.refused))


_WORDS = {state: state.value.replace("_", "-") for state in CircuitState}


def classify(error: Exception | BaseExceptionGroup[BaseException], provider: str) -> TTSError:
    """Return the TTSError that an exception amounts to; timeouts and connection errors by their standard base classes.

    An exception group, such as `asyncio.TaskGroup` raises, amounts to its member that counts most, or to the first of
    these.
    """
    if isinstance(error, BaseExceptionGroup) and (classified := _most_significant(error, provider)):
        return classified
    match error:
        case TTSError():
            error.provider = error.provider or provider
            return error
        case CircuitOpenError():  # of another circuit, within the call
            classified = TTSCircuitOpenError(error)
            classified.provider = classified.provider or provider
        case TimeoutError():
            classified = TTSReadTimeoutError(_message("timed out", error), provider=provider)
        case ConnectionError():
            classified = TTSConnectError(_message("the connection failed", error), provider=provider)
        case _:
            classified = TTSUnexpectedError(_message(type(error).__name__, error), provider=provider)
    classified.__cause__ = error
    return classified


def _most_significant(group: BaseExceptionGroup[BaseException], provider: str) -> TTSError | None:
    """Return the error of a group that counts most in a circuit, without mere cancellations."""
    classified = [
        classify(error, provider)
        for error in iter_leaf_errors(group)
        if isinstance(error, Exception) and not is_cancellation(error)
    ]
    if not classified:
        return None
    significant = copy_without_traceback(
        max(classified, key=lambda error: 0.0 if error.starved else error.meaning.circuit_weight)
    )
    significant.__cause__ = group
    return significant


def _message(summary: str, error: BaseException) -> str:
    text = str(error)
    return f"{summary}: {text}" if text else summary
