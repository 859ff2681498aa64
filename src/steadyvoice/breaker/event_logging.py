"""A listener that logs what happens to circuits, ready to be subscribed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steadyvoice.breaker.errors import CircuitArgumentError
from steadyvoice.breaker.events import (
    CallRecorded,
    CallRefused,
    CircuitReset,
    ConfigChanged,
    Event,
    Listener,
    StateChanged,
    WouldHaveOpened,
)
from steadyvoice.breaker.states import CircuitState

if TYPE_CHECKING:
    import logging

WARNING, INFO, DEBUG = 30, 20, 10  # as in logging, which is imported when a listener is made


def log_listener(
    logger: logging.Logger | logging.LoggerAdapter[Any] | str | None = None, *, level: int | str | None = None
) -> Listener:
    """Return a listener that logs each event to `logger`, or the logger of that name ("steadyvoice.breaker" if absent).

    Everything is logged at `level`, when it is given. Otherwise a circuit that opens, or would, is a warning; other
    changes are informative; single calls, for `subscribe(..., calls=True)`, are for debugging. The event is the
    record's `event`, its circuit the record's `circuit`, beside what a LoggerAdapter adds. Raises CircuitArgumentError,
    a TypeError, for another logger, and ValueError for a level that logging does not know.
    """
    import logging

    if logger is None or isinstance(logger, str):
        logger = logging.getLogger(logger or "steadyvoice.breaker")
    elif not isinstance(logger, logging.Logger | logging.LoggerAdapter):
        raise CircuitArgumentError("logger", logger, "must be a logger, or the name of one")
    to, fixed = logger, _number_of(level)

    def log(event: Event) -> None:
        usual, text = _told(event)
        number = usual if fixed is None else fixed
        if not to.isEnabledFor(number):
            return
        ours = {"circuit": event.name, "event": event}
        target: Any = to
        message: Any = "%s"
        options: Any = {"extra": dict(ours)}
        while isinstance(target, logging.LoggerAdapter):  # its `process` puts its own `extra` in the place of ours
            message, options = target.process(message, options)
            options["extra"] = {**(options.get("extra") or {}), **ours}
            target = target.logger
        target.log(number, message, text, **options)

    return log


def _number_of(level: object) -> int | None:
    import logging

    if level is None or (isinstance(level, int) and not isinstance(level, bool)):
        return level
    if isinstance(level, str):
        number = logging.getLevelNamesMapping().get(level.upper())
        if number is None:
            raise ValueError(f"level={level!r}: must be a level of logging, such as INFO")
        return number
    raise CircuitArgumentError("level", level, "must be a level of logging, such as logging.INFO")


def _told(event: Event) -> tuple[int, str]:
    circuit = f"circuit {event.name!r}"
    match event:
        case StateChanged():
            opened = event.to_state in (CircuitState.OPEN, CircuitState.FORCED_OPEN)
            again = "" if event.retry_after is None else f"; the next probe in {event.retry_after:.3g} s"
            moved = f"{event.from_state.value} -> {event.to_state.value}"
            return WARNING if opened else INFO, f"{circuit}: {moved}: {event.reason}{again}"
        case WouldHaveOpened():
            return WARNING, f"{circuit} would have opened: {event.reason}"
        case CircuitReset():
            return INFO, f"{circuit} was emptied: {event.reason}"
        case ConfigChanged():
            return INFO, f"{circuit} has new settings: {event.after}"
        case CallRecorded():
            took = "" if event.duration is None else f" after {event.duration:.3g} s"
            error = f": {event.error}" if event.error else ""
            return DEBUG, f"{circuit}: {event.outcome.value}{took}{error}"
        case CallRefused():
            return DEBUG, f"{circuit} refused a call: {event.reason}"
