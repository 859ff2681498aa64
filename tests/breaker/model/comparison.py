"""Events and errors of the breaker in the form of the model."""

from __future__ import annotations

from datetime import UTC, datetime

from steadyvoice.breaker import (
    CallRecorded,
    CallRefused,
    CircuitReset,
    ConfigChanged,
    Event,
    FailureRecord,
    StateChanged,
    WouldHaveOpened,
)


def comparable_error(error: FailureRecord | None) -> tuple[str, float, float | None] | None:
    return None if error is None else (error.kind, error.at.timestamp(), error.latency)


def shown_error(error: tuple[str, float, float | None] | None) -> tuple[str, float, float | None] | None:
    """The model's error, with the time as exact as it is shown: microseconds."""
    if error is None:
        return None
    kind, time, latency = error
    return kind, datetime.fromtimestamp(time, UTC).timestamp(), latency


def comparable_event(event: Event) -> tuple[object, ...]:
    """The event in the model's words."""
    assert event.name == "voice"
    assert not hasattr(event, "reason") or isinstance(event.reason, str)
    match event:
        case StateChanged():
            assert event.failure_rate == (event.failures / event.calls if event.calls else 0.0)
            seen = (event.calls, event.failures, event.retry_after)
            return ("moved", event.from_state, event.to_state, event.cause, *seen, event.at)
        case WouldHaveOpened():
            assert event.failure_rate == event.failures / event.calls
            return ("would have opened", event.cause, event.calls, event.failures, event.at)
        case CallRecorded():
            return ("call", event.outcome, event.duration, event.error, event.at)
        case CallRefused():
            return ("refused", event.state, event.retry_after, event.at)
        case CircuitReset():
            return ("reset", event.at)
        case ConfigChanged():
            return ("updated", event.at)
