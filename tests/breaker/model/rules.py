"""Rules of the model: the settings as one rule, and its evaluation."""

from __future__ import annotations

from steadyvoice.breaker import (
    Cause,
    CircuitBreakerConfig,
    ConsecutiveFailures,
    FailureRate,
    Rule,
    SlowCallRate,
    UnlikelyFailures,
    WindowStats,
)
from steadyvoice.breaker.rules import AllOf, AnyOf


def rule_of(c: CircuitBreakerConfig) -> Rule:
    """Return the settings as one rule."""
    if c.opens_when is not None:
        return c.opens_when
    rules = list[Rule]()
    if c.consecutive_failures is not None:
        rules.append(ConsecutiveFailures(c.consecutive_failures))
    if c.significance is not None:
        rules.append(UnlikelyFailures(c.significance))
    if c.failure_threshold is not None:
        rules.append(FailureRate(c.failure_threshold, c.minimum))
    if c.slow_call_duration is not None:
        rules.append(SlowCallRate(c.slow_call_threshold or 1.0, c.minimum))
    whole = rules.pop(0)
    for rule in rules:
        whole = AnyOf(whole, rule)
    return whole


def largest_minimum_of_calls(rule: Rule) -> int:
    """The most calls that a part of it waits for."""
    return max([r.minimum_calls for r in rule.parts() if isinstance(r, FailureRate | SlowCallRate)], default=1)


def learns(rule: Rule) -> bool:
    """Whether any part of it asks what is normal."""
    return any(isinstance(part, UnlikelyFailures) for part in rule.parts())


def normal(past: list[float]) -> float:
    """The failure rate before the present run: of a hundred calls that are over, and of those since."""
    hundred, calls, failures = None, 0.0, 0.0
    for weight in past:
        calls += weight or 1.0
        failures += weight
        # Only at a success: a run of failures in progress is judged, and must not count as normal.
        if calls >= 100 and not weight:
            hundred, calls, failures = failures / calls, 0.0, 0.0
    if hundred is None:
        return max(0.05, (failures + 1) / (calls + 20))
    return (hundred * 100 + failures + 1) / (100 + calls + 2)


def broken(rule: Rule, stats: WindowStats) -> Cause | None:
    calls, failures = stats.calls, stats.failures
    match rule:
        case AnyOf():
            return broken(rule.one, stats) or broken(rule.other, stats)
        case AllOf():
            return broken(rule.one, stats) if broken(rule.other, stats) else None
        case ConsecutiveFailures() if stats.consecutive_failures >= rule.count:
            return Cause.CONSECUTIVE_FAILURES
        case UnlikelyFailures() if stats.normal_failure_rate**stats.consecutive_failures <= rule.significance:
            return Cause.UNLIKELY_FAILURES
        case FailureRate() if calls >= rule.minimum_calls and failures / calls >= rule.threshold:
            return Cause.FAILURE_RATE
        case SlowCallRate() if calls >= rule.minimum_calls and stats.slow / calls >= rule.threshold:
            return Cause.SLOW_CALL_RATE
    return None
