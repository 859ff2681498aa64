"""What a circuit tells of itself, taken from the machine as it is at that moment.

A piece of news becomes an event when it is told to somebody. Until then nothing of `events.py` is needed, which takes
as long to import as a third of everything else here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime

    from steadyvoice.breaker.config import CircuitBreakerConfig
    from steadyvoice.breaker.events import Event, StateChanged
    from steadyvoice.breaker.machine import Machine
    from steadyvoice.breaker.rules import Verdict
    from steadyvoice.breaker.states import Cause, CircuitState, Outcome


class Happening(NamedTuple):
    """Something that happened at `at`, on the breaker's own clock; `event` takes the time of day."""

    at: float
    event: Callable[[datetime], Event]
    of_a_call: bool = False  # only for listeners that ask for calls


class Move(NamedTuple):
    """The circuit went to another state."""

    at: float
    event: Callable[[datetime], StateChanged]
    to: CircuitState
    of_a_call: bool = False


News: TypeAlias = Happening | Move


def moved(machine: Machine, before: CircuitState, cause: Cause, at: float) -> None:
    """It is in another state than before."""
    name, to, reason, left = machine.name, machine.state, machine.reason, machine.retry_after(at)
    rate, calls, failures = machine.failure_rate, machine.calls, machine.failure_sum

    def event(wall: datetime) -> StateChanged:
        from steadyvoice.breaker.events import StateChanged

        return StateChanged(
            name=name,
            from_state=before,
            to_state=to,
            cause=cause,
            reason=reason,
            failure_rate=rate,
            calls=calls,
            failures=failures,
            retry_after=left,
            at=at,
            wall=wall,
        )

    machine.news.append(Move(at, event, to))


def would_have_opened(machine: Machine, verdict: Verdict, at: float) -> None:
    """It is only watching."""
    name, rate, calls, failures = machine.name, machine.failure_rate, machine.calls, machine.failure_sum

    def event(wall: datetime) -> Event:
        from steadyvoice.breaker.events import WouldHaveOpened

        return WouldHaveOpened(
            name=name,
            cause=verdict.cause,
            reason=verdict.reason,
            failure_rate=rate,
            calls=calls,
            failures=failures,
            at=at,
            wall=wall,
        )

    machine.news.append(Happening(at, event))


def emptied(machine: Machine, reason: str, at: float) -> None:
    """It was closed by hand, and was closed before."""

    def event(wall: datetime) -> Event:
        from steadyvoice.breaker.events import CircuitReset

        return CircuitReset(name=machine.name, reason=reason, at=at, wall=wall)

    machine.news.append(Happening(at, event))


def changed(machine: Machine, before: CircuitBreakerConfig, at: float) -> None:
    """It has other settings than before."""
    after = machine.config

    def event(wall: datetime) -> Event:
        from steadyvoice.breaker.events import ConfigChanged

        return ConfigChanged(name=machine.name, before=before, after=after, at=at, wall=wall)

    machine.news.append(Happening(at, event))


def ended(machine: Machine, outcome: Outcome, duration: float | None, error: str | None, at: float) -> None:
    """A call ended, for those who ask for calls."""
    if not machine.watched:
        return

    def event(wall: datetime) -> Event:
        from steadyvoice.breaker.events import CallRecorded

        return CallRecorded(name=machine.name, outcome=outcome, duration=duration, error=error, at=at, wall=wall)

    machine.news.append(Happening(at, event, of_a_call=True))


def refused(machine: Machine, reason: str, retry_after: float | None, at: float) -> None:
    """A call was refused, for those who ask for calls."""
    if not machine.watched:
        return
    state = machine.state

    def event(wall: datetime) -> Event:
        from steadyvoice.breaker.events import CallRefused

        return CallRefused(name=machine.name, state=state, reason=reason, retry_after=retry_after, at=at, wall=wall)

    machine.news.append(Happening(at, event, of_a_call=True))
