"""What an error is to an HTTP client: a status, a code, and when to come again. The dialects put it in their words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite

from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.taxonomy import Blame, Kind


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error as it is answered. `code` is ours; a dialect that has a word of its own for it uses that."""

    status: int
    code: str
    message: str
    kind: Kind | None = None
    retry_after: float | None = None  # seconds
    param: str | None = None


def trouble_of(error: Exception) -> Trouble:
    """Say what an error means to whoever asked."""
    if not isinstance(error, TTSError):
        return Trouble(500, "internal_error", "something here went wrong; the gateway's log says what")
    status = _STATUSES.get(error.kind) or _by_blame(error.meaning.blame)
    if error.kind is Kind.ON_HOLD and error.code in _BUSY:  # whoever comes while the vendor's own wait lasts
        status = 429
    return Trouble(status, error.kind.value, str(error), error.kind, error.retry_after, param=_field(error))


def misconfigured(error: TTSError) -> Trouble:
    """Say that a vendor lacks what the configuration names: nothing that whoever asked could do otherwise."""
    told = f"the gateway's configuration has to be changed: {error}"
    return Trouble(_UNAVAILABLE, Kind.MISCONFIGURED.value, told, Kind.MISCONFIGURED, error.retry_after)


def retry_after_header(seconds: float | None) -> dict[str, str]:
    """Rounded up: who comes back a moment too early is refused once more."""
    return {"retry-after": str(max(1, ceil(seconds)))} if seconds is not None and isfinite(seconds) else {}


_UNAVAILABLE, _TOO_LATE = 503, 504
_BUSY = (Kind.BUSY.value, Kind.CONCURRENCY.value)

# The gateway's own accounts are not the caller's: that a vendor does not take our key is no 401 to them.
_STATUSES: Mapping[Kind, int] = {
    Kind.BAD_REQUEST: 400,
    Kind.TEXT_TOO_LONG: 400,
    Kind.UNSUPPORTED_FORMAT: 400,
    Kind.VOICE_UNKNOWN: 404,
    Kind.MODEL_UNKNOWN: 404,
    Kind.DEADLINE: _TOO_LATE,
    Kind.ABANDONED_IN_SILENCE: _TOO_LATE,
    Kind.CANCELLED: _UNAVAILABLE,
    Kind.BUSY: 429,
    Kind.CONCURRENCY: 429,
    Kind.CONNECT_TIMEOUT: _TOO_LATE,
    Kind.READ_TIMEOUT: _TOO_LATE,
    Kind.TOTAL_TIMEOUT: _TOO_LATE,
    Kind.STALLED: _TOO_LATE,
    Kind.TOO_SLOW: _TOO_LATE,
    Kind.OVERLOADED: _UNAVAILABLE,
    Kind.CIRCUIT_OPEN: _UNAVAILABLE,
    Kind.ON_HOLD: _UNAVAILABLE,
    Kind.MISCONFIGURED: 500,
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


_FIELDS: Mapping[Kind, str] = {Kind.VOICE_UNKNOWN: "voice", Kind.MODEL_UNKNOWN: "model", Kind.TEXT_TOO_LONG: "text"}


def _field(error: TTSError) -> str | None:
    return _FIELDS.get(error.kind)
