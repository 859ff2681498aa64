"""What the end of a call counts for: in the totals, in the window and the run of failures, or among the probes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from steadyvoice.breaker import news
from steadyvoice.breaker.judging import condemn, judge, judge_probes
from steadyvoice.breaker.moving import open_circuit
from steadyvoice.breaker.remembered import Remembered
from steadyvoice.breaker.rules import Verdict
from steadyvoice.breaker.states import DISABLED, Cause, Outcome

if TYPE_CHECKING:
    from steadyvoice.breaker.era import Flight
    from steadyvoice.breaker.failure import Failure
    from steadyvoice.breaker.machine import Machine

REMEMBERED_FAILURES = 10


def land(machine: Machine, flight: Flight, now: float) -> bool:
    """Settle the flight; whether its result still counts."""
    if flight.settled:
        return False
    if machine.tracking:
        machine.flights.remove(flight)  # first: an exception in between must not leave a settled call in its place
    flight.settled = True
    if flight.era is None or flight.era.state is DISABLED:
        return False
    if flight.era is not machine.era:  # the world moved on while this call was out
        count_late(machine, flight.latency(now), now)
        return False
    return True


def count_success(machine: Machine, now: float, duration: float | None) -> None:
    """A call of this era did what it was asked to."""
    machine.successes += 1
    if machine.watched:  # asked here as well: most circuits are not, and a Python call is a fiftieth of all this
        news.ended(machine, Outcome.SUCCESS, duration, None, now)
    slow = is_slow(machine, duration)
    if not machine.counting:
        machine.probes.succeed(slow)
        judge_probes(machine, now)
        return
    window = machine.window
    window.add(now, 0.0, slow)
    end_streak(machine, 1)
    if window.failures or slow or window.slow or machine.flights.silent or machine.warned:
        judge(machine, now)


def count_successes(machine: Machine, now: float, new: int) -> None:
    """So many calls did, of a closed circuit that asks for no clock."""
    if new:
        machine.successes += new
        machine.window.add_successes(now, new)
        end_streak(machine, new)
        judge(machine, now)


def count_failure(
    machine: Machine, now: float, failure: Failure, duration: float | None, in_a_row: bool = True
) -> None:
    """A call of this era did not. Without `in_a_row`, it is no part of the present run of failures."""
    machine.failures += 1
    remember(machine, failure.kind, failure.message, machine.wall(), duration)
    if machine.watched:
        news.ended(machine, Outcome.FAILURE, duration, failure.kind, now)
    if not machine.counting:
        why = Verdict(Cause.PROBE_FAILED, failure.told_of("a probe failed"))
        _count_failed_probe(machine, now, why, failure)
        return
    machine.window.add(now, failure.weight, is_slow(machine, duration))
    if in_a_row:
        machine.streak += failure.weight
    if failure.trip:
        condemn(machine, now, Verdict(Cause.TRIPPED, f"opened at once by {failure.kind}"), failure.cooldown)
    else:
        judge(machine, now, failure.cooldown)


def count_expired_probe(machine: Machine, due: float, now: float, latency: float | None, lease: float) -> None:
    """A probe did not even that, as is found out `now`."""
    reason = f"a probe gave no sign of life for {lease:g} s"
    machine.failures += 1
    remember(machine, Cause.PROBE_EXPIRED.value, reason, machine.wall() - (now - due), latency)
    news.ended(machine, Outcome.FAILURE, latency, Cause.PROBE_EXPIRED, due)
    machine.probes.fail(Verdict(Cause.PROBE_EXPIRED, reason))
    judge_probes(machine, due)


def count_late(machine: Machine, duration: float | None, now: float) -> None:
    """A call of an earlier era ended: it moves nothing."""
    machine.late += 1
    news.ended(machine, Outcome.LATE, duration, None, now)


def remember(machine: Machine, kind: str, message: str, wall: float, latency: float | None) -> None:
    """Keep a failure to be shown, with the time of day at which it happened."""
    if machine.evidence is None:
        machine.evidence = deque(maxlen=REMEMBERED_FAILURES)
    machine.last_error = Remembered(kind, message, wall, latency)
    machine.evidence.append(machine.last_error)


def is_slow(machine: Machine, duration: float | None) -> bool:
    limit = machine.config.slow_call_duration
    return limit is not None and duration is not None and duration >= limit


def end_streak(machine: Machine, successes: int) -> None:
    if machine.learns:
        machine.baseline.learn(machine.streak, successes)
    machine.streak = 0
    if machine.flights.in_a_row:
        machine.flights.in_a_row.clear()


def _count_failed_probe(machine: Machine, now: float, why: Verdict, failure: Failure) -> None:
    machine.probes.fail(why)
    if failure.trip:
        open_circuit(machine, now, why, failure.cooldown)
    else:
        judge_probes(machine, now, failure.cooldown)
