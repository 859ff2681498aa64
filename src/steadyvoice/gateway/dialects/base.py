"""Interface of a dialect, and the HTTP error, with its status, that each kind of failure becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from steadyvoice.gateway.http import HTTPError, Response, error_response
from steadyvoice.gateway.speech_request import GatewaySpeechRequest, RawRequest
from steadyvoice.providers.base import Accepted
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import Blame, FailureKind
from steadyvoice.wire.request_validation import ValidationIssue


class ErrorDialect(Protocol):
    """Wording of error responses."""

    def error_response(self, error: HTTPError, request_id: str) -> Response:
        """Return the error in the dialect's format, with the vendor's own code where there is one."""
        ...


class Dialect(ErrorDialect, Protocol):
    """API of one vendor: its requests, response headers and errors. `name` is the label `api` of metrics."""

    name: str

    @property
    def parse(self) -> Callable[[RawRequest], GatewaySpeechRequest]:
        """Function that parses a request. It raises RequestValidationError and TTSError."""
        ...

    @property
    def streams_audio(self) -> bool:
        """True if responses may be bare audio that is sent as it arrives."""
        ...

    def audio_headers(
        self, order: GatewaySpeechRequest, utterance: ReportedUtterance, request_id: str
    ) -> dict[str, str]:
        """Return the response headers besides the content type, as far as they are known before the audio."""
        ...

    def vendor_headers(
        self, accepted: Accepted, request_id: str, *, is_sole: bool = True, is_whole: bool = True
    ) -> dict[str, str]:
        """Return these headers where a vendor has accepted a request.

        `is_sole`: it alone is heard in the response; `is_whole`: the request has the whole text.
        """
        ...

    def validation_error(self, issues: Sequence[ValidationIssue], request_id: str) -> Response:
        """Return the response to an invalid request."""
        ...


class GatewayDialect:
    """Dialect of the gateway's own endpoints, which are no vendor's."""

    def vendor_headers(
        self, accepted: Accepted, request_id: str, *, is_sole: bool = True, is_whole: bool = True
    ) -> dict[str, str]:
        """Return no headers: there is no vendor whose own they could be."""
        return {}

    def error_response(self, error: HTTPError, request_id: str) -> Response:
        """Return the error as `{"error": {"code", "message", "field"}}`."""
        return error_response(error)


def http_error(error: Exception) -> HTTPError:
    """Return the HTTP error for an exception; unexpected exceptions are not described to the client."""
    if not isinstance(error, TTSError):
        return HTTPError(500, "internal_error", INTERNAL_ERROR)
    status = _STATUSES.get(error.kind) or _status_by_blame(error.meaning.blame)
    # While a vendor's own Retry-After lasts, further callers get the status that the vendor answered with.
    if error.kind is FailureKind.ON_HOLD and error.code in _BUSY:
        status = 429
    parameter = _PARAMETERS.get(error.kind)
    return HTTPError(status, error.kind.value, str(error), error.kind, error.retry_after, param=parameter)


INTERNAL_ERROR = "internal error; details are in the gateway's log"


def configuration_error(error: TTSError) -> HTTPError:
    """Return the error for a voice or model of the configuration that the vendor lacks: no mistake of the caller's."""
    message = f"gateway misconfigured: {error}"
    return HTTPError(
        _UNAVAILABLE, FailureKind.MISCONFIGURED.value, message, FailureKind.MISCONFIGURED, error.retry_after
    )


_UNAVAILABLE, _TIMEOUT = 503, 504
_BUSY = (FailureKind.BUSY.value, FailureKind.CONCURRENCY.value)

# A vendor that refuses the gateway's key is no 401 to a caller, whose own key is valid: accounts are the gateway's.
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
