"""A call in flight showed a sign of life: the clocks that run against it begin anew, or stand still."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadyvoice.breaker.ending import learn, succeed
from steadyvoice.breaker.moving import NEVER
from steadyvoice.breaker.overdue import advance, lease_of
from steadyvoice.breaker.states import HALF_OPEN

if TYPE_CHECKING:
    from steadyvoice.breaker.era import Flight
    from steadyvoice.breaker.machine import Machine


def progress(now: float, machine: Machine, flight: Flight, held: bool = False) -> None:
    """Something useful arrived; with `held`, the consumer has it now and the call's clocks stand still."""
    if now >= machine.due:
        advance(machine, now)
    if machine.config.hung_factor is not None:
        learn(machine, flight, now)
    if flight.useful_at is None:
        flight.useful_at = now
    _restart(machine, flight, now, held)
    if machine.state is HALF_OPEN and now - flight.useful_at >= machine.config.probe_after:
        succeed(now, machine, flight)


def suspend(now: float, machine: Machine, flight: Flight) -> None:
    """Have the call's clocks stand still until `resume()`, without a sign of life."""
    if now >= machine.due:
        advance(machine, now)
    _restart(machine, flight, now, held=True)


def resume(now: float, machine: Machine, flight: Flight) -> None:
    """The consumer wants more; the call's clocks run again, from the start."""
    if now >= machine.due:
        advance(machine, now)
    _restart(machine, flight, now, held=False)


def track(machine: Machine, flight: Flight) -> None:
    """From now on, silence counts."""
    machine.flights.running[flight] = flight.since
    if machine.state is HALF_OPEN:
        machine.due = min(machine.due, flight.since + lease_of(machine))
    elif machine.due == NEVER and (patience := machine.patience.seconds(machine.config)) is not None:
        machine.due = flight.since + patience


def _restart(machine: Machine, flight: Flight, now: float, held: bool) -> None:
    if machine.tracking and not flight.settled and flight.era is machine.era:
        machine.flights.remove(flight)
        flight.since, flight.lent = now, held
        if held:
            machine.flights.held[flight] = None
            if machine.state is HALF_OPEN and flight.useful_at is not None:
                machine.due = min(machine.due, flight.useful_at + machine.config.probe_after)
        else:
            track(machine, flight)
