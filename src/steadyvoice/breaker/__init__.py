"""A general circuit breaker: standard library only, for threads and event loops alike; it knows nothing of speech.

Names are looked up when they are first used, so that whoever only catches its errors need not load it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steadyvoice.breaker.breaker import CircuitBreaker
    from steadyvoice.breaker.config import CircuitBreakerConfig
    from steadyvoice.breaker.errors import CircuitArgumentError, CircuitConfigError, CircuitOpenError
    from steadyvoice.breaker.event_logging import log_listener
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
    from steadyvoice.breaker.explain import Explanation
    from steadyvoice.breaker.permit import Permit
    from steadyvoice.breaker.record import FailureRecord
    from steadyvoice.breaker.registry import CircuitRegistry
    from steadyvoice.breaker.rules import (
        ConsecutiveFailures,
        Evidence,
        FailureRate,
        Rule,
        SlowCallRate,
        Standing,
        UnlikelyFailures,
        Verdict,
    )
    from steadyvoice.breaker.snapshot import Recoveries, Snapshot, Totals
    from steadyvoice.breaker.states import Cause, CircuitState, Outcome

_HOMES = {
    "breaker": ("CircuitBreaker",),
    "config": ("CircuitBreakerConfig",),
    "errors": ("CircuitArgumentError", "CircuitConfigError", "CircuitOpenError"),
    "event_logging": ("log_listener",),
    "events": (
        "CallRecorded",
        "CallRefused",
        "CircuitReset",
        "ConfigChanged",
        "Event",
        "Listener",
        "StateChanged",
        "WouldHaveOpened",
    ),
    "explain": ("Explanation",),
    "permit": ("Permit",),
    "record": ("FailureRecord",),
    "registry": ("CircuitRegistry",),
    "rules": (
        "ConsecutiveFailures",
        "Evidence",
        "FailureRate",
        "Rule",
        "SlowCallRate",
        "Standing",
        "UnlikelyFailures",
        "Verdict",
    ),
    "snapshot": ("Recoveries", "Snapshot", "Totals"),
    "states": ("Cause", "CircuitState", "Outcome"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "CallRecorded",
    "CallRefused",
    "Cause",
    "CircuitArgumentError",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitConfigError",
    "CircuitOpenError",
    "CircuitRegistry",
    "CircuitReset",
    "CircuitState",
    "ConfigChanged",
    "ConsecutiveFailures",
    "Event",
    "Evidence",
    "Explanation",
    "FailureRate",
    "FailureRecord",
    "Listener",
    "Outcome",
    "Permit",
    "Recoveries",
    "Rule",
    "SlowCallRate",
    "Snapshot",
    "Standing",
    "StateChanged",
    "Totals",
    "UnlikelyFailures",
    "Verdict",
    "WouldHaveOpened",
    "log_listener",
]


if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of these

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            from steadyvoice.breaker.other_names import missing_from_module

            raise missing_from_module(__name__, name)
        value = getattr(import_module(f"steadyvoice.breaker.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
