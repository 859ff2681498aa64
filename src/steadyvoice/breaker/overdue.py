"""What time does. By itself it moves nothing: it waits until somebody comes by, and is then done as of when it was due.

A call that has been silent for too long hangs; a probe's lease ends; the time of a state is up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadyvoice.breaker.counting import REMEMBERED_FAILURES, count_expired_probe, count_success, land, remember
from steadyvoice.breaker.era import Flight
from steadyvoice.breaker.failure import hanging
from steadyvoice.breaker.judging import judge
from steadyvoice.breaker.moving import NEVER, close_circuit, enter
from steadyvoice.breaker.rules import Verdict
from steadyvoice.breaker.states import HALF_OPEN, Cause, CircuitState

if TYPE_CHECKING:
    from steadyvoice.breaker.machine import Machine


def advance(machine: Machine, now: float) -> None:
    """Do what time has done to the calls in flight since somebody last came by."""
    if machine.state is HALF_OPEN:
        _end_leases(machine, now)
    elif (patience := machine.patience.seconds(machine.config)) is not None:
        _suspect_the_silent(machine, now, patience)


def time_is_up(machine: Machine, now: float) -> None:
    """The state's own time is over, and a caller is here."""
    match machine.state:
        case CircuitState.CLOSED:
            machine.until = None  # recovered for good
        case CircuitState.OPEN:
            enter(machine, HALF_OPEN, now, Verdict(Cause.COOLDOWN_OVER, "the cooldown is over"))
        case CircuitState.FORCED_OPEN:
            enter(machine, HALF_OPEN, now, Verdict(Cause.DURATION_OVER, "was forced open until now"))
        case _:
            close_circuit(machine, now, Verdict(Cause.DURATION_OVER, f"{machine.state.value} until now"))


def _suspect_the_silent(machine: Machine, now: float, patience: float) -> None:
    flights = machine.flights
    while (oldest := flights.oldest()) is not None:
        machine.due = due = oldest.since + patience
        if due > now:
            return
        flights.fall_silent(oldest)
        judge(machine, due)
        if oldest.era is not machine.era:  # they opened it
            _remember_silent(machine, flights.silent, due, now)
            return
    machine.due = NEVER


def _remember_silent(machine: Machine, silent: dict[Flight, None], due: float, now: float) -> None:
    wall = machine.wall() - (now - due)
    for flight in list(silent)[-REMEMBERED_FAILURES:]:
        failure = hanging(due - flight.since)
        remember(machine, failure.kind, failure.message, wall, flight.latency(due))


def lease_of(machine: Machine) -> float:
    """Seconds that a probe may be silent."""
    config = machine.config
    return min(config.half_open_timeout, machine.patience.seconds(config) or config.half_open_timeout)


def _end_leases(machine: Machine, now: float) -> None:
    """A probe without progress has failed; a stream that delivered and waits for its listener has not."""
    lease = lease_of(machine)
    for due, flight in machine.flights.ends_of_probes(lease, machine.config.probe_after):
        if machine.state is not HALF_OPEN:
            return
        if due > now:
            machine.due = due
            return
        proved = flight in machine.flights.held
        land(machine, flight, due)
        if proved:
            count_success(machine, due, flight.latency(due))
        else:
            count_expired_probe(machine, due, now, flight.latency(due), lease)
    if machine.state is HALF_OPEN:
        machine.due = NEVER
