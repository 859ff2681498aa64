"""Migration hints: names of other circuit breaker libraries, with the names to use here.

The keyword arguments, attributes and module names of pybreaker, circuitbreaker, aiobreaker and purgatory do not exist
here: using one raises the usual TypeError, AttributeError or ImportError, with a message that names the replacement.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import wraps
from typing import Any, NoReturn

from steadyvoice._option_rules import is_whole_number

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
    "open_for": _SETTING % "cooldown_from_error",  # the names of earlier versions
    "probe_after": _SETTING % "stream_probe_success_after",
    "luck": "CircuitBreaker(random=...)",
    "wall": "CircuitBreaker(wall_clock=...)",
}
"""Keyword arguments of a breaker or of its configuration."""

BREAKER_ATTRIBUTES: Mapping[str, str] = {
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

REGISTRY_ATTRIBUTES: Mapping[str, str] = {
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

MODULE_NAMES: Mapping[str, str] = {
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


class _MissingAttribute:
    """Attribute that raises AttributeError with a message that names the replacement."""

    # A descriptor on the class: with `__getattr__`, CPython specialises no attribute of the class, and every lookup of
    # one would be slow.

    def __init__(self, name: str, replacement: str) -> None:
        self._name, self._replacement = name, replacement

    def __get__(self, owner: object, kind: type | None = None) -> NoReturn:
        self._raise(kind or type(owner))

    def __set__(self, owner: object, value: object) -> NoReturn:
        self._raise(type(owner))

    def _raise(self, kind: type) -> NoReturn:
        message = f"{kind.__name__!r} object has no attribute {self._name!r}; use {self._replacement}"
        raise AttributeError(message, name=self._name)


def add_attribute_hints(kind: Any, names: Mapping[str, str]) -> None:
    """Add hints to a class for those names that it does not have itself. They are not in its `dir()`."""
    missing = {name: replacement for name, replacement in names.items() if not hasattr(kind, name)}
    for name, replacement in missing.items():
        setattr(kind, name, _MissingAttribute(name, replacement))

    def listed(self: object) -> list[str]:
        return sorted(set(object.__dir__(self)) - missing.keys())

    kind.__dir__ = listed


def add_setting_hints(kind: Any, known: Iterable[str]) -> None:
    """Add hints to a configuration class, for keyword arguments and attributes."""
    add_attribute_hints(kind, SETTINGS)
    init, names = kind.__init__, frozenset(known)

    @wraps(init)
    def checked(self: object, *args: object, **settings: object) -> None:
        try:
            init(self, *args, **settings)
        except TypeError:
            for name in settings.keys() - names:
                raise TypeError(unknown_setting_message(kind.__name__, name)) from None
            raise

    kind.__init__ = checked


def unknown_setting_message(kind: str, name: str) -> str:
    """Return the message for an unknown setting, with its replacement if there is one."""
    message = f"{kind}() got an unexpected keyword argument {name!r}"
    return f"{message}; use {SETTINGS[name]}" if name in SETTINGS else message


def setting_in_files(name: str) -> str | None:
    """Return the replacement of another library's setting in a configuration file. None for other names."""
    replacement = SETTINGS.get(name)
    if replacement is None:
        return None
    if replacement is _CONSECUTIVE:
        return 'preset = "consecutive" with consecutive_failures'
    return replacement.removeprefix("CircuitBreakerConfig(").removesuffix("=...)")


def raise_unknown_keywords(keywords: Mapping[str, object], settings: Iterable[str]) -> NoReturn:
    """Raise TypeError for unknown keyword arguments of a breaker, with their replacements."""
    names, known = sorted(keywords), frozenset(settings)
    hints = "; ".join(f"instead of {name}, {_replacement(name, keywords[name], known)}" for name in names)
    raise TypeError(f"CircuitBreaker() got an unexpected keyword argument {names[0]!r}; {hints}")


def _replacement(name: str, value: object, known: frozenset[str]) -> str:
    number = is_whole_number(value)
    if name == "failure_threshold" and number and value != 1:
        return f"CircuitBreaker(name, CircuitBreakerConfig.consecutive({value}))"
    if name in known:
        return f"CircuitBreaker(name, CircuitBreakerConfig({name}=...))"
    replacement = SETTINGS.get(name) or "nothing: there is no such setting"
    if replacement is _CONSECUTIVE and number:
        replacement = f"CircuitBreakerConfig.consecutive({value})"
    return f"CircuitBreaker(name, {replacement})" if replacement.startswith("CircuitBreakerConfig") else replacement


def missing_from_module(module: str, name: str) -> AttributeError | ImportError:
    """Return the error for a name that a module does not have: an AttributeError, or an ImportError with a hint.

    `from module import name` replaces the message of an AttributeError by its own, so there it is an ImportError.
    """
    message = f"module {module!r} has no attribute {name!r}"
    if name not in MODULE_NAMES:
        return AttributeError(message, name=name)
    message = f"{message}; use {MODULE_NAMES[name]}"
    return ImportError(message, name=module) if _is_import(2) else AttributeError(message, name=name)


def _is_import(depth: int) -> bool:
    from opcode import opmap

    frame = sys._getframe(depth + 1)
    return frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]
