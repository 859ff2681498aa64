"""The six states a circuit can be in, and the causes that move it between them."""

from __future__ import annotations

from enum import StrEnum


class CircuitState(StrEnum):
    """Closed, open and half-open move by themselves; the other three are set by hand and stay."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    MONITORING = "monitoring"


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
