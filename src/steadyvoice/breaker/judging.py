"""Whether what was seen must open the circuit, or what its probes showed must close it or open it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadyvoice.breaker import news
from steadyvoice.breaker.baseline import UNKNOWN
from steadyvoice.breaker.moving import close_circuit, open_circuit
from steadyvoice.breaker.rules import Evidence, Verdict
from steadyvoice.breaker.states import CLOSED, Cause

if TYPE_CHECKING:
    from steadyvoice.breaker.machine import Machine


def judge(machine: Machine, now: float, named: float | None = None) -> None:
    """Open the circuit if its rule is broken, for a named time if there is one."""
    verdict = verdict_on(machine, now)
    if verdict is None:
        machine.warned = False
    else:
        condemn(machine, now, verdict, named)


def relent(machine: Machine, now: float) -> None:
    """Time alone may have mended what was warned of: what comes now is news again."""
    machine.warned = verdict_on(machine, now) is not None


def condemn(machine: Machine, now: float, verdict: Verdict, named: float | None = None) -> None:
    """Open the circuit; or tell, once, that it would have opened."""
    machine.window.expire(now)
    if machine.state is CLOSED:
        open_circuit(machine, now, verdict, named)
    elif not machine.warned:
        machine.warned = True
        news.would_have_opened(machine, verdict, now)


def judge_probes(machine: Machine, now: float, named: float | None = None) -> None:
    """Close the circuit or open it again, if the probes have decided it."""
    verdict = machine.probes.verdict(machine.config, machine.slow_share)
    if verdict is None:
        return
    if verdict.cause is Cause.PROBES_SUCCEEDED:
        close_circuit(machine, now, verdict)
    else:
        open_circuit(machine, now, verdict, named)


def verdict_on(machine: Machine, now: float) -> Verdict | None:
    """The rule that is broken now. A call that hangs is a failure until it ends."""
    window = machine.window
    window.expire(now)
    hung = len(machine.flights.silent)
    slow = 0 if machine.config.slow_call_duration is None else window.slow
    if not window.failures and not hung and not slow:
        return None
    calls, failures = window.calls + hung, window.failures + hung
    normal = machine.baseline.rate if machine.learns else UNKNOWN
    verdict = machine.rule.broken(Evidence(calls, failures, slow, machine.in_a_row, normal))
    if verdict is None or not hung:
        return verdict
    return Verdict(verdict.cause, f"{verdict.reason}, {hung} of them still silent")
