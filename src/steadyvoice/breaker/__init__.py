"""A general circuit breaker: standard library only, for threads and event loops alike; it knows nothing of speech."""

from typing import TYPE_CHECKING, Any

from steadyvoice.breaker.breaker import CircuitBreaker
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.errors import CircuitConfigError, CircuitOpenError
from steadyvoice.breaker.events import (
    CallRecorded,
    CallRefused,
    CircuitReset,
    ConfigChanged,
    Event,
    Listener,
    Outcome,
    StateChanged,
    WouldHaveOpened,
)
from steadyvoice.breaker.failure import FailureRecord
from steadyvoice.breaker.permit import Permit
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
from steadyvoice.breaker.states import Cause, CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.explain import Explanation
    from steadyvoice.breaker.snapshot import Recoveries, Snapshot, Totals

__all__ = [
    "CallRecorded",
    "CallRefused",
    "Cause",
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
]


if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of these

    def __getattr__(name: str) -> Any:
        """What is only for looking is imported when somebody looks."""
        if name not in ("Explanation", "Recoveries", "Snapshot", "Totals"):
            raise AttributeError(f"module 'steadyvoice.breaker' has no attribute {name!r}")
        from steadyvoice.breaker import explain, snapshot

        return getattr(explain if name == "Explanation" else snapshot, name)
