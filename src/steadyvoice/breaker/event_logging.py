"""Listener that logs the events of circuits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steadyvoice._option_rules import is_whole_number
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
    """Return a listener that logs each event to a logger, given by itself or by name (default: "steadyvoice.breaker").

    Without `level`, a circuit that opens, or would have, is logged at WARNING, other changes at INFO, and single calls,
    for `subscribe(..., calls=True)`, at DEBUG; with `level`, everything at that level. The log record has the
    attributes `event` and `circuit` (the name), beside those that a LoggerAdapter adds. Raises CircuitArgumentError, a
    TypeError, for another kind of logger, and ValueError for a level that logging does not know.
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
