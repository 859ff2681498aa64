"""Any exception of a call, as the TTSError it amounts to."""

from __future__ import annotations

from steadyvoice.speech.errors import TTSConnectError, TTSError, TTSReadTimeoutError, TTSUnexpectedError


def classified(error: Exception, provider: str) -> TTSError:
    """Name what happened. Timeouts and broken connections of any library are told by their standard base classes."""
    match error:
        case TTSError():
            error.provider = error.provider or provider
            return error
        case TimeoutError():
            named: TTSError = TTSReadTimeoutError(_told("timed out", error), provider=provider)
        case ConnectionError():
            named = TTSConnectError(_told("the connection failed", error), provider=provider)
        case _:
            named = TTSUnexpectedError(_told(type(error).__name__, error), provider=provider)
    named.__cause__ = error
    return named


def _told(what: str, error: Exception) -> str:
    said = str(error)
    return f"{what}: {said}" if said else what
