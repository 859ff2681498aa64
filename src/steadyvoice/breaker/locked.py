"""A machine behind a clock and a lock: one locked section a verb, and what happened is told after it.

The lock is held for the bookkeeping only: never across the protected call, a listener, a predicate or an await. While
the circuit is healthy a success does not take it at all, and while it is open a refusal does not (see `Era`).

The collector may close a forgotten stream at any line, one of the locked section included: what such a call has to
say waits for the next section (`_postponed`). A signal handler may raise at any line: the section is brought to an end
(`_recover`), and the lock is free, for CPython looks for signals neither between taking a lock and entering its `with`
nor between leaving the body and releasing the lock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from steadyvoice.breaker.admission import admit
from steadyvoice.breaker.arguments import check_reading
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.ending import abandon, drop, fail, fail_quietly, ignore, succeed
from steadyvoice.breaker.era import Era, Flight, Shut
from steadyvoice.breaker.errors import CircuitOpenError
from steadyvoice.breaker.failure import Failure, is_departure, judge_error, judge_result
from steadyvoice.breaker.fork import renew_after_fork
from steadyvoice.breaker.history import History
from steadyvoice.breaker.in_flight import InFlight
from steadyvoice.breaker.living import progress, resume, suspend
from steadyvoice.breaker.machine import Machine
from steadyvoice.breaker.outbox import Outbox
from steadyvoice.breaker.states import CircuitState
from steadyvoice.breaker.ticks import reconcile, rest

if TYPE_CHECKING:
    from collections import deque

    from steadyvoice.breaker.events import Listener
    from steadyvoice.breaker.news import News

T = TypeVar("T")

Later: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]] | Flight
"""What a locked section has to do first: a verb with what it is about, or a call whose permit was dropped."""

_SHUT = (CircuitState.OPEN, CircuitState.FORCED_OPEN)


class LockedMachine:
    """What the doors of a breaker lead to."""

    __slots__ = (
        "__weakref__",
        "_busy",
        "_clock",
        "_era",
        "_history",
        "_later",
        "_lock",
        "_machine",
        "_outbox",
        "_wall",
    )

    def __init__(
        self,
        name: str,
        config: CircuitBreakerConfig,
        clock: Callable[[], float],
        wall: Callable[[], float],
        luck: Callable[[], float],
        listeners: Iterable[Listener],
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._lock = RLock()
        self._busy = False  # inside the locked section; who has the lock and sees this came in by the collector
        check_reading("wall", wall)
        self._machine = Machine(name, config, check_reading("clock", clock), luck, wall)
        self._era = self._machine.era
        self._later: list[Later] = []
        self._history = History()
        self._outbox = Outbox(tuple(listeners))
        renew_after_fork(self)

    @property
    def fork_lock(self) -> RLock:
        """Held while the process forks, so that no child gets a circuit in the middle of its bookkeeping."""
        return self._lock

    def after_fork(self) -> None:
        """Free the lock in a forked child, and forget the calls in flight: their threads did not come along.

        Left in place they would fill a half-open circuit for ever, and count as hanging. A call of the thread that
        forked still counts when it ends, and a stream from its next sign of life on.
        """
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock, self._busy = RLock(), False
        if not self._busy:
            self._machine.flights = InFlight()
        self._outbox.after_fork()

    # ---------------------------------------------------------------- a call

    def _refuse_quickly(self, shut: Shut, silently: bool = False) -> bool:
        """Refuse a call without the lock. Raises CircuitOpenError, unless a caller is due as a probe.

        With `silently`, return whether it was refused, and raise nothing.
        """
        if self._later or (now := self._clock()) >= shut.until:
            return False
        era = self._era
        if era.shut is not shut:
            return False
        next(era.ticks)
        if era.shut is None:
            self._reconcile(era)
        if silently:
            return True
        left = shut.until - now
        retry_after = left if left < math.inf else None
        raise CircuitOpenError.quickly((shut.name, era.state, shut.reason, retry_after, shut.last_error))

    def _admit(self, flight: Flight) -> None:
        """Admit this call. Raises CircuitOpenError."""
        refusal = self._locked(admit, flight)
        if refusal is not None:
            raise CircuitOpenError.quickly((self._machine.name, *refusal))

    def _returned(self, flight: Flight, result: object) -> None:
        failure = None
        if self._machine.config.failure_result is not None:
            failure = judge_result(self._machine.config, result)
        if failure is None:
            self._locked(succeed, flight)
        else:
            self._locked(fail, flight, failure)

    def _ended(self, flight: Flight, error: BaseException) -> None:
        if is_departure(error):
            self._locked(abandon, flight)
            return
        failure = judge_error(self._machine.config, error)
        if failure is None:
            self._locked(ignore, flight)
        else:
            self._locked(fail, flight, failure)

    def _ended_quietly(self, era: Era, error: BaseException) -> None:
        """A call without a flight ended: one is made only where something other than a failure must be said."""
        failure = None if is_departure(error) else judge_error(self._machine.config, error)
        if failure is None:
            self._locked(ignore, Flight(era, None))
        else:
            self._locked(fail_quietly, era, failure)

    def _succeed(self, flight: Flight, duration: float | None) -> None:
        self._locked(succeed, flight, duration)

    def _fail(self, flight: Flight, failure: Failure, duration: float | None) -> None:
        self._locked(fail, flight, failure, duration)

    def _ignore(self, flight: Flight) -> None:
        self._locked(ignore, flight)

    def _abandon(self, flight: Flight, weight: float) -> None:
        self._locked(abandon, flight, weight)

    def _progress(self, flight: Flight, *, held: bool) -> None:
        if self._showed_life(flight):
            flight.lent = held
        elif flight.useful_at is None or self._machine.tracking:
            self._locked(progress, flight, held)

    def _suspend(self, flight: Flight) -> None:
        if self._machine.tracking:
            self._locked(suspend, flight)

    def _resume(self, flight: Flight) -> None:
        if self._showed_life(flight):
            flight.lent = False
        elif self._machine.tracking:
            self._locked(resume, flight)

    def _showed_life(self, flight: Flight) -> bool:
        """Note it on the call itself, where nothing else can come of it: it is said twice for each chunk."""
        machine = self._machine
        if flight.useful_at is None or not machine.counting or flight not in machine.flights.running:
            return False
        now = self._clock()
        if now >= machine.due:  # somebody has hung meanwhile, perhaps this one
            return False
        flight.since = now
        return True

    def _reconcile(self, era: Era) -> None:
        """A tick came too late for the fold that ended its era."""
        self._locked(reconcile, era)

    def _drop(self, flight: Flight) -> None:
        """Ignore a call that nobody has settled.

        Called after exceptions, perhaps inside the locked section: no lock, no listener, only an append.
        """
        if not flight.settled:
            self._later.append(flight)

    # ---------------------------------------------------------------- a locked section

    def _locked(self, verb: Callable[..., T], *about: Any) -> T:
        """Let the machine act at this moment, and deliver what came of it."""
        machine = self._machine
        with self._lock:
            if self._busy:
                postponed: T = self._postponed(verb, about)
                return postponed
            try:
                self._busy = True
                now = self._clock()
                if self._era.quiet or self._era.shut:
                    self._take_in_ticks(now)
                if self._later:
                    self._catch_up(self._later, now)
                answer = verb(now, machine, *about)
                # As long as a closed circuit stays closed and has a clock to look at, there is nothing to settle.
                if machine.plain or machine.news or not machine.counting or machine.era is not self._era:
                    self._settle_down(now)
                self._busy = False
            except BaseException:
                self._recover()
                raise
        if pending := machine.news:
            self._outbox.deliver(pending, self._lock)
            if not pending and not machine.watched:
                self._rest(now)
        return answer

    def _rest(self, now: float) -> None:
        """Do without the lock from here on, where that is possible, now that all events are delivered."""
        with self._lock:
            if not self._busy:
                self._settle_down(now)

    def _recover(self) -> None:
        """End a section in which an exception came up, perhaps one that a signal handler raised."""
        try:
            now = self._clock()
            self._machine.repair(now)
            self._settle_down(now)
        finally:
            self._busy = False

    def _catch_up(self, later: list[Later], now: float) -> None:
        while later:
            first = later[0]
            if isinstance(first, Flight):
                drop(now, self._machine, first)
            else:
                verb, about = first
                verb(now, self._machine, *about)
            del later[0]  # not before: an exception in between would leave a call in its place for ever

    def _postponed(self, verb: Callable[..., Any], about: tuple[Any, ...]) -> Any:
        """A call began or ended in the middle of this thread's own section, where nothing else may move."""
        if verb is admit:
            flight: Flight = about[0]
            flight.era, flight.started, flight.settled = Era(CircuitState.DISABLED), self._clock(), False
            return None  # let through, and not counted
        if not about or not isinstance(about[0], Flight | Era):
            name = self._machine.name
            raise RuntimeError(f"circuit {name!r} was in the middle of its bookkeeping: not from a finaliser or signal")
        self._later.append((verb, about))
        return None

    def _look(self, view: Callable[..., T]) -> T:
        """Show the machine as it is at this moment. Nothing but what was ticked is taken in, and nobody is told."""
        with self._lock:
            if self._busy:
                return view(self._machine, self._history, self._clock(), self._wall())
            try:
                self._busy = True
                now = self._clock()
                self._take_in_ticks(now)
                seen = view(self._machine, self._history, now, self._wall())
                self._settle_down(now)
                self._busy = False
            except BaseException:
                self._recover()
                raise
        return seen

    def _take_in_ticks(self, now: float) -> None:
        era = self._era
        if era.quiet or era.shut:
            era.quiet, era.shut = False, None
            reconcile(now, self._machine, era)

    def _settle_down(self, now: float) -> None:
        machine = self._machine
        self._era = era = machine.era
        if machine.news:
            # Not without the lock before these are delivered: should an exception prevent it, the next call does it.
            self._address(machine.news, now)
            return
        if machine.plain:
            rest(machine)
        if era.state in _SHUT and not machine.watched:
            until = math.inf if machine.until is None else machine.until
            era.shut = Shut(machine.name, until, machine.reason, machine.last_error)

    def _address(self, pending: deque[News], now: float) -> None:
        wall = self._wall()
        fresh: list[News] = []
        for news in reversed(pending):  # a slow listener may have thousands before it
            if news.ready:
                break
            fresh.append(news)
        for news in reversed(fresh):
            happened = wall - (now - news.at)
            self._history.take(news, happened)
            self._outbox.address(news, happened)
