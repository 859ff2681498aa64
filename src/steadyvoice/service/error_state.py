"""Error state of a provider, as a value and as JSON: the result of `get_error_state()`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from steadyvoice.breaker import CircuitState, Snapshot
from steadyvoice.service.billing import CreditForecast
from steadyvoice.service.resilience.holds import Hold
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.failure_kinds import FailureKind


@dataclass(frozen=True, slots=True)
class LastError:
    """Latest error of a provider."""

    kind: FailureKind
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class HoldState:
    """Hold as it is shown, with its end as a time of day."""

    key: str
    kind: FailureKind
    until: datetime
    reason: str
    remaining_credit: float | None = None  # cost in characters up to which texts pass all the same


@dataclass(frozen=True, slots=True)
class ConcurrencyState:
    """Requests on the credential that are running and waiting, and the limit (None: unlimited)."""

    in_use: int = 0
    limit: int | None = None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class CreditState:
    """Remaining credit in the vendor's characters (None: unlimited), and its end at the present rate.

    `ends_at` is None if the credit lasts until it is renewed.
    """

    remaining: float | None
    per_hour: float
    ends_in: float | None  # seconds
    ends_at: datetime | None
    resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class TTSErrorState:
    """Error state of one provider. Times are in UTC; `retry_after` is in seconds, None unless calls are refused."""

    circuit: Snapshot  # snapshot of the provider's circuit
    consecutive_failures: int = 0  # failures in a row
    last_error: LastError | None = None  # kind, message and time (UTC) of the last failure
    holds: tuple[HoldState, ...] = ()  # credentials, voices and models set aside
    held_for: float | None = None  # seconds until a hold on the whole provider ends
    is_muted: bool = False  # its circuit refuses, or its credential is on hold
    concurrency: ConcurrencyState = ConcurrencyState()  # requests that run and wait on the credential, and their limit
    credit: CreditState | None = None  # None until the vendor has stated it
    bills: dict[str, Any] = field(default_factory=dict)  # see Billing.as_dict
    voice: str | None = None  # used last, by the provider's own id
    overdue_after: float = 3.0  # seconds of silence after which a leaving caller counts as a failure
    overdue_after_by_voice: dict[str, float] = field(default_factory=dict)  # for voices with enough samples

    @property
    def circuit_state(self) -> CircuitState:
        """State of the provider's circuit."""
        return self.circuit.state

    @property
    def circuit_opened_at(self) -> datetime | None:
        """Date and time (UTC) at which the circuit opened; None while it is closed."""
        return self.circuit.opened_at

    @property
    def retry_after(self) -> float | None:
        """Seconds until calls are admitted again, by the circuit and by holds; None if they are now or never."""
        waits = [wait for wait in (self.circuit.retry_after, self.held_for) if wait is not None]
        return max(waits, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return the state as a JSON-ready dict."""
        circuit, totals, recoveries = self.circuit, self.circuit.totals, self.circuit.recoveries
        moved, failed = circuit.last_transition, self.last_error
        return {
            "circuit_state": circuit.state.value,
            "circuit_opened_at": to_iso8601(circuit.opened_at),
            "failure_rate": circuit.failure_rate,
            "window": {"size": circuit.window_size, "calls": circuit.calls, "failures": circuit.failures},
            "retry_after": self.retry_after,
            "consecutive_failures": self.consecutive_failures,
            "last_error": failed
            and {"kind": failed.kind.value, "message": failed.message, "at": to_iso8601(failed.at)},
            "last_transition": moved
            and {
                "from": moved.from_state.value,
                "to": moved.to_state.value,
                "reason": moved.reason,
                "at": to_iso8601(moved.wall_time),
            },
            "is_muted": self.is_muted,
            "totals": {
                "calls": totals.calls,
                "successes": totals.successes,
                "failures": totals.failures,
                "refused": totals.refused,
                "ignored": totals.ignored,
            },
            "recoveries": {
                "count": recoveries.count,
                "last_seconds": recoveries.last_seconds,
                "mean_seconds": recoveries.mean_seconds,
            },
            "holds": [
                {
                    "key": hold.key,
                    "kind": hold.kind.value,
                    "until": to_iso8601(hold.until),
                    "reason": hold.reason,
                    "remaining_credit": hold.remaining_credit,
                }
                for hold in self.holds
            ],
            "bills": self.bills,
            "voice": self.voice,
            "overdue_after": self.overdue_after,
            "overdue_after_by_voice": self.overdue_after_by_voice,
            "concurrency": asdict(self.concurrency),
            "credit": self.credit
            and {
                "remaining": self.credit.remaining,
                "per_hour": self.credit.per_hour,
                "ends_in": self.credit.ends_in,
                "ends_at": to_iso8601(self.credit.ends_at),
                "resets_at": to_iso8601(self.credit.resets_at),
            },
        }


def to_iso8601(moment: datetime | None) -> str | None:
    """Format a UTC time as ISO 8601 with milliseconds."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


def last_error(error: TTSError, wall_time: datetime) -> LastError:
    """Return the record of an error for the error state."""
    return LastError(error.kind, error.message, wall_time)


def hold_states(holds: Sequence[Hold], now: float, wall_time: datetime) -> tuple[HoldState, ...]:
    """Convert holds from the service's clock to the time of day."""
    return tuple(
        HoldState(
            hold.key, hold.kind, wall_time + timedelta(seconds=hold.until - now), hold.reason, hold.remaining_credit
        )
        for hold in holds
    )


def credit_state(forecast: CreditForecast | None, wall_time: datetime) -> CreditState | None:
    """Convert a forecast to the time of day."""
    if forecast is None:
        return None
    ends_in = forecast.ends_in
    # Beyond a century the date is meaningless, and far beyond it overflows a datetime.
    near = ends_in is not None and ends_in < _CENTURY
    ends_at = wall_time + timedelta(seconds=ends_in) if ends_in is not None and near else None
    return CreditState(forecast.remaining, forecast.per_hour, ends_in, ends_at, forecast.resets_at)


_CENTURY = 100 * 365.25 * 24 * 3600.0
