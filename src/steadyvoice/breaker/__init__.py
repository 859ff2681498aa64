"""General circuit breaker for threads and event loops. Needs the standard library only.

Names are imported when they are first used, so that code that only catches the errors does not load the breaker.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steadyvoice.breaker.breaker import CircuitBreaker
    from steadyvoice.breaker.config import CircuitBreakerConfig
    from steadyvoice.breaker.errors import CircuitArgumentError, CircuitConfigError, CircuitOpenError
    from steadyvoice.breaker.events import (
        CallRecorded,
        CallRefused,
        CircuitReset,
        ConfigChanged,
        Event,
        Listener,
        StateChanged,
        WouldHaveOpened,
        log_listener,
    )
    from steadyvoice.breaker.failure_record import FailureRecord
    from steadyvoice.breaker.permit import Permit
    from steadyvoice.breaker.registry import CircuitRegistry
    from steadyvoice.breaker.rules import (
        ConsecutiveFailures,
        FailureRate,
        Rule,
        RuleBroken,
        RuleStatus,
        SlowCallRate,
        UnlikelyFailures,
        WindowStats,
    )
    from steadyvoice.breaker.snapshot import Explanation, Recoveries, Snapshot, Totals
    from steadyvoice.breaker.states import Cause, CircuitState, Outcome

_HOMES = {
    "breaker": ("CircuitBreaker",),
    "config": ("CircuitBreakerConfig",),
    "errors": ("CircuitArgumentError", "CircuitConfigError", "CircuitOpenError"),
    "events": (
        "CallRecorded",
        "CallRefused",
        "CircuitReset",
        "ConfigChanged",
        "Event",
        "Listener",
        "StateChanged",
        "WouldHaveOpened",
        "log_listener",
    ),
    "failure_record": ("FailureRecord",),
    "permit": ("Permit",),
    "registry": ("CircuitRegistry",),
    "rules": (
        "ConsecutiveFailures",
        "FailureRate",
        "Rule",
        "RuleBroken",
        "RuleStatus",
        "SlowCallRate",
        "UnlikelyFailures",
        "WindowStats",
    ),
    "snapshot": ("Explanation", "Recoveries", "Snapshot", "Totals"),
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
    "Explanation",
    "FailureRate",
    "FailureRecord",
    "Listener",
    "Outcome",
    "Permit",
    "Recoveries",
    "Rule",
    "RuleBroken",
    "RuleStatus",
    "SlowCallRate",
    "Snapshot",
    "StateChanged",
    "Totals",
    "UnlikelyFailures",
    "WindowStats",
    "WouldHaveOpened",
    "log_listener",
]


if not TYPE_CHECKING:  # a type checker would accept any misspelt name

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            from steadyvoice.breaker.migration_hints import missing_from_module

            raise missing_from_module(__name__, name)
        value = getattr(import_module(f"steadyvoice.breaker.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
