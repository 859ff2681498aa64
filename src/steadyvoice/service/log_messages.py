"""What the service says of itself, through `logging`, with the facts as fields of each record.

Loggers: `steadyvoice.circuit` (changes of state), `steadyvoice.calls` (failures, holds, utterances),
`steadyvoice.credit` (credit that comes to its end), and `steadyvoice.cache` (what is wrong with it). Texts are not
logged.
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
    """Log a change of state with its time and reason. Other events are not logged."""
    if not isinstance(event, StateChanged):
        return
    level = logging.WARNING if event.to_state in (CircuitState.OPEN, CircuitState.FORCED_OPEN) else logging.INFO
    _circuit_log.log(
        level,
        "circuit %s: %s -> %s at %s: %s",
        event.name,
        event.from_state.value,
        event.to_state.value,
        to_iso8601(event.wall),
        event.reason,
        extra={
            "circuit": event.name,
            "from_state": event.from_state.value,
            "to_state": event.to_state.value,
            "reason": event.reason,
            "at": to_iso8601(event.wall),
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
        exc_info=error.__cause__ if isinstance(error, TTSUnexpectedError) else None,  # the account keeps no traceback
        extra={
            "provider": provider,
            "kind": error.kind.value,
            "blame": error.meaning.blame.value,
            "status": error.status,
            "request_id": error.request_id,
        },
    )


def log_hold(provider: str, hold: Hold, *, news: bool) -> None:
    """Log that something is set aside: as a warning unless that was told before."""
    _call_log.log(
        logging.WARNING if news else logging.INFO,
        "%s: %s on hold: %s: %s",
        provider,
        hold.key,
        hold.kind.value,
        hold.because,
        extra={"provider": provider, "hold": hold.key, "kind": hold.kind.value},
    )


def log_hedge_started(late: str, after: float, asked: str) -> None:
    """Log that a second provider is asked because the first is late."""
    _call_log.info(
        "%s is late: no sound for %.2f s; %s is asked as well",
        late,
        after,
        asked,
        extra={"provider": late, "after": after, "hedge": asked},
    )


def log_hedge_cancelled(provider: str, waited: float) -> None:
    """Log that one is hung up on because another was heard first."""
    _call_log.info(
        "%s is hung up on after %.2f s: another was heard first",
        provider,
        waited,
        extra={"provider": provider, "waited": waited, "kind": "hedged"},
    )


def log_credit_warning(provider: str, forecast: CreditForecast) -> None:
    """Log that the credit will not last."""
    hours = (forecast.ends_in or 0.0) / 3600
    _credit_log.warning(
        "%s: credit ends in %.1f h at the present rate (%.0f characters left, %.0f an hour)",
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
    """Log that nobody would say how much credit is left."""
    _credit_log.info("%s does not tell its credit: %s", provider, error.message, extra={"provider": provider})


def log_utterance(report: UtteranceReport) -> None:
    """Log how an utterance ended, without its text. What its caller did wrong is no reason to warn anybody."""
    if not _call_log.isEnabledFor(logging.WARNING):
        return
    outcome = report.outcome
    theirs = isinstance(report.error, TTSRequestError) and not isinstance(report.error, TTSDeadlineError)
    level = logging.WARNING if outcome in ("muted", "failed") and not theirs else logging.INFO
    if not _call_log.isEnabledFor(level):
        return
    _call_log.log(
        level,
        "%s: %.2f s of audio by %s in %d attempts",
        outcome,
        report.duration,
        report.provider or "nobody",
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
    """Log what is wrong with the cache."""
    _cache_log.warning(
        "cache %s: %s; the voice goes on without it", path, trouble, extra={"path": str(path), "trouble": trouble}
    )
