"""What a circuit tells its listeners, taken from the machine as it is at that moment.

A piece of news becomes an event when it is told to somebody. Until then nothing of `events.py` is needed, which takes
as long to import as a third of everything else here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from steadyvoice.breaker.config import CircuitBreakerConfig
    from steadyvoice.breaker.events import Event, Listener
    from steadyvoice.breaker.machine import Machine
    from steadyvoice.breaker.rules import Verdict
    from steadyvoice.breaker.states import CircuitState, Outcome


class News:
    """One event from the moment it happens until the last listener has been called.

    It stays in one queue meanwhile and is only filled in there, so an exception that a signal handler raises at any
    line neither loses it nor doubles it. `at` is on the breaker's own clock; `event` takes the time of day; `to` is the
    new state, for a transition. A locked section sets `listeners` and `wall` and then `ready`; the rest is the
    outbox's.
    """

    __slots__ = ("at", "calls", "event", "listeners", "made", "of_a_call", "opened", "ready", "to", "turns", "wall")

    def __init__(
        self,
        at: float,
        event: Callable[[datetime], Event],
        *,
        to: CircuitState | None = None,
        of_a_call: bool = False,
    ) -> None:
        self.at, self.event, self.to, self.of_a_call = at, event, to, of_a_call
        self.opened: float | None = None  # before a restart, in seconds since 1970
        self.ready = False
        self.wall = 0.0
        self.listeners: tuple[Listener, ...] = ()
        self.made: Event | None = None
        self.turns: Any = None  # iterator over the listeners; it stands behind the last one called
        self.calls: Iterator[object] | None = None  # each step of it calls one


def queue(machine: Machine, news: News) -> None:
    """Put it behind what is not yet delivered."""
    if machine.news is None:
        machine.news = deque()
    machine.news.append(news)


def moved(machine: Machine, to: CircuitState, retry_after: float | None, verdict: Verdict, at: float) -> News:
    """Describe a transition that is about to happen."""
    name, before = machine.name, machine.state
    rate, calls, failures = machine.failure_rate, machine.calls, machine.failure_sum

    def event(wall: datetime) -> Event:
        from steadyvoice.breaker.events import StateChanged

        return StateChanged(
            name=name,
            from_state=before,
            to_state=to,
            cause=verdict.cause,
            reason=verdict.reason,
            failure_rate=rate,
            calls=calls,
            failures=failures,
            retry_after=retry_after,
            at=at,
            wall=wall,
        )

    return News(at, event, to=to)


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

    queue(machine, News(at, event))


def emptied(machine: Machine, reason: str, at: float) -> News:
    """Describe how a closed circuit is closed by hand."""

    def event(wall: datetime) -> Event:
        from steadyvoice.breaker.events import CircuitReset

        return CircuitReset(name=machine.name, reason=reason, at=at, wall=wall)

    return News(at, event)


def changed(machine: Machine, after: CircuitBreakerConfig, at: float) -> News:
    """Describe other settings that are about to hold."""
    before = machine.config

    def event(wall: datetime) -> Event:
        from steadyvoice.breaker.events import ConfigChanged

        return ConfigChanged(name=machine.name, before=before, after=after, at=at, wall=wall)

    return News(at, event)


def ended(machine: Machine, outcome: Outcome, duration: float | None, error: str | None, at: float) -> None:
    """A call ended, for those who ask for calls."""
    if not machine.watched:
        return

    def event(wall: datetime) -> Event:
        from steadyvoice.breaker.events import CallRecorded

        return CallRecorded(name=machine.name, outcome=outcome, duration=duration, error=error, at=at, wall=wall)

    queue(machine, News(at, event, of_a_call=True))


def refused(machine: Machine, reason: str, retry_after: float | None, at: float) -> None:
    """A call was refused, for those who ask for calls."""
    if not machine.watched:
        return
    state = machine.state

    def event(wall: datetime) -> Event:
        from steadyvoice.breaker.events import CallRefused

        return CallRefused(name=machine.name, state=state, reason=reason, retry_after=retry_after, at=at, wall=wall)

    queue(machine, News(at, event, of_a_call=True))
