"""What an error is to an HTTP client: a status, a code, and when to come again. The dialects put it in their words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite

from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import Blame, FailureKind


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error as it is answered. `code` is ours; a dialect that has a word of its own for it uses that."""

    status: int
    code: str
    message: str
    kind: FailureKind | None = None
    retry_after: float | None = None  # seconds
    param: str | None = None


def trouble_of(error: Exception) -> Trouble:
    """Say what an error means to whoever asked."""
    if not isinstance(error, TTSError):
        return Trouble(500, "internal_error", "something here went wrong; the gateway's log says what")
    status = _STATUSES.get(error.kind) or _by_blame(error.meaning.blame)
    if error.kind is FailureKind.ON_HOLD and error.code in _BUSY:  # whoever comes while the vendor's own wait lasts
        status = 429
    return Trouble(status, error.kind.value, str(error), error.kind, error.retry_after, param=_field(error))


def misconfigured(error: TTSError) -> Trouble:
    """Say that a vendor lacks what the configuration names: nothing that whoever asked could do otherwise."""
    told = f"the gateway's configuration has to be changed: {error}"
    return Trouble(_UNAVAILABLE, FailureKind.MISCONFIGURED.value, told, FailureKind.MISCONFIGURED, error.retry_after)


def retry_after_header(seconds: float | None) -> dict[str, str]:
    """Rounded up: who comes back a moment too early is refused once more."""
    return {"retry-after": str(max(1, ceil(seconds)))} if seconds is not None and isfinite(seconds) else {}


_UNAVAILABLE, _TOO_LATE = 503, 504
_BUSY = (FailureKind.BUSY.value, FailureKind.CONCURRENCY.value)

# The gateway's own accounts are not the caller's: that a vendor does not take our key is no 401 to them.
_STATUSES: Mapping[FailureKind, int] = {
    FailureKind.BAD_REQUEST: 400,
    FailureKind.TEXT_TOO_LONG: 400,
    FailureKind.UNSUPPORTED_FORMAT: 400,
    FailureKind.VOICE_UNKNOWN: 404,
    FailureKind.MODEL_UNKNOWN: 404,
    FailureKind.DEADLINE: _TOO_LATE,
    FailureKind.ABANDONED_IN_SILENCE: _TOO_LATE,
    FailureKind.CANCELLED: _UNAVAILABLE,
    FailureKind.BUSY: 429,
    FailureKind.CONCURRENCY: 429,
    FailureKind.CONNECT_TIMEOUT: _TOO_LATE,
    FailureKind.READ_TIMEOUT: _TOO_LATE,
    FailureKind.TOTAL_TIMEOUT: _TOO_LATE,
    FailureKind.STALLED: _TOO_LATE,
    FailureKind.TOO_SLOW: _TOO_LATE,
    FailureKind.OVERLOADED: _UNAVAILABLE,
    FailureKind.CIRCUIT_OPEN: _UNAVAILABLE,
    FailureKind.ON_HOLD: _UNAVAILABLE,
    FailureKind.MISCONFIGURED: 500,
}


def _by_blame(blame: Blame) -> int:
    match blame:
        case Blame.CALLER:
            return 400
        case Blame.CREDENTIAL:
            return _UNAVAILABLE
        case Blame.US:
            return 500
        case _:
            return 502


_FIELDS: Mapping[FailureKind, str] = {
    FailureKind.VOICE_UNKNOWN: "voice",
    FailureKind.MODEL_UNKNOWN: "model",
    FailureKind.TEXT_TOO_LONG: "text",
}


def _field(error: TTSError) -> str | None:
    return _FIELDS.get(error.kind)
