"""States of a circuit, the table of permitted transitions, their causes, recoveries, and the outcomes of calls."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class CircuitState(StrEnum):
    """State of a circuit. It moves between the first three by itself; the other three are set manually and stay."""

    CLOSED = "closed"  # calls are admitted
    OPEN = "open"  # calls are refused until the cooldown is over
    HALF_OPEN = "half_open"  # a few calls are admitted as probes
    FORCED_OPEN = "forced_open"  # all calls are refused
    DISABLED = "disabled"  # all calls are admitted, and nothing is recorded
    MONITORING = "monitoring"  # all calls are admitted, and broken rules are reported only


CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, DISABLED, MONITORING = CircuitState.FORCED_OPEN, CircuitState.DISABLED, CircuitState.MONITORING

_MANUAL = {
    CircuitState.FORCED_OPEN: "force_open()",
    CircuitState.DISABLED: "disable()",
    CircuitState.MONITORING: "monitor()",
}

# The state diagram in docs/breaker.md is drawn from this table (docs/draw_states.py), and the state machine refuses
# every transition that is not in it. A timer fires when a call arrives: time alone moves no circuit.
TRANSITIONS: Mapping[CircuitState, Mapping[CircuitState, str]] = MappingProxyType(
    {
        CircuitState.CLOSED: {CircuitState.OPEN: "a rule is broken, trip()", **_MANUAL},
        CircuitState.OPEN: {
            CircuitState.HALF_OPEN: "the cooldown is over and a call arrives",
            CircuitState.CLOSED: "recover(), close(), reset()",
            **_MANUAL,
        },
        CircuitState.HALF_OPEN: {
            CircuitState.CLOSED: "enough probes in a row succeed, recover(), close(), reset()",
            CircuitState.OPEN: "a probe fails, trip()",
            **_MANUAL,
        },
        CircuitState.FORCED_OPEN: {
            CircuitState.CLOSED: "close(), reset()",
            CircuitState.HALF_OPEN: "its duration is over and a call arrives",
            CircuitState.DISABLED: "disable()",
            CircuitState.MONITORING: "monitor()",
        },
        CircuitState.DISABLED: {
            CircuitState.CLOSED: "its duration is over and a call arrives, close(), reset()",
            CircuitState.FORCED_OPEN: "force_open()",
            CircuitState.MONITORING: "monitor()",
        },
        CircuitState.MONITORING: {
            CircuitState.CLOSED: "its duration is over and a call arrives, close(), reset()",
            CircuitState.FORCED_OPEN: "force_open()",
            CircuitState.DISABLED: "disable()",
        },
    }
)


class Cause(StrEnum):
    """Cause of a transition, as a short word for metrics and `match`; the sentence for people is `reason`."""

    FAILURE_RATE = "failure_rate"  # `failure_threshold` reached
    CONSECUTIVE_FAILURES = "consecutive_failures"  # `consecutive_failures` in a row
    UNLIKELY_FAILURES = "unlikely_failures"  # `significance`: failures in a row that are no chance
    SLOW_CALL_RATE = "slow_call_rate"  # `slow_call_threshold` reached
    TRIPPED = "tripped"  # `trip()`, or a failure that opens at once
    COOLDOWN_OVER = "cooldown_over"  # a call came after the cooldown
    PROBE_FAILED = "probe_failed"  # a probe failed
    PROBE_EXPIRED = "probe_expired"  # a probe had no end or progress within `half_open_timeout`
    PROBES_SLOW = "probes_slow"  # too many probes were slow
    PROBES_SUCCEEDED = "probes_succeeded"  # `success_threshold` probes succeeded
    ADOPTED = "adopted"  # another replica of the fleet saw the service work
    MANUAL = "manual"  # a method of manual control
    DURATION_OVER = "duration_over"  # the duration of a manual state is over
    RESET = "reset"  # `reset()`
    RESTORED = "restored"  # `restore()` of an exported state


class Outcome(StrEnum):
    """Outcome of a call for its circuit. LATE: the call began before the last transition, and changes nothing."""

    SUCCESS = "success"  # counts as a success
    FAILURE = "failure"  # counts as a failure
    IGNORED = "ignored"  # says nothing about the service
    LATE = "late"  # began before the last transition


class RecoveryTimes(NamedTuple):
    """Recoveries so far, from opening to closing: their number and duration in seconds."""

    number: int = 0
    total_seconds: float = 0.0
    last_seconds: float | None = None

    def with_another(self, seconds: float) -> RecoveryTimes:
        """Return the times with one more recovery."""
        return RecoveryTimes(self.number + 1, self.total_seconds + seconds, seconds)


NO_RECOVERIES = RecoveryTimes()
