"""State machine behind a lock and a clock: one locked section for each operation, notifications delivered after it.

The lock is held for the bookkeeping only: never across the protected call, a listener, a predicate or an await. While
the circuit is healthy a success does not take it at all, and while it is open a refusal does not (see `Era`). Neither
do admission, first progress and success of a permit while they can change no state (see `QuietPeriod`).
"""

# What can interrupt a locked section, and why it is still consistent:
#
# * Another thread waits for the lock.
# * The garbage collector may close a forgotten stream at any line, in this thread. The lock is reentrant, so that this
#   cannot deadlock, and `_in_section` shows that the state machine is in the middle of something: what such a call
#   reports waits for the next section (`_postpone`).
# * A signal handler may raise at any line. Then `_recover` finishes the section. The lock itself is free afterwards:
#   CPython looks for signals neither between taking a lock and entering its `with` block, nor between leaving the block
#   and releasing the lock.
# * `os.fork()` waits for the lock, so that a child never inherits half a change (`fork_safety.py`).

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from steadyvoice.breaker._arguments import check_reading
from steadyvoice.breaker._notifications import NO_HISTORY, EventDispatcher, TransitionHistory
from steadyvoice.breaker.call_lifecycle import CallLifecycle
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.errors import RefusalFields
from steadyvoice.breaker.failure_classification import (
    MESSAGE_LENGTH,
    classify_error,
    is_cancellation,
    missing_message,
    new_failure,
    remember_class,
)
from steadyvoice.breaker.fork_safety import register_fork_aware
from steadyvoice.breaker.in_flight_calls import (
    HAS_INTERPRETER_LOCK,
    Era,
    InFlightCall,
    InFlightCalls,
    OpenRefusal,
    QuietPeriod,
)
from steadyvoice.breaker.states import CircuitState

if TYPE_CHECKING:
    from collections import deque

    from steadyvoice.breaker._notifications import Notification
    from steadyvoice.breaker.events import Listener

T = TypeVar("T")

Postponed: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]] | InFlightCall
"""Work of the next locked section: an operation with its arguments, or a call to be dropped."""

_REFUSING = (CircuitState.OPEN, CircuitState.FORCED_OPEN)


