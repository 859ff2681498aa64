"""Interface of a dialect, and the HTTP error that each kind of failure becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Protocol

from steadyvoice.gateway.access_control import Denial
from steadyvoice.gateway.http import Response, error_response
from steadyvoice.gateway.speech_request import RawRequest, SpeechOrder
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import Blame, FailureKind
from steadyvoice.wire.request_validation import ValidationIssue


class Words(Protocol):
    """In which to turn somebody away."""

    def denied(self, denial: Denial, request_id: str) -> Response:
        """Answer that the caller may not come in, or that nobody is at home at this path."""
        ...


class Dialect(Words, Protocol):
    """One vendor's way of asking and answering."""

    name: str

    @property
    def order(self) -> Callable[[RawRequest], SpeechOrder]:
        """Reads what is asked for. Raises RequestValidationError and TTSError."""
        ...

    def audio_headers(self, order: SpeechOrder, account: ReportedUtterance, request_id: str) -> dict[str, str]:
        """What goes before audio, besides its type: as much as is known by then."""
        ...

    def trouble(self, trouble: HTTPError, request_id: str) -> Response:
        """Answer that it could not be spoken."""
        ...

    def unreadable(self, issues: Sequence[ValidationIssue], request_id: str) -> Response:
        """Answer that the request makes no sense."""
        ...


@dataclass(frozen=True, slots=True)
class HTTPError:
    """An error as it is answered. `code` is ours; a dialect that has a word of its own for it uses that."""

    status: int
    code: str
    message: str
    kind: FailureKind | None = None
    retry_after: float | None = None  # seconds
    param: str | None = None


def http_error(error: Exception) -> HTTPError:
    """Say what an error means to whoever asked."""
    if not isinstance(error, TTSError):
        return HTTPError(500, "internal_error", "something here went wrong; the gateway's log says what")
    status = _STATUSES.get(error.kind) or _status_by_blame(error.meaning.blame)
    if error.kind is FailureKind.ON_HOLD and error.code in _BUSY:  # whoever comes while the vendor's own wait lasts
        status = 429
    return HTTPError(status, error.kind.value, str(error), error.kind, error.retry_after, param=_parameter(error))


def configuration_error(error: TTSError) -> HTTPError:
    """Say that a vendor lacks what the configuration names: nothing that whoever asked could do otherwise."""
    told = f"the gateway's configuration has to be changed: {error}"
    return HTTPError(_UNAVAILABLE, FailureKind.MISCONFIGURED.value, told, FailureKind.MISCONFIGURED, error.retry_after)


def retry_after_header(seconds: float | None) -> dict[str, str]:
    """Rounded up: who comes back a moment too early is refused once more."""
    return {"retry-after": str(max(1, ceil(seconds)))} if seconds is not None and isfinite(seconds) else {}


_UNAVAILABLE, _TIMEOUT = 503, 504
_BUSY = (FailureKind.BUSY.value, FailureKind.CONCURRENCY.value)

# The gateway's own accounts are not the caller's: that a vendor does not take our key is no 401 to them.
_STATUSES: Mapping[FailureKind, int] = {
    FailureKind.BAD_REQUEST: 400,
    FailureKind.TEXT_TOO_LONG: 400,
    FailureKind.UNSUPPORTED_FORMAT: 400,
    FailureKind.VOICE_UNKNOWN: 404,
    FailureKind.MODEL_UNKNOWN: 404,
    FailureKind.DEADLINE: _TIMEOUT,
    FailureKind.ABANDONED_IN_SILENCE: _TIMEOUT,
    FailureKind.CANCELLED: _UNAVAILABLE,
    FailureKind.BUSY: 429,
    FailureKind.CONCURRENCY: 429,
    FailureKind.CONNECT_TIMEOUT: _TIMEOUT,
    FailureKind.READ_TIMEOUT: _TIMEOUT,
    FailureKind.TOTAL_TIMEOUT: _TIMEOUT,
    FailureKind.STALLED: _TIMEOUT,
    FailureKind.TOO_SLOW: _TIMEOUT,
    FailureKind.OVERLOADED: _UNAVAILABLE,
    FailureKind.CIRCUIT_OPEN: _UNAVAILABLE,
    FailureKind.ON_HOLD: _UNAVAILABLE,
    FailureKind.MISCONFIGURED: 500,
}


def _status_by_blame(blame: Blame) -> int:
    match blame:
        case Blame.CALLER:
            return 400
        case Blame.CREDENTIAL:
            return _UNAVAILABLE
        case Blame.US:
            return 500
        case _:
            return 502


_PARAMETERS: Mapping[FailureKind, str] = {
    FailureKind.VOICE_UNKNOWN: "voice",
    FailureKind.MODEL_UNKNOWN: "model",
    FailureKind.TEXT_TOO_LONG: "text",
}


def _parameter(error: TTSError) -> str | None:
    return _PARAMETERS.get(error.kind)


class GatewayDialect:
    """Refusals at doors that are no vendor's."""

    def denied(self, denial: Denial, request_id: str) -> Response:
        """Answer who may not come in."""
        return error_response(denial.status, denial.code, denial.message)
