"""Classification of any exception as a TTSError, and the speech error of an open circuit."""

from __future__ import annotations

from steadyvoice.breaker import CircuitOpenError, CircuitState
from steadyvoice.breaker.failure_classification import is_cancellation, iter_leaf_errors
from steadyvoice.speech.errors import (
    TTSConnectError,
    TTSError,
    TTSReadTimeoutError,
    TTSUnexpectedError,
    copy_without_traceback,
)
from steadyvoice.speech.failure_kinds import FailureKind


class TTSCircuitOpenError(TTSError, CircuitOpenError):
    """The provider's circuit refuses calls. `retry_after` is in seconds; `last_error` is what opened it."""

    kind = FailureKind.CIRCUIT_OPEN

    def __init__(self, refusal: CircuitOpenError) -> None:
        name, state, reason, retry_after, _ = refusal._refusal_fields  # its attributes take as long as all the rest
        TTSError.__init__(self, f"circuit {_WORDS[state]}: {reason}", provider=name, retry_after=retry_after)
        self._refusal_fields = refusal._refusal_fields  # which the other parent has just made its own


_WORDS = {state: state.value.replace("_", "-") for state in CircuitState}


def classify(error: Exception | BaseExceptionGroup[BaseException], provider: str) -> TTSError:
    """Name what happened. Timeouts and broken connections of any library are told by their standard base classes.

    A group, such as `asyncio.TaskGroup` raises, amounts to the one in it that counts most, or to the first of these.
    """
    if isinstance(error, BaseExceptionGroup) and (named := _most_significant(error, provider)):
        return named
    match error:
        case TTSError():
            error.provider = error.provider or provider
            return error
        case CircuitOpenError():  # of another circuit, further in
            named = TTSCircuitOpenError(error)
            named.provider = named.provider or provider
        case TimeoutError():
            named = TTSReadTimeoutError(_told("timed out", error), provider=provider)
        case ConnectionError():
            named = TTSConnectError(_told("the connection failed", error), provider=provider)
        case _:
            named = TTSUnexpectedError(_told(type(error).__name__, error), provider=provider)
    named.__cause__ = error
    return named


def _most_significant(group: BaseExceptionGroup[BaseException], provider: str) -> TTSError | None:
    """The one that counts most in a circuit, without those that tell only that somebody went away."""
    named = [
        classify(error, provider)
        for error in iter_leaf_errors(group)
        if isinstance(error, Exception) and not is_cancellation(error)
    ]
    if not named:
        return None
    telling = copy_without_traceback(max(named, key=lambda error: 0.0 if error.starved else error.meaning.counts))
    telling.__cause__ = group
    return telling


def _told(what: str, error: BaseException) -> str:
    said = str(error)
    return f"{what}: {said}" if said else what
