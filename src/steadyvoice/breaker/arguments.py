"""Checks of what callers pass to a breaker or a registry. Each raises before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING

from steadyvoice.breaker import checks
from steadyvoice.breaker.callables import deferred
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.errors import CircuitArgumentError, CircuitConfigError, brief
from steadyvoice.breaker.states import HALF_OPEN, OPEN, CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.events import Listener


def check_name(name: object) -> str:
    """Return the name of a circuit. Raises CircuitArgumentError or CircuitConfigError."""
    if isinstance(name, CircuitBreakerConfig):
        raise CircuitArgumentError("name", name, 'is the settings; the name comes first, as in ("geocoder", config)')
    if not isinstance(name, str):
        raise CircuitArgumentError("name", name, "must be a string, such as the name of what the circuit guards")
    if not name.strip():
        raise CircuitConfigError("name", name, "must not be empty: events and refusals carry it")
    return name


def check_config(config: object, field: str = "config") -> CircuitBreakerConfig:
    """Return settings as they are. Raises CircuitArgumentError for anything else."""
    if isinstance(config, CircuitBreakerConfig):
        return config
    reason = "must be a CircuitBreakerConfig"
    if isinstance(config, Mapping):
        reason += ", which is made of such fields by CircuitBreakerConfig(**fields)"
    elif type(config) is int:
        reason += f", such as CircuitBreakerConfig.consecutive({brief(config)})"
    elif isinstance(config, str):
        reason += ", such as CircuitBreakerConfig.production()"
    elif callable(config):
        reason += ": call it, with ()"
    raise CircuitArgumentError(field, config, reason)


def check_tags(tags: Mapping[str, object]) -> None:
    """Raise CircuitArgumentError for a tag that is no word."""
    for name, value in tags.items():
        if not isinstance(value, str):
            reason = "is a tag here, which is a string; settings are given with configure(name, config) or overrides="
            raise CircuitArgumentError(name, value, reason)


def check_state(state: object) -> CircuitState:
    """Return the state that a circuit may begin in. Raises ValueError for others."""
    begins = [each.value for each in CircuitState if each not in (OPEN, HALF_OPEN)]
    try:
        known = CircuitState(state) if isinstance(state, str) else None
    except ValueError:
        known = None
    if known is None:
        kind = CircuitConfigError if isinstance(state, str) else CircuitArgumentError
        raise kind("state", state, f"must be one of {', '.join(begins)}")
    if known in (OPEN, HALF_OPEN):
        reason = "a circuit comes to it by itself; begin it as forced_open instead"
        raise CircuitConfigError("state", known.value, reason)
    return known


def check_listener(listener: object, field: str = "listener") -> Listener:
    """Return a listener. Raises CircuitArgumentError for what cannot be called, or would have to be awaited."""
    if isinstance(listener, type) or not callable(listener):
        raise CircuitArgumentError(field, listener, "must be a function that takes one event")
    if kind := deferred(listener):
        reason = (
            f"must be a plain function, not {kind}: listeners run in the thread of the call, and nothing awaits them; "
            "from a plain function, start a task or put the event in a queue"
        )
        raise CircuitArgumentError(field, listener, reason)
    return listener


def check_listeners(listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    """Return several listeners. Raises CircuitArgumentError."""
    if callable(listeners) and not isinstance(listeners, Iterable):
        raise CircuitArgumentError("listeners", listeners, "must be several: put it in a list")
    if isinstance(listeners, str | bytes) or not isinstance(listeners, Iterable):
        raise CircuitArgumentError("listeners", listeners, "must be functions that take one event, in a list")
    return tuple(check_listener(each, "listeners") for each in listeners)


def check_clock(field: str, clock: object) -> Callable[[], float]:
    """Return a function that gives seconds, or a random number. Raises CircuitArgumentError."""
    if isinstance(clock, type) or not callable(clock):
        hint = ": pass the function itself, without ()" if checks.is_finite(clock) else ""
        raise CircuitArgumentError(field, clock, f"must be a function without arguments that returns a number{hint}")
    if kind := deferred(clock):
        raise CircuitArgumentError(field, clock, f"must be a plain function, not {kind}")
    return clock


def check_reading(field: str, clock: Callable[[], float]) -> float:
    """Return the first reading of a clock. Raises CircuitArgumentError for what is no number of seconds."""
    reading: object = clock()
    if checks.is_finite(reading) and (field != "wall" or _YEAR_1 <= reading < _YEAR_10000):
        return reading
    if isinstance(reading, CoroutineType):
        reading.close()
    usual, gave = _USUAL[field], reading if checks.is_finite(reading) else f"a {type(reading).__name__}"
    raise CircuitArgumentError(field, clock, f"must return seconds, such as {usual} does; it returned {gave}")


_USUAL = {"clock": "time.monotonic", "wall": "time.time"}
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800  # what a datetime can show, in seconds since 1970


def check_reason(reason: object, otherwise: str) -> str:
    """Return why something is done by hand, or what is said where no reason is given. Raises CircuitArgumentError."""
    if reason is None or isinstance(reason, str):
        return reason or otherwise
    hint = "" if checks.seconds_of(reason) is None or not checks.is_finite(checks.seconds_of(reason)) else _AS_DURATION
    raise CircuitArgumentError("reason", reason, f"must be words{hint}")


def check_duration(duration: object) -> float | None:
    """Return how long a manual state lasts, in seconds. Raises CircuitArgumentError or CircuitConfigError."""
    return checks.span("duration", duration, "None for good")


_AS_DURATION = "; for seconds, write duration=..."
