"""Why a circuit is in its state, which calls made it so, what will change it and when."""

from __future__ import annotations

from dataclasses import dataclass

from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.failure import FailureRecord
from steadyvoice.breaker.snapshot import Snapshot
from steadyvoice.breaker.states import CircuitState


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that can open the circuit: where it stands and where it would open. `needs` calls are missing."""

    name: str
    value: float
    threshold: float
    needs: int = 0

    def __str__(self) -> str:
        text = f"{self.name} {self.value:.3g} of {self.threshold:.3g}"
        return f"{text}, not enough calls: {self.needs} to go" if self.needs else text


@dataclass(frozen=True, slots=True)
class Explanation:
    """As values, and as text with `str()`. `changes_in` is in seconds, None where no clock decides."""

    name: str
    state: CircuitState
    why: str
    rules: tuple[Rule, ...]
    failures: tuple[FailureRecord, ...]
    next: str
    changes_in: float | None

    def __str__(self) -> str:
        lines = [f"{self.name} is {self.state.value.replace('_', ' ')}: {self.why}", f"next: {self.next}"]
        lines += [f"rule: {rule}" for rule in self.rules]
        lines += [f"failure: {_line(failure)}" for failure in reversed(self.failures)]
        return "\n".join(lines)


def explain(snapshot: Snapshot, config: CircuitBreakerConfig, failures: tuple[FailureRecord, ...]) -> Explanation:
    """Put a snapshot into words."""
    return Explanation(
        name=snapshot.name,
        state=snapshot.state,
        why=snapshot.reason,
        rules=_rules(snapshot, config),
        failures=failures,
        next=_next(snapshot, config),
        changes_in=snapshot.retry_after,
    )


def _rules(snapshot: Snapshot, config: CircuitBreakerConfig) -> tuple[Rule, ...]:
    rules = []
    needs = max(0, snapshot.minimum_calls - snapshot.calls)
    if config.failure_threshold is not None:
        rules.append(Rule("failure rate", snapshot.failure_rate, config.failure_threshold, needs))
    if config.consecutive_failures is not None:
        streak = snapshot.consecutive_failures + snapshot.hung_calls
        rules.append(Rule("failures in a row", streak, config.consecutive_failures))
    if config.slow_call_duration is not None:
        rate = snapshot.slow_calls / snapshot.calls if snapshot.calls else 0.0
        rules.append(Rule("slow call rate", rate, config.slow_call_threshold or 1.0, needs))
    return tuple(rules)


def _next(snapshot: Snapshot, config: CircuitBreakerConfig) -> str:
    match snapshot.state:
        case CircuitState.CLOSED:
            return "opens when a rule is broken"
        case CircuitState.OPEN if not snapshot.retry_after:
            return "the next caller is a probe"
        case CircuitState.OPEN:
            return f"the first caller in {snapshot.retry_after:.3g} s or later is a probe"
        case CircuitState.HALF_OPEN:
            missing = config.success_threshold - snapshot.probe_successes
            return f"closes after {missing} more successful probes in a row, opens when one fails"
        case CircuitState.FORCED_OPEN if snapshot.retry_after is not None:
            return f"the first caller in {snapshot.retry_after:.3g} s or later is a probe"
        case CircuitState.MONITORING:
            return "reports when it would open; refuses nobody until close() or reset()"
        case _:
            return "stays so until close() or reset()"


def _line(failure: FailureRecord) -> str:
    took = "" if failure.latency is None else f" after {failure.latency:.3g} s"
    return f"{failure.at:%H:%M:%S} {failure}{took}"