class LockedStateMachine:
    """Thread-safe state machine with a clock, on which all public operations of a breaker are built."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_dispatcher",
        "_era",
        "_forget",
        "_history",
        "_in_section",
        "_lock",
        "_machine",
        "_postponed",
        "_quiet",
        "_wall_clock",
    )

    quiet_periods: ClassVar[bool] = HAS_INTERPRETER_LOCK
    """Whether permits skip the lock in quiet periods; without the interpreter's lock they must not."""

    def __init__(
        self,
        name: str,
        config: CircuitBreakerConfig,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        random: Callable[[], float],
        listeners: Iterable[Listener],
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = RLock()
        self._in_section = False
        check_reading("wall_clock", wall_clock)
        self._machine = CallLifecycle(name, config, check_reading("clock", clock), random, wall_clock)
        self._era = self._machine.era
        self._quiet: QuietPeriod | None = None  # the first locked section begins one
        self._postponed: list[Postponed] = []
        self._forget = self._postponed.append  # bound once, for the finalisers of all permits
        self._history = NO_HISTORY
        listening = tuple(listeners)
        self._dispatcher = EventDispatcher(listening) if listening else None  # made for the first event, too
        register_fork_aware(self)

    @property
    def fork_lock(self) -> RLock:
        """Lock that is held while the process forks, so that the child gets no half-changed circuit."""
        return self._lock

    def after_fork(self) -> None:
        """Free the lock in a forked child, and forget the calls in flight: their threads do not exist there.

        Left in place they would occupy a half-open circuit for ever, and count as hanging. A call of the thread that
        forked still counts when it ends, and a stream from its next progress on.
        """
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock, self._in_section = RLock(), False
        self._quiet = None  # before the dictionary into which it admits calls is replaced
        if not self._in_section:
            self._machine.in_flight = InFlightCalls()
        if self._dispatcher is not None:
            self._dispatcher.after_fork()

    # ---------------------------------------------------------------- without the lock

    def _refuse_without_lock(self, refusal: OpenRefusal) -> RefusalFields | None:
        """Count a refusal without the lock and return what its error says; None if the caller would be a probe by now.

        The caller raises the error: one Python function less between the two is a sixth of the price of a refusal.
        """
        if self._postponed or (now := self._clock()) >= refusal.until:
            return None
        era = self._era
        if era.open_refusal is not refusal:
            return None
        next(era.ticks)
        if era.open_refusal is None:  # a locked section began meanwhile: see `Era`
            self._collect_late_ticks(era)
        retry_after = refusal.until - now if refusal.until < math.inf else None
        return refusal.name, era.state, refusal.reason, retry_after, refusal.last_error

    def _record_lock_free_error(self, era: Era, error: BaseException) -> None:
        """Record the error of a call without a call object. One is made only if the call is to be ignored."""
        quiet = self._quiet
        kind = None if quiet is None else quiet.counted_errors.get(type(error))
        if kind is not None:
            try:
                message = str(error)
            except Exception as another:
                message = missing_message(another)
            failure = new_failure((kind, message[:MESSAGE_LENGTH], 1.0, None, False))
        else:
            config = self._machine.config
            classified = None if is_cancellation(error) else classify_error(config, error)
            if classified is None:
                self._run_locked(CallLifecycle.ignore, InFlightCall.new(era))
                return
            failure = classified
            remember_class(config, type(error))
        # Successes of permits have no tick: behind one, the place of a failure would be unknown.
        if quiet is None or quiet.ended or self._postponed or failure.trip or next(era.harmless, None) is None:
            self._run_locked(CallLifecycle.fail_lock_free_call, era, failure)
            return
        # In this order: the last of several arguments of `zip` is asked only if all before it have a value.
        era.failed.extend(zip(((failure, self._wall_clock(), None),), era.ticks, strict=False))
        if self._quiet is not quiet or not era.lock_free:
            self._collect_late_ticks(era)

    def _collect_late_ticks(self, era: Era) -> None:
        """Collect a tick that came too late for the locked section that collected the others."""
        self._run_locked(CallLifecycle.collect_late_ticks, era)

    # ---------------------------------------------------------------- a locked section

    def _run_locked(self, operation: Callable[..., T], *arguments: Any) -> T:
        """Run `operation(machine, now, *arguments)` under the lock, then deliver its notifications."""
        machine = self._machine
        with self._lock:
            if self._in_section:
                postponed: T = self._postpone(operation, arguments)
                return postponed
            try:
                self._in_section = True
                quiet, self._quiet = self._quiet, None  # before the clock is read and results are collected
                now = self._clock()
                if self._era.lock_free or self._era.open_refusal:
                    self._collect_ticks(now)
                if quiet is not None:
                    machine.record_quiet_results(now, machine.era)
                if self._postponed:
                    self._run_postponed(self._postponed, now)
                result = operation(machine, now, *arguments)
                # A closed circuit that stays closed and needs a clock has nothing to finish but this.
                if (
                    machine.lock_free_allowed
                    or machine.notifications
                    or not machine.records_results
                    or machine.era is not self._era
                ):
                    self._finish_section(now)
                elif self.quiet_periods:
                    self._quiet = machine.begin_quiet_period(now)
                self._in_section = False
            except BaseException:
                self._recover()
                raise
        if pending := machine.notifications:
            self._own_dispatcher().deliver(pending, self._lock)
            if not pending and not machine.emits_call_events:
                self._allow_lock_free_calls(now)
        return result

    def _own_dispatcher(self) -> EventDispatcher:
        """Return the dispatcher, made when it is first needed: under the lock."""
        if self._dispatcher is None:
            self._dispatcher = EventDispatcher(())
        return self._dispatcher

    def _allow_lock_free_calls(self, now: float) -> None:
        """Let calls skip the lock again, where that is possible, after all notifications were delivered."""
        with self._lock:
            if not self._in_section:
                self._finish_section(now)

    def _recover(self) -> None:
        """Finish a section in which an exception occurred, perhaps one that a signal handler raised."""
        try:
            now = self._clock()
            self._machine.repair(now)
            self._finish_section(now)
        finally:
            self._in_section = False

    def _run_postponed(self, postponed: list[Postponed], now: float) -> None:
        while postponed:
            first = postponed[0]
            if isinstance(first, InFlightCall):
                self._machine.drop(now, first)
            else:
                operation, arguments = first
                operation(self._machine, now, *arguments)
            # Not before it is done: an exception in between would leave a call in a probe's place for ever. Doing it
            # twice is harmless, for a call is settled only once.
            del postponed[0]

    def _postpone(self, operation: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Accept an operation of this thread from inside its own section, where nothing else may change.

        A call that begins there is admitted and not counted; one that ends there is recorded by the next section.
        """
        if operation in (CallLifecycle.admit, CallLifecycle.admit_again):
            call: InFlightCall = arguments[0]
            call.admit(Era(CircuitState.DISABLED), self._clock())
            return None
        if not arguments or not isinstance(arguments[0], InFlightCall | Era):
            name = self._machine.name
            raise RuntimeError(f"circuit {name!r} cannot be changed from a finaliser or signal handler at this moment")
        self._postponed.append((operation, arguments))
        return None

    def _read(self, view: Callable[..., T]) -> T:
        """Return `view(machine, history, now, wall_time)`. Collects ticks, but runs no timers and sends no events."""
        with self._lock:
            if self._in_section:
                return view(self._machine, self._history, self._clock(), self._wall_clock())
            try:
                self._in_section = True
                quiet, self._quiet = self._quiet, None
                now = self._clock()
                self._collect_ticks(now)
                if quiet is not None:
                    self._machine.record_quiet_results(now, self._machine.era)
                seen = view(self._machine, self._history, now, self._wall_clock())
                self._finish_section(now)
                self._in_section = False
            except BaseException:
                self._recover()
                raise
        return seen

    def _collect_ticks(self, now: float) -> None:
        era = self._era
        if era.lock_free or era.open_refusal:
            # First the flags, then the ticks: see `Era`.
            era.lock_free, era.open_refusal = False, None
            self._machine.collect_ticks(now, era)

    def _finish_section(self, now: float) -> None:
        machine = self._machine
        self._era = era = machine.era
        if machine.notifications:
            # Calls need the lock until these are delivered: should an exception prevent that, the next call does it.
            self._address_notifications(machine.notifications, now)
            return
        if machine.lock_free_allowed:
            machine.update_lock_free()
        if self.quiet_periods:
            self._quiet = machine.begin_quiet_period(now)
        if era.state in _REFUSING and not machine.emits_call_events:
            until = math.inf if machine.state_until is None else machine.state_until
            era.begin_ticks()
            era.open_refusal = OpenRefusal(machine.name, until, machine.reason, machine.results.last_error)

    def _address_notifications(self, pending: deque[Notification], now: float) -> None:
        wall_time = self._wall_clock()
        fresh: list[Notification] = []
        for notification in reversed(pending):  # from the newest: a slow listener may have thousands before it
            if notification.addressed:
                break
            fresh.append(notification)
        for notification in reversed(fresh):
            happened = wall_time - (now - notification.at)
            if notification.to_state is not None:
                if self._history is NO_HISTORY:
                    self._history = TransitionHistory()
                self._history.record(notification, happened)
            self._own_dispatcher().address(notification, happened)
