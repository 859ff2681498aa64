"""Calls that nobody took the lock for: when they may go uncounted for a while, and how they are counted after all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadyvoice.breaker.counting import count_successes
from steadyvoice.breaker.states import FORCED_OPEN, OPEN

if TYPE_CHECKING:
    from steadyvoice.breaker.era import Era
    from steadyvoice.breaker.machine import Machine


def rest(machine: Machine) -> None:
    """End a locked section of a plain circuit: may successes stay uncounted until the next one?"""
    window = machine.window
    enough = not window.failures or window.calls >= machine.minimums[-1]
    machine.era.quiet = machine.counting and enough and machine.until is None


def reconcile(now: float, machine: Machine, era: Era) -> None:
    """Take in what was ticked on an era without the lock: refusals of an open one, successes of any other."""
    new = era.fold()
    if not new:
        return
    if era.state in (OPEN, FORCED_OPEN):
        machine.refused += new
        return
    try:
        for minimum in machine.minimums:
            missing = minimum - machine.window.calls
            if era is machine.era and 0 < missing < new:  # one of them completed a minimum: judge at that very one
                count_successes(machine, now, missing)
                new -= missing
        if era is machine.era:
            count_successes(machine, now, new)
        else:
            machine.late += new
    except BaseException:
        era.unfold(new)  # a signal handler raised: thousands of calls may be among them
        raise
