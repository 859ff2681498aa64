"""How a provider is doing, as a value and as JSON."""

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
    """What went wrong last."""

    kind: FailureKind
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class HoldState:
    """One thing set aside; `until` in wall time, to be shown."""

    key: str
    kind: FailureKind
    until: datetime
    because: str
    room: float | None = None  # characters that may pass all the same


@dataclass(frozen=True, slots=True)
class ConcurrencyState:
    """How many requests run on the credential, how many may (None: any number), and how many wait for their turn."""

    in_use: int = 0
    limit: int | None = None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class CreditState:
    """What the credential may still spend, in the vendor's characters, and when that ends at the present rate.

    No `remaining`: there is no limit. No `ends_at`: it lasts until there is new credit.
    """

    remaining: float | None
    per_hour: float
    ends_in: float | None  # seconds
    ends_at: datetime | None
    resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class TTSErrorState:
    """The state of one provider's errors. Times are in UTC; `retry_after` in seconds, None unless refusing."""

    circuit: Snapshot
    consecutive_failures: int = 0
    last_error: LastError | None = None
    holds: tuple[HoldState, ...] = ()
    held_for: float | None = None  # seconds until a hold on all of it ends
    is_muted: bool = False  # nothing is heard from it: its circuit refuses, or its credential is on hold
    concurrency: ConcurrencyState = ConcurrencyState()
    credit: CreditState | None = None  # as soon as the vendor has told
    bills: dict[str, Any] = field(default_factory=dict)  # see Bills.as_dict
    voice: str | None = None  # that it spoke in last, by its own id
    overdue_after: float = 3.0  # seconds of silence after which a caller who leaves is evidence, by default
    overdue_after_by_voice: dict[str, float] = field(default_factory=dict)  # for voices whose first audios are known

    @property
    def circuit_state(self) -> CircuitState:
        return self.circuit.state

    @property
    def circuit_opened_at(self) -> datetime | None:
        return self.circuit.opened_at

    @property
    def retry_after(self) -> float | None:
        """Seconds until it may be asked again, whoever refuses: circuit or hold."""
        waits = [wait for wait in (self.circuit.retry_after, self.held_for) if wait is not None]
        return max(waits, default=None)

    def as_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
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
                "at": to_iso8601(moved.wall),
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
                    "because": hold.because,
                    "room": hold.room,
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
    """Write a time as ISO 8601 in UTC."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


def last_error(error: TTSError, wall_time: datetime) -> LastError:
    """Remember an error by what a person needs of it."""
    return LastError(error.kind, error.message, wall_time)


def hold_states(holds: Sequence[Hold], now: float, wall_time: datetime) -> tuple[HoldState, ...]:
    """Translate holds from the service's clock to the time of day."""
    return tuple(
        HoldState(hold.key, hold.kind, wall_time + timedelta(seconds=hold.until - now), hold.because, hold.room)
        for hold in holds
    )


def credit_state(forecast: CreditForecast | None, wall_time: datetime) -> CreditState | None:
    """Translate a forecast to the time of day."""
    if forecast is None:
        return None
    ends_in = forecast.ends_in
    # An end a century away is no date that anybody plans for, and one further away is none at all.
    near = ends_in is not None and ends_in < _CENTURY
    ends_at = wall_time + timedelta(seconds=ends_in) if ends_in is not None and near else None
    return CreditState(forecast.remaining, forecast.per_hour, ends_in, ends_at, forecast.resets_at)


_CENTURY = 100 * 365.25 * 24 * 3600.0
