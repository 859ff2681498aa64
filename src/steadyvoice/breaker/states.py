"""The six states a circuit can be in, the ways between them, the causes that move it, and how calls end."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class CircuitState(StrEnum):
    """Closed, open and half-open move by themselves; the other three are set by hand and stay."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    MONITORING = "monitoring"


CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, DISABLED, MONITORING = CircuitState.FORCED_OPEN, CircuitState.DISABLED, CircuitState.MONITORING

_BY_HAND = {
    CircuitState.FORCED_OPEN: "force_open()",
    CircuitState.DISABLED: "disable()",
    CircuitState.MONITORING: "monitor()",
}

TRANSITIONS: Mapping[CircuitState, Mapping[CircuitState, str]] = MappingProxyType(
    {
        CircuitState.CLOSED: {CircuitState.OPEN: "a rule is broken", **_BY_HAND},
        CircuitState.OPEN: {
            CircuitState.HALF_OPEN: "the cooldown is over and a caller comes",
            CircuitState.CLOSED: "close(), reset()",
            **_BY_HAND,
        },
        CircuitState.HALF_OPEN: {
            CircuitState.CLOSED: "enough probes in a row succeed, close(), reset()",
            CircuitState.OPEN: "a probe fails",
            **_BY_HAND,
        },
        CircuitState.FORCED_OPEN: {
            CircuitState.CLOSED: "close(), reset()",
            CircuitState.HALF_OPEN: "its duration is over and a caller comes",
            CircuitState.DISABLED: "disable()",
            CircuitState.MONITORING: "monitor()",
        },
        CircuitState.DISABLED: {
            CircuitState.CLOSED: "its duration is over and a caller comes, close(), reset()",
            CircuitState.FORCED_OPEN: "force_open()",
            CircuitState.MONITORING: "monitor()",
        },
        CircuitState.MONITORING: {
            CircuitState.CLOSED: "its duration is over and a caller comes, close(), reset()",
            CircuitState.FORCED_OPEN: "force_open()",
            CircuitState.DISABLED: "disable()",
        },
    }
)


class Cause(StrEnum):
    """What moved a circuit: a short word for metrics and `match`; the sentence is in `reason`."""

    FAILURE_RATE = "failure_rate"
    CONSECUTIVE_FAILURES = "consecutive_failures"
    UNLIKELY_FAILURES = "unlikely_failures"
    SLOW_CALL_RATE = "slow_call_rate"
    TRIPPED = "tripped"
    COOLDOWN_OVER = "cooldown_over"
    PROBE_FAILED = "probe_failed"
    PROBE_EXPIRED = "probe_expired"
    PROBES_SLOW = "probes_slow"
    PROBES_SUCCEEDED = "probes_succeeded"
    MANUAL = "manual"
    DURATION_OVER = "duration_over"
    RESET = "reset"
    RESTORED = "restored"


class Outcome(StrEnum):
    """How a call ended, as far as the circuit is concerned."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"
    LATE = "late"
