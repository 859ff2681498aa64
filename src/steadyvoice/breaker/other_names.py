"""Names of other circuit breaker libraries, answered with the names that they have here.

pybreaker, circuitbreaker, aiobreaker and purgatory are what people come from. Their keyword arguments, attributes and
module names do not exist here: using one raises the usual TypeError, AttributeError or ImportError, which says what to
write instead. Attributes are answered by descriptors on the class: `__getattr__` would slow down every attribute.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import wraps
from typing import Any, NoReturn

_SETTING = "CircuitBreakerConfig(%s=...)"
_CONSECUTIVE = "CircuitBreakerConfig.consecutive(n)"
_SUBSCRIBE = "breaker.subscribe(listener): one function for all events"

SETTINGS: Mapping[str, str] = {
    "fail_max": _CONSECUTIVE,
    "threshold": _CONSECUTIVE,
    "default_threshold": _CONSECUTIVE,
    "max_failures": _CONSECUTIVE,
    "failure_count": _CONSECUTIVE,
    "reset_timeout": _SETTING % "cooldown_period",
    "timeout_duration": _SETTING % "cooldown_period",
    "recovery_timeout": _SETTING % "cooldown_period",
    "timeout": _SETTING % "cooldown_period",
    "ttl": _SETTING % "cooldown_period",
    "default_ttl": _SETTING % "cooldown_period",
    "recovery_threshold": _SETTING % "success_threshold",
    "exclude": _SETTING % "ignore",
    "excluded_exceptions": _SETTING % "ignore",
    "expected_exception": _SETTING % "failure_on",
    "exceptions": _SETTING % "failure_on",
    "fallback_function": "`except CircuitOpenError:` around the call",
    "fallback": "`except CircuitOpenError:` around the call",
    "state_storage": "export() and restore(): a circuit lives in one process",
    "uow": "export() and restore(): a circuit lives in one process",
    "throw_new_error_on_trip": "nothing: the call that opens the circuit always raises its own error",
}
"""Keyword arguments, of a breaker or of its settings."""

ATTRIBUTES: Mapping[str, str] = {
    "fail_max": "breaker.config.consecutive_failures",
    "reset_timeout": "breaker.config.cooldown_period",
    "timeout_duration": "breaker.config.cooldown_period",
    "recovery_timeout": "breaker.config.cooldown_period",
    "success_threshold": "breaker.config.success_threshold",
    "failure_threshold": "breaker.config.failure_threshold",
    "expected_exception": "breaker.config.failure_on",
    "excluded_exceptions": "breaker.config.ignore",
    "exclude": "breaker.config.ignore",
    "add_excluded_exception": "breaker.update(replace(breaker.config, ignore=...))",
    "add_excluded_exceptions": "breaker.update(replace(breaker.config, ignore=...))",
    "remove_excluded_exception": "breaker.update(replace(breaker.config, ignore=...))",
    "is_system_error": "breaker.config.failure_on and ignore",
    "current_state": "breaker.state",
    "opened": "breaker.state",
    "closed": "breaker.state",
    "threshold": "breaker.config.consecutive_failures",
    "ttl": "breaker.config.cooldown_period",
    "fail_counter": "breaker.snapshot().consecutive_failures",
    "failure_count": "breaker.snapshot().consecutive_failures",
    "success_counter": "breaker.snapshot().probe_successes",
    "opens_at": "breaker.retry_after",
    "open_until": "breaker.retry_after",
    "open_remaining": "breaker.retry_after",
    "time_until_open": "breaker.retry_after",
    "last_failure": "breaker.snapshot().last_error",
    "open": "breaker.force_open()",
    "half_open": "nothing: a circuit becomes half-open by itself, with the first caller after its cooldown",
    "calling": "`with breaker:`",
    "decorate": "breaker(function), or @breaker",
    "call_generator": "breaker.stream()",
    "call_async_generator": "breaker.stream_async()",
    "listeners": _SUBSCRIBE,
    "add_listener": _SUBSCRIBE,
    "add_listeners": _SUBSCRIBE,
    "remove_listener": "the function that breaker.subscribe(listener) returns",
    "fallback_function": "`except CircuitOpenError:` around the call",
    "state_storage": "breaker.export() and restore(): a circuit lives in one process",
}
"""Attributes of a breaker."""

REGISTRY: Mapping[str, str] = {
    "get_breaker": "registry.circuit(name)",
    "register": "registry.circuit(name), which makes a circuit when it is first asked for",
    "get_circuits": "iterating over the registry",
    "get_open": "iterating over the registry, with circuit.state",
    "get_closed": "iterating over the registry, with circuit.state",
    "all_closed": "iterating over the registry, with circuit.state",
    "add_listener": "CircuitRegistry(listeners=[...])",
    "subscribe": "CircuitRegistry(listeners=[...])",
}
"""Attributes of a registry."""

MODULE: Mapping[str, str] = {
    "CircuitBreakerError": "CircuitOpenError",
    "CircuitBreakerListener": "a function that takes one event: breaker.subscribe(listener)",
    "CircuitBreakerState": "CircuitState",
    "CircuitBreakerMonitor": "CircuitRegistry",
    "circuit": "CircuitBreaker(name, config), which is a decorator",
    "circuit_breaker": "CircuitBreaker(name, config), which is a decorator",
    "STATE_OPEN": "CircuitState.OPEN",
    "STATE_CLOSED": "CircuitState.CLOSED",
    "STATE_HALF_OPEN": "CircuitState.HALF_OPEN",
    "CircuitMemoryStorage": "export() and restore(): a circuit lives in one process",
    "CircuitRedisStorage": "export() and restore(): a circuit lives in one process",
    "AsyncCircuitBreakerFactory": "CircuitRegistry, for threads and event loops alike",
    "SyncCircuitBreakerFactory": "CircuitRegistry, for threads and event loops alike",
    "OpenedState": "CircuitOpenError",
}
"""Names in the package."""


class _NotHere:
    """An attribute that raises AttributeError, which names what to use instead."""

    def __init__(self, name: str, instead: str) -> None:
        self._name, self._instead = name, instead

    def __get__(self, owner: object, kind: type | None = None) -> NoReturn:
        self._refuse(kind or type(owner))

    def __set__(self, owner: object, value: object) -> NoReturn:
        self._refuse(type(owner))

    def _refuse(self, kind: type) -> NoReturn:
        told = f"{kind.__name__!r} object has no attribute {self._name!r}; use {self._instead}"
        raise AttributeError(told, name=self._name)


def answer_other_attributes(kind: Any, names: Mapping[str, str]) -> None:
    """Have a class answer those names that it does not have itself. They are not in its `dir()`."""
    missing = {name: instead for name, instead in names.items() if not hasattr(kind, name)}
    for name, instead in missing.items():
        setattr(kind, name, _NotHere(name, instead))

    def listed(self: object) -> list[str]:
        return sorted(set(object.__dir__(self)) - missing.keys())

    kind.__dir__ = listed


def answer_other_settings(kind: Any, known: Iterable[str]) -> None:
    """Have a class of settings answer other keyword arguments and attributes."""
    answer_other_attributes(kind, SETTINGS)
    init, names = kind.__init__, frozenset(known)

    @wraps(init)
    def checked(self: object, *args: object, **settings: object) -> None:
        try:
            init(self, *args, **settings)
        except TypeError:
            for name in settings.keys() - names:
                raise TypeError(unknown_setting(kind.__name__, name)) from None
            raise

    kind.__init__ = checked


def unknown_setting(kind: str, name: str) -> str:
    """Say that there is no such setting, and what it is called here."""
    told = f"{kind}() got an unexpected keyword argument {name!r}"
    return f"{told}; use {SETTINGS[name]}" if name in SETTINGS else told


def setting_in_files(name: str) -> str | None:
    """Return what another library's setting is called in a configuration file. None for other names."""
    instead = SETTINGS.get(name)
    if instead is None:
        return None
    if instead is _CONSECUTIVE:
        return 'preset = "consecutive" with consecutive_failures'
    return instead.removeprefix("CircuitBreakerConfig(").removesuffix("=...)")


