"""Validation of the arguments of a breaker and a registry. Each check raises before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING

from steadyvoice._option_rules import is_finite, is_whole_number, short_repr
from steadyvoice.breaker import _validators
from steadyvoice.breaker._validators import deferred_kind
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.errors import CircuitArgumentError, CircuitConfigError
from steadyvoice.breaker.states import HALF_OPEN, OPEN, CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.events import Listener


def check_name(name: object) -> str:
    """Return the name of a circuit if it is one. Raises CircuitArgumentError or CircuitConfigError."""
    if isinstance(name, CircuitBreakerConfig):
        raise CircuitArgumentError("name", name, 'is a configuration; the name comes first, as in ("geocoder", config)')
    if not isinstance(name, str):
        raise CircuitArgumentError("name", name, "must be a string, such as the name of the service")
    if not name.strip():
        raise CircuitConfigError("name", name, "must not be empty: events and errors carry it")
    return name


def check_config(config: object, field: str = "config") -> CircuitBreakerConfig:
    """Return a configuration. Raises CircuitArgumentError for anything else."""
    if isinstance(config, CircuitBreakerConfig):
        return config
    reason = "must be a CircuitBreakerConfig"
    if isinstance(config, Mapping):
        reason += "; create one with CircuitBreakerConfig(**fields)"
    elif is_whole_number(config):
        reason += f", such as CircuitBreakerConfig.consecutive({short_repr(config)})"
    elif isinstance(config, str):
        reason += ", such as CircuitBreakerConfig.production()"
    elif callable(config):
        reason += ": call it, with ()"
    raise CircuitArgumentError(field, config, reason)


def check_tags(tags: Mapping[str, object]) -> None:
    """Raise CircuitArgumentError for a tag that is not a string."""
    for name, value in tags.items():
        if not isinstance(value, str):
            reason = "is a tag here, which must be a string; pass settings to configure(name, config) or overrides="
            raise CircuitArgumentError(name, value, reason)


def check_state(state: object) -> CircuitState:
    """Return a state in which a circuit may begin. Raises ValueError for others."""
    initial = [each.value for each in CircuitState if each not in (OPEN, HALF_OPEN)]
    try:
        known = CircuitState(state) if isinstance(state, str) else None
    except ValueError:
        known = None
    if known is None:
        kind = CircuitConfigError if isinstance(state, str) else CircuitArgumentError
        raise kind("state", state, f"must be one of {', '.join(initial)}")
    if known in (OPEN, HALF_OPEN):
        reason = "entered by the circuit itself only; begin with forced_open instead"
        raise CircuitConfigError("state", known.value, reason)
    return known


def check_listener(listener: object, field: str = "listener") -> Listener:
    """Return a listener. Raises CircuitArgumentError for values that cannot be called, or would have to be awaited."""
    if isinstance(listener, type) or not callable(listener):
        raise CircuitArgumentError(field, listener, "must be a function that takes one event")
    if kind := deferred_kind(listener):
        reason = (
            f"must be a plain function, not {kind}: listeners run in the thread of the call and are never "
            "awaited; from a plain function, start a task or put the event in a queue"
        )
        raise CircuitArgumentError(field, listener, reason)
    return listener


def check_listeners(listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    """Return several listeners. Raises CircuitArgumentError."""
    if callable(listeners) and not isinstance(listeners, Iterable):
        raise CircuitArgumentError("listeners", listeners, "must be a list of functions: put it in a list")
    if isinstance(listeners, str | bytes) or not isinstance(listeners, Iterable):
        raise CircuitArgumentError("listeners", listeners, "must be a list of functions that take one event")
    return tuple(check_listener(each, "listeners") for each in listeners)


def check_clock(field: str, clock: object) -> Callable[[], float]:
    """Return a function that returns seconds, or a random number. Raises CircuitArgumentError."""
    if isinstance(clock, type) or not callable(clock):
        hint = ": pass the function itself, without ()" if is_finite(clock) else ""
        raise CircuitArgumentError(field, clock, f"must be a function without arguments that returns a number{hint}")
    if kind := deferred_kind(clock):
        raise CircuitArgumentError(field, clock, f"must be a plain function, not {kind}")
    return clock


def check_reading(field: str, clock: Callable[[], float]) -> float:
    """Return the first reading of a clock. Raises CircuitArgumentError if it is not a number of seconds."""
    reading: object = clock()
    if is_finite(reading) and (field != "wall_clock" or _YEAR_1 <= reading < _YEAR_10000):
        return reading
    if isinstance(reading, CoroutineType):
        reading.close()
    usual, returned = _USUAL[field], reading if is_finite(reading) else f"a {type(reading).__name__}"
    raise CircuitArgumentError(field, clock, f"must return seconds, such as {usual} does; it returned {returned}")


_USUAL = {"clock": "time.monotonic", "wall_clock": "time.time"}
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800  # the range of datetime, in seconds since 1970


def check_reason(reason: object, default: str) -> str:
    """Return the reason of a manual operation, or the default if there is none. Raises CircuitArgumentError."""
    if reason is None or isinstance(reason, str):
        return reason or default
    hint = _AS_DURATION if is_finite(_validators.to_seconds(reason)) else ""
    raise CircuitArgumentError("reason", reason, f"must be a string{hint}")


def check_duration(duration: object) -> float | None:
    """Return the seconds that a manual state lasts, None without a limit. Raises CircuitConfigError."""
    return _validators.optional_duration("duration", duration, "None: no limit")


_AS_DURATION = "; for seconds, use duration=..."
