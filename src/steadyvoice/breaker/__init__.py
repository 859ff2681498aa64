"""A general circuit breaker: standard library only, for threads and event loops alike; it knows nothing of speech."""

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
from steadyvoice.breaker.explain import Explanation
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
from steadyvoice.breaker.snapshot import Recoveries, Snapshot, Totals
from steadyvoice.breaker.states import Cause, CircuitState

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
