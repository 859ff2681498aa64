"""Why a circuit is in its state, which calls made it so, what will change it and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.plural import counted
from steadyvoice.breaker.record import FailureRecord
from steadyvoice.breaker.rules import AnyOf, Evidence, Rule, Standing
from steadyvoice.breaker.snapshot import Snapshot, snapshot_of
from steadyvoice.breaker.states import CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.history import History
    from steadyvoice.breaker.machine import Machine


@dataclass(frozen=True, slots=True)
class Explanation:
    """As values, and as text with `str()`.

    `rules` are the simple ones; `told` has a line for each that opens the circuit alone. `changes_in` is in seconds,
    None where no clock decides.
    """

    name: str
    state: CircuitState
    why: str
    rules: tuple[Standing, ...]
    failures: tuple[FailureRecord, ...]
    next: str
    changes_in: float | None
    told: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.name} is {self.state.value.replace('_', ' ')}: {self.why}", f"next: {self.next}"]
        lines += [f"rule: {rule}" for rule in self.told]
        lines += [f"failure: {_line(failure)}" for failure in reversed(self.failures)]
        return "\n".join(lines)


def explain(machine: Machine, history: History, now: float, wall: float) -> Explanation:
    """Put into words what the machine says at `now`, which is `wall` o'clock. Requires the breaker's lock."""
    snapshot, config = snapshot_of(machine, history, now, wall), machine.config
    seen, rule = _evidence(snapshot, machine.in_a_row), config.rule
    left = None if machine.until is None else max(0.0, machine.until - now)
    return Explanation(
        name=snapshot.name,
        state=snapshot.state,
        why=snapshot.reason,
        rules=tuple(part.standing(seen) for part in rule.parts()),
        failures=tuple(each.record() for each in machine.evidence or ()),
        next=_next(snapshot, config, left),
        changes_in=left,
        told=tuple(each.told(seen) for each in _alternatives(rule)),
    )


def _evidence(snapshot: Snapshot, in_a_row: float) -> Evidence:
    normal = snapshot.normal_failure_rate
    return Evidence(snapshot.calls, snapshot.failures, snapshot.slow_calls, in_a_row, normal)


def _alternatives(rule: Rule) -> Iterator[Rule]:
    if isinstance(rule, AnyOf):
        yield from _alternatives(rule.one)
        yield from _alternatives(rule.other)
    else:
        yield rule


def _next(snapshot: Snapshot, config: CircuitBreakerConfig, left: float | None) -> str:
    match snapshot.state:
        case CircuitState.CLOSED if snapshot.admitted_share < 1:
            return f"admits {snapshot.admitted_share:.0%} of the calls, soon all; opens when a rule is broken"
        case CircuitState.CLOSED:
            return "opens when a rule is broken"
        case CircuitState.OPEN if not left:
            return "the next caller is a probe"
        case CircuitState.HALF_OPEN:
            return _next_of_probes(snapshot, config)
        case CircuitState.OPEN | CircuitState.FORCED_OPEN if left is not None:
            return f"the first caller in {left:.3g} s or later is a probe"
        case CircuitState.MONITORING if left is not None:
            return f"reports when it would open, refuses nobody; closed from the first caller in {left:.3g} s or later"
        case CircuitState.DISABLED if left is not None:
            return f"closed from the first caller in {left:.3g} s or later"
        case CircuitState.MONITORING:
            return "reports when it would open; refuses nobody until close() or reset()"
        case _:
            return "stays so until close() or reset()"


def _next_of_probes(snapshot: Snapshot, config: CircuitBreakerConfig) -> str:
    missing = config.success_threshold - snapshot.probe_successes
    spare = config.half_open_failures - snapshot.probe_failures
    more = counted(missing, "more successful probe")
    if config.half_open_failures == 0:
        return f"closes after {more} in a row, opens when one fails"
    return f"closes after {more}, opens when {spare + 1} {'fail' if spare else 'fails'} before"


def _line(failure: FailureRecord) -> str:
    took = "" if failure.latency is None else f" after {failure.latency:.3g} s"
    return f"{failure.at:%H:%M:%S} {failure}{took}"
