"""Events of a circuit, as frozen values, and a listener that logs them. A listener is a callable that takes one event.

Every event carries `at`, on the breaker's own clock, and `wall_time`, the time of day in UTC, which is only shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from steadyvoice._option_rules import is_whole_number
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.errors import CircuitArgumentError
from steadyvoice.breaker.states import CLOSED, Cause, CircuitState, Outcome

if TYPE_CHECKING:
    import logging


NO_WALL_TIME = datetime.fromtimestamp(0, UTC)
"""Default of `wall_time`, for events that are made outside the breaker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """Transition of a circuit, with the failure rate and counts of its window at that moment.

    `retry_after` is in seconds, None unless the circuit is open now and the end is known. `jitter` is the random number
    by which `cooldown_jitter` shortened that; 0 where none was drawn.
    """

    name: str  # name of the circuit
    from_state: CircuitState  # state before
    to_state: CircuitState  # state after
    cause: Cause  # short word for metrics and `match`
    reason: str  # sentence for people
    failure_rate: float  # share of failed calls in the window, 0 to 1
    calls: int  # calls in the window
    failures: float  # failures in the window, a sum of weights
    retry_after: float | None
    at: float  # seconds of the breaker's clock
    wall_time: datetime = NO_WALL_TIME  # date and time, in UTC
    jitter: float = 0.0

    @property
    def is_recovery(self) -> bool:
        """True if the circuit closed because probes succeeded, here or elsewhere."""
        return self.to_state is CLOSED and self.cause in (Cause.PROBES_SUCCEEDED, Cause.ADOPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitReset:
    """Manual reset of a circuit that was closed already: its window was emptied."""

    name: str  # name of the circuit
    reason: str  # sentence for people
    at: float  # seconds of the breaker's clock
    wall_time: datetime = NO_WALL_TIME  # date and time, in UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldHaveOpened:
    """Broken rule in a monitored circuit, which would have opened it."""

    name: str  # name of the circuit
    cause: Cause  # short word for metrics and `match`
    reason: str  # sentence for people
    failure_rate: float  # share of failed calls in the window, 0 to 1
    calls: int  # calls in the window
    failures: float  # failures in the window, a sum of weights
    at: float  # seconds of the breaker's clock
    wall_time: datetime = NO_WALL_TIME  # date and time, in UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChanged:
    """Change of a circuit's configuration; a transition that it causes follows as an event of its own."""

    name: str  # name of the circuit
    before: CircuitBreakerConfig  # settings before
    after: CircuitBreakerConfig  # settings after
    at: float  # seconds of the breaker's clock
    wall_time: datetime = NO_WALL_TIME  # date and time, in UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecorded:
    """End of a call, for listeners subscribed with `calls=True`. `duration` in seconds, None if it was not measured."""

    name: str  # name of the circuit
    outcome: Outcome  # how the call ended
    duration: float | None
    error: str | None  # text of the failure, None if there was none
    at: float  # seconds of the breaker's clock
    wall_time: datetime = NO_WALL_TIME  # date and time, in UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRefused:
    """Refusal of a call, for listeners subscribed with `calls=True`."""

    name: str  # name of the circuit
    state: CircuitState  # state that refused it
    reason: str  # why it was refused, as a sentence
    retry_after: float | None  # seconds until a call may be admitted, None if unknown
    at: float  # seconds of the breaker's clock
    wall_time: datetime = NO_WALL_TIME  # date and time, in UTC


Event: TypeAlias = StateChanged | CircuitReset | WouldHaveOpened | ConfigChanged | CallRecorded | CallRefused
"""Event of a circuit."""

Listener: TypeAlias = Callable[[Event], object]
"""Function that takes one event; what it returns is ignored."""


WARNING, INFO, DEBUG = 30, 20, 10  # as in logging, which is imported when a listener is made


def log_listener(
    logger: logging.Logger | logging.LoggerAdapter[Any] | str | None = None, *, level: int | str | None = None
) -> Listener:
    """Return a listener that logs each event to a logger, given by itself or by name (default: "steadyvoice.breaker").

    Without `level`, a circuit that opens, or would have, is logged at WARNING, other changes at INFO, and single calls,
    for `subscribe(..., calls=True)`, at DEBUG; with `level`, everything at that level. The log record has the
    attributes `event` and `circuit` (the name), beside those that a LoggerAdapter adds. Raises CircuitArgumentError, a
    TypeError, for another kind of logger, and ValueError for a level that logging does not know.

    - `logger`: logger or its name; "steadyvoice.breaker" if None.
    """
    import logging

    if logger is None or isinstance(logger, str):
        logger = logging.getLogger(logger or "steadyvoice.breaker")
    elif not isinstance(logger, logging.Logger | logging.LoggerAdapter):
        raise CircuitArgumentError("logger", logger, "must be a logger, or the name of one")
    target_logger, fixed_level = logger, _level_number(level)

    def log(event: Event) -> None:
        default_level, text = _format(event)
        number = default_level if fixed_level is None else fixed_level
        if not target_logger.isEnabledFor(number):
            return
        attributes = {"circuit": event.name, "event": event}
        target: Any = target_logger
        message: Any = "%s"
        options: Any = {"extra": dict(attributes)}
        while isinstance(target, logging.LoggerAdapter):  # its `process` replaces our `extra` by its own
            message, options = target.process(message, options)
            options["extra"] = {**(options.get("extra") or {}), **attributes}
            target = target.logger
        target.log(number, message, text, **options)

    return log


def _level_number(level: object) -> int | None:
    import logging

    if level is None or is_whole_number(level):
        return level
    if isinstance(level, str):
        number = logging.getLevelNamesMapping().get(level.upper())
        if number is None:
            raise ValueError(f"level={level!r}: must be a logging level, such as INFO")
        return number
    raise CircuitArgumentError("level", level, "must be a logging level, such as logging.INFO")


def _format(event: Event) -> tuple[int, str]:
    circuit = f"circuit {event.name!r}"
    match event:
        case StateChanged():
            opened = event.to_state in (CircuitState.OPEN, CircuitState.FORCED_OPEN)
            probe = "" if event.retry_after is None else f"; next probe in {event.retry_after:.3g} s"
            transition = f"{event.from_state.value} -> {event.to_state.value}"
            return WARNING if opened else INFO, f"{circuit}: {transition}: {event.reason}{probe}"
        case WouldHaveOpened():
            return WARNING, f"{circuit} would have opened: {event.reason}"
        case CircuitReset():
            return INFO, f"{circuit} was reset: {event.reason}"
        case ConfigChanged():
            return INFO, f"{circuit} has a new configuration: {event.after}"
        case CallRecorded():
            duration = "" if event.duration is None else f" after {event.duration:.3g} s"
            error = f": {event.error}" if event.error else ""
            return DEBUG, f"{circuit}: {event.outcome.value}{duration}{error}"
        case CallRefused():
            return DEBUG, f"{circuit} refused a call: {event.reason}"
