"""Logging of the service: the message of each event, with the facts as extra fields of the record.

Loggers: `steadyvoice.circuit` (transitions), `steadyvoice.calls` (failures, holds, utterances), `steadyvoice.credit`
(credit that is running out) and `steadyvoice.cache` (problems of the cache). Texts are not logged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from steadyvoice.breaker import CircuitState, Event, StateChanged
from steadyvoice.service.billing import CreditForecast
from steadyvoice.service.error_state import to_iso8601
from steadyvoice.service.resilience.holds import Hold
from steadyvoice.speech.errors import TTSDeadlineError, TTSError, TTSRequestError, TTSUnexpectedError

if TYPE_CHECKING:
    from steadyvoice.service.result import UtteranceReport

_circuit_log = logging.getLogger("steadyvoice.circuit")
_call_log = logging.getLogger("steadyvoice.calls")
_credit_log = logging.getLogger("steadyvoice.credit")
_cache_log = logging.getLogger("steadyvoice.cache")


def log_transition(event: Event) -> None:
    """Log a transition of a circuit with its time and reason; other events are not logged."""
    if not isinstance(event, StateChanged):
        return
    level = logging.WARNING if event.to_state in (CircuitState.OPEN, CircuitState.FORCED_OPEN) else logging.INFO
    _circuit_log.log(
        level,
        "circuit %s: %s -> %s at %s: %s",
        event.name,
        event.from_state.value,
        event.to_state.value,
        to_iso8601(event.wall_time),
        event.reason,
        extra={
            "circuit": event.name,
            "from_state": event.from_state.value,
            "to_state": event.to_state.value,
            "reason": event.reason,
            "at": to_iso8601(event.wall_time),
            "failure_rate": event.failure_rate,
            "calls": event.calls,
            "failures": event.failures,
        },
    )


def log_failure(provider: str, error: TTSError) -> None:
    """Log one failed attempt."""
    _call_log.info(
        "%s failed: %s: %s",
        provider,
        error.kind.value,
        error.message,
        # Only here: the errors kept in reports have no traceback.
        exc_info=error.__cause__ if isinstance(error, TTSUnexpectedError) else None,
        extra={
            "provider": provider,
            "kind": error.kind.value,
            "blame": error.meaning.blame.value,
            "status": error.status,
            "request_id": error.request_id,
        },
    )


def log_hold(provider: str, hold: Hold, *, is_new: bool) -> None:
    """Log a hold, as a warning if it is new."""
    _call_log.log(
        logging.WARNING if is_new else logging.INFO,
        "%s: %s on hold: %s: %s",
        provider,
        hold.key,
        hold.kind.value,
        hold.reason,
        extra={"provider": provider, "hold": hold.key, "kind": hold.kind.value},
    )


def log_hedge_started(late: str, after: float, hedge: str) -> None:
    """Log that a second provider is asked because the first has been silent for `after` seconds."""
    _call_log.info(
        "%s is late: no audio for %.2f s; hedge sent to %s",
        late,
        after,
        hedge,
        extra={"provider": late, "after": after, "hedge": hedge},
    )


def log_hedge_cancelled(provider: str, waited: float) -> None:
    """Log that an attempt is cancelled because the other one answered first."""
    _call_log.info(
        "%s cancelled after %.2f s: another provider answered first",
        provider,
        waited,
        extra={"provider": provider, "waited": waited, "kind": "hedged"},
    )


def log_credit_warning(provider: str, forecast: CreditForecast) -> None:
    """Log that the credit will run out soon."""
    hours = (forecast.ends_in or 0.0) / 3600
    _credit_log.warning(
        "%s: credit runs out in %.1f h at the present rate (%.0f characters left, %.0f per hour)",
        provider,
        hours,
        forecast.remaining,
        forecast.per_hour,
        extra={
            "provider": provider,
            "ends_in": forecast.ends_in,
            "remaining": forecast.remaining,
            "per_hour": forecast.per_hour,
        },
    )


def log_credit_unknown(provider: str, error: TTSError) -> None:
    """Log that a credit check failed."""
    _credit_log.info("%s: credit check failed: %s", provider, error.message, extra={"provider": provider})


def logs_successes() -> bool:
    """Return whether utterances that were spoken are logged."""
    return _call_log.isEnabledFor(logging.INFO)


def log_utterance(report: UtteranceReport) -> None:
    """Log the end of an utterance, without its text: as a warning if it failed, unless by its caller's error."""
    if not _call_log.isEnabledFor(logging.WARNING):
        return
    outcome = report.outcome
    is_callers_error = isinstance(report.error, TTSRequestError) and not isinstance(report.error, TTSDeadlineError)
    level = logging.WARNING if outcome in ("recorded", "muted", "failed") and not is_callers_error else logging.INFO
    if not _call_log.isEnabledFor(level):
        return
    _call_log.log(
        level,
        "%s: %.2f s of audio by %s in %d attempts",
        outcome,
        report.duration,
        report.provider or "no provider",
        len(report.attempts),
        extra={
            "outcome": outcome,
            "provider": report.provider,
            "voice": report.voice,
            "duration": report.duration,
            "attempts": len(report.attempts),
        },
    )


def log_cache_problem(path: object, trouble: str) -> None:
    """Log a problem of the cache."""
    _cache_log.warning(
        "cache %s: %s; synthesis continues without it", path, trouble, extra={"path": str(path), "trouble": trouble}
    )
