"""A call ended: it did what it was asked to, it failed, or it says nothing about the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadyvoice.breaker import news
from steadyvoice.breaker.counting import count_failure, count_late, count_success, land
from steadyvoice.breaker.failure import hanging
from steadyvoice.breaker.judging import relent
from steadyvoice.breaker.moving import ALWAYS
from steadyvoice.breaker.overdue import advance
from steadyvoice.breaker.states import DISABLED, Outcome

if TYPE_CHECKING:
    from steadyvoice.breaker.era import Era, Flight
    from steadyvoice.breaker.failure import Failure
    from steadyvoice.breaker.machine import Machine


def succeed(now: float, machine: Machine, flight: Flight, duration: float | None = None) -> None:
    """The call did what it was asked to."""
    if now >= machine.due:
        advance(machine, now)
    if machine.config.hung_factor is not None:
        learn(machine, flight, now)
    if machine.warned:
        relent(machine, now)
    if land(machine, flight, now):
        count_success(machine, now, flight.latency(now) if duration is None else duration)


def fail(now: float, machine: Machine, flight: Flight, failure: Failure, duration: float | None = None) -> None:
    """The call did not."""
    if now >= machine.due:
        advance(machine, now)
    if machine.warned:
        relent(machine, now)
    if land(machine, flight, now):
        count_failure(machine, now, failure, flight.latency(now) if duration is None else duration)


def fail_quietly(now: float, machine: Machine, era: Era, failure: Failure) -> None:
    """A call failed for which no flight was made: it began while its era was quiet."""
    if machine.warned:
        relent(machine, now)
    if era is machine.era:
        count_failure(machine, now, failure, None)
    else:
        count_late(machine, None, now)


def ignore(now: float, machine: Machine, flight: Flight) -> None:
    """The call says nothing about the provider: cancelled, dropped, or the caller's own mistake."""
    if now >= machine.due:
        advance(machine, now)
    drop(now, machine, flight)


def drop(now: float, machine: Machine, flight: Flight) -> None:
    """Ignore a call of which nobody knows when it ended: not by now, so time has not run for it."""
    if flight.settled:
        return
    machine.flights.remove(flight)
    flight.settled = True
    if flight.era is not None and flight.era.state is not DISABLED:
        machine.ignored += 1
        news.ended(machine, Outcome.IGNORED, flight.latency(now), None, now)


def abandon(now: float, machine: Machine, flight: Flight, weight: float = 1.0) -> None:
    """Settle a call whose consumer left.

    One that hangs keeps the failure that it counts as already, by `weight`: that its caller's patience ended, too, is
    no sign of life. Otherwise it is a success if something useful had come, and ignored if nothing had.
    """
    if now >= machine.due:
        advance(machine, now)
    if flight in machine.flights.silent:
        _keep_failure(now, machine, flight, weight)
    elif flight.useful_at is None:
        drop(now, machine, flight)
    else:
        succeed(now, machine, flight)


def _keep_failure(now: float, machine: Machine, flight: Flight, weight: float) -> None:
    """Turn the provisional failure of a hanging call into one that stays."""
    if machine.warned:
        relent(machine, now)
    in_a_row = flight in machine.flights.in_a_row  # if not, a success came since: the call is no part of the run
    failure, latency = hanging(now - flight.since, weight), flight.latency(now)
    if land(machine, flight, now):
        count_failure(machine, now, failure, latency, in_a_row)


def learn(machine: Machine, flight: Flight, now: float) -> None:
    """The first sign of life tells how long a provider that works is silent; a late one does so, too."""
    if flight.useful_at is None and not flight.settled and machine.patience.learn(now - flight.since):
        machine.due = ALWAYS
