"""What a breaker raises: a refusal, and settings it will not work with.

CircuitOpenError     the call was refused before it began; nothing was sent
CircuitConfigError   a setting is impossible; the field and the reason are named
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadyvoice.breaker.states import CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.failure import FailureRecord


class CircuitOpenError(Exception):
    """The circuit refused the call; the protected function was not invoked.

    `retry_after` is in seconds: when the circuit will next admit a probe; None where nobody can know (probes
    are out, or somebody forced it open for good). `last_error` describes the latest failure, if there was one.
    """

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
        self.name = name
        self.state = state
        self.reason = reason
        self.retry_after = retry_after
        self.last_error = last_error
        # The sentence is written when somebody reads it: an open circuit may refuse thousands a second.
        super().__init__(*(() if message is None else (message,)))

    def __str__(self) -> str:
        return super().__str__() if self.args else self._sentence()

    def _sentence(self) -> str:
        state = self.state.value.replace("_", " ")
        why = f" ({self.reason})" if self.reason else ""
        return f"circuit {self.name!r} is {state}{why}: {self._advice()}"

    def _advice(self) -> str:
        match self.state:
            case CircuitState.HALF_OPEN:
                return "its probes are out; try again when they are back"
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
        super().__init__(f"{field}={value!r}: {reason}")

    def __reduce__(self) -> tuple[type[CircuitConfigError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.reason)
