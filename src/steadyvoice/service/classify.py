"""Any exception of a call, as the TTSError it amounts to."""

from __future__ import annotations

from steadyvoice.breaker import CircuitOpenError
from steadyvoice.breaker.failure import errors_in, is_departure
from steadyvoice.service.errors import TTSCircuitOpenError
from steadyvoice.speech.errors import (
    TTSConnectError,
    TTSError,
    TTSReadTimeoutError,
    TTSUnexpectedError,
    copy_without_traceback,
)


def classified(error: Exception | BaseExceptionGroup[BaseException], provider: str) -> TTSError:
    """Name what happened. Timeouts and broken connections of any library are told by their standard base classes.

    A group, such as `asyncio.TaskGroup` raises, amounts to the one in it that counts most, or to the first of these.
    """
    if isinstance(error, BaseExceptionGroup) and (named := _most_telling(error, provider)):
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


def _most_telling(group: BaseExceptionGroup[BaseException], provider: str) -> TTSError | None:
    """The one that counts most in a circuit, without those that tell only that somebody went away."""
    named = [
        classified(error, provider)
        for error in errors_in(group)
        if isinstance(error, Exception) and not is_departure(error)
    ]
    if not named:
        return None
    telling = copy_without_traceback(max(named, key=lambda error: 0.0 if error.starved else error.meaning.counts))
    telling.__cause__ = group
    return telling


def _told(what: str, error: BaseException) -> str:
    said = str(error)
    return f"{what}: {said}" if said else what