def refuse_keywords(given: Mapping[str, object], settings: Iterable[str]) -> NoReturn:
    """Refuse keyword arguments of a breaker that it does not have. Raises TypeError."""
    names, own = sorted(given), frozenset(settings)
    told = "; ".join(f"instead of {name}, {_in_settings(name, given[name], own)}" for name in names)
    raise TypeError(f"CircuitBreaker() got an unexpected keyword argument {names[0]!r}; {told}")


def _in_settings(name: str, value: object, own: frozenset[str]) -> str:
    number = type(value) is int
    if name == "failure_threshold" and number and value != 1:
        return f"CircuitBreaker(name, CircuitBreakerConfig.consecutive({value}))"
    if name in own:
        return f"CircuitBreaker(name, CircuitBreakerConfig({name}=...))"
    instead = SETTINGS.get(name) or "nothing: there is no such setting"
    if instead is _CONSECUTIVE and number:
        instead = f"CircuitBreakerConfig.consecutive({value})"
    return f"CircuitBreaker(name, {instead})" if instead.startswith("CircuitBreakerConfig") else instead


def missing_from_module(module: str, name: str) -> AttributeError | ImportError:
    """Return the error for a name that a module does not have.

    `from module import name` replaces an AttributeError by words of its own, so there it is an ImportError.
    """
    told = f"module {module!r} has no attribute {name!r}"
    if name not in MODULE:
        return AttributeError(told, name=name)
    told = f"{told}; use {MODULE[name]}"
    return ImportError(told, name=module) if _is_import(2) else AttributeError(told, name=name)


def _is_import(depth: int) -> bool:
    from opcode import opmap

    frame = sys._getframe(depth + 1)
    return frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]
