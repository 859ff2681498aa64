"""What a breaker raises: a refusal, and settings it will not work with.

CircuitOpenError     the call was refused before it began; nothing was sent
CircuitConfigError   a setting is impossible; the field and the reason are named
CircuitArgumentError   an argument is of a wrong type; both a TypeError and a CircuitConfigError
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeAlias

from steadyvoice.breaker.remembered import Remembered
from steadyvoice.breaker.states import CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.record import FailureRecord


About: TypeAlias = "tuple[str, CircuitState, str, float | None, FailureRecord | Remembered | None]"

SHOWN_LENGTH = 100
_FIELDS = ("name", "state", "reason", "retry_after", "last_error")


class CircuitOpenError(Exception):
    """The circuit refused the call; the protected function was not invoked.

    `retry_after` is in seconds: when the circuit will next admit a probe; None where nobody can know (probes
    are out, or somebody forced it open for good). `last_error` describes the latest failure, if there was one.
    """

    name: str
    state: CircuitState
    reason: str
    retry_after: float | None
    last_error: FailureRecord | None
    _about: About = ("", CircuitState.OPEN, "", None, None)

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
        self._about = (name, state, reason, retry_after, last_error)
        super().__init__(*(() if message is None else (message,)))

    @classmethod
    def quickly(cls, about: About) -> Self:
        """The same at a quarter of the price: an open circuit may refuse thousands a second.

        What nobody reads is not taken apart, and the sentence is not written.
        """
        error = cls.__new__(cls)
        error._about = about
        return error

    def __getattr__(self, field: str) -> Any:
        if field in _FIELDS:
            value = self._about[_FIELDS.index(field)]
            return value.record() if isinstance(value, Remembered) else value
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {field!r}")

    def __str__(self) -> str:
        return super().__str__() if self.args else self._sentence()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _sentence(self) -> str:
        state = self.state.value.replace("_", " ")
        why = f" ({self.reason})" if self.reason else ""
        return f"circuit {self.name!r} is {state}{why}: {self._advice()}"

    def _advice(self) -> str:
        match self.state:
            case CircuitState.HALF_OPEN:
                return "its probes are out; try again when they are back"
            case CircuitState.CLOSED:
                return "try again in a moment"
            case CircuitState.FORCED_OPEN if self.retry_after is None:
                return "it stays open until somebody closes it"
            case _:
                return f"try again in {self.retry_after or 0.0:.3g} s"


class CircuitConfigError(ValueError):
    """A setting that cannot work. `field` names it, `reason` says why."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        self.field = field
        self.value = value
        self.reason = reason
        super().__init__(f"{field}={brief(value)}: {reason}")

    def __reduce__(self) -> tuple[type[CircuitConfigError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.reason)


class CircuitArgumentError(CircuitConfigError, TypeError):
    """An argument of a wrong type. Nothing was changed."""


def brief(value: object) -> str:
    """Return a value's repr, shortened: it may be a number of thousands of digits, or fail."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."
