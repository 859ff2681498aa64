"""Errors of a circuit breaker, and their messages.

CircuitOpenError       the call was refused before it began; nothing was sent
CircuitConfigError     a setting cannot work; the field and the reason are named
CircuitArgumentError   an argument has a wrong type; both a TypeError and a CircuitConfigError
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

from steadyvoice._option_rules import short_repr
from steadyvoice.breaker.states import CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.failure_record import FailureRecord

_FIELDS = ("name", "state", "reason", "retry_after", "last_error")


class RecordedFailure(NamedTuple):
    """Failure as a circuit keeps it: without the exception object, which would keep frames alive.

    `latency` is in seconds, None where no clock was running. `wall_time` is the time of day in seconds since 1970,
    noted when the failure happened: computed later from the breaker's own clock, it would move when the computer was
    suspended, for monotonic clocks stand still then.
    """

    kind: str
    message: str
    wall_time: float
    latency: float | None

    def to_record(self) -> FailureRecord:
        """Return the failure as it is shown."""
        from datetime import UTC, datetime  # with the class, 4 ms of import for which a refusal need not wait

        from steadyvoice.breaker.failure_record import FailureRecord

        return FailureRecord(self.kind, self.message, datetime.fromtimestamp(self.wall_time, UTC), self.latency)


RefusalFields: TypeAlias = "tuple[str, CircuitState, str, float | None, FailureRecord | RecordedFailure | None]"
"""Name, state, reason, retry_after and last_error of a refusal."""


class CircuitOpenError(Exception):
    """The circuit refused the call; the protected function was not called.

    `retry_after` is the number of seconds until the circuit admits a probe; None where it is unknown, because probes
    are in flight or the circuit was forced open without a duration. `last_error` is the latest failure, as in
    `snapshot()`; None if there was none, as in a circuit that was forced open.

    - `message`: sentence for people; made from the other values if it is absent.
    - `name`: name of the circuit.
    - `state`: state of the circuit.
    - `reason`: why the circuit is in this state.
    """

    name: str
    state: CircuitState
    reason: str
    retry_after: float | None
    last_error: FailureRecord | None
    _refusal_fields: RefusalFields = ("", CircuitState.OPEN, "", None, None)

    def __init__(
        self,
        message: str | None = None,
        *,
        name: str = "",
        state: CircuitState = CircuitState.OPEN,
        reason: str = "",
        retry_after: float | None = None,
        last_error: FailureRecord | None = None,
    ) -> None:
        self._refusal_fields = (name, state, reason, retry_after, last_error)
        super().__init__(*(() if message is None else (message,)))

    @classmethod
    def from_fields(cls, fields: RefusalFields) -> Self:
        """Return a refusal at a quarter of the constructor's price.

        An open circuit may refuse thousands of calls a second, and most refusals are caught without being read: their
        fields are unpacked, and the message is written, when they are.
        """
        error = cls.__new__(cls)
        error._refusal_fields = fields
        return error

    def __getattr__(self, field: str) -> Any:
        if field in _FIELDS:
            value = self._refusal_fields[_FIELDS.index(field)]
            return value.to_record() if isinstance(value, RecordedFailure) else value
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {field!r}")

    def __str__(self) -> str:
        return super().__str__() if self.args else self._message()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _message(self) -> str:
        state = self.state.value.replace("_", " ")
        reason = f" ({self.reason})" if self.reason else ""
        return f"circuit {self.name!r} is {state}{reason}: {self._advice()}"

    def _advice(self) -> str:
        match self.state:
            case CircuitState.HALF_OPEN:
                return "retry when a probe has ended"
            case CircuitState.CLOSED:
                return "retry shortly"
            case CircuitState.FORCED_OPEN if self.retry_after is None:
                return "open until it is closed manually"
            case _:
                return f"retry in {self.retry_after or 0.0:.3g} s"


class CircuitConfigError(ValueError):
    """A setting that cannot work: `field` names it, `reason` tells why.

    - `value`: the value that was refused.
    """

    def __init__(self, field: str, value: object, reason: str) -> None:
        self.field = field
        self.value = value
        self.reason = reason
        super().__init__(f"{field}={short_repr(value)}: {reason}")

    def __reduce__(self) -> tuple[type[CircuitConfigError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.reason)


class CircuitArgumentError(CircuitConfigError, TypeError):
    """An argument of a wrong type. Nothing was changed."""
