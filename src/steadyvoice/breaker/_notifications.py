"""Notifications: events from the moment they happen until the last listener was called.

The state machine appends notifications to a queue; a locked section assigns each its listeners and its time of day;
after the lock is released, `EventDispatcher` calls the listeners: outside the lock, one at a time, in order, each
listener once for each event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import repeat
from operator import call, length_hint
from threading import get_ident
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from steadyvoice.breaker.failure_classification import logger, raised_by_signal_handler
from steadyvoice.breaker.states import Cause, CircuitState, Outcome

if TYPE_CHECKING:
    from datetime import datetime

    from steadyvoice.breaker.config import CircuitBreakerConfig
    from steadyvoice.breaker.events import Event, Listener, StateChanged


class Notification:
    """Event until the last listener has been called.

    It stays in one queue all the time and is only filled in there, so an exception that a signal handler raises at any
    line neither loses nor doubles it. `at` is a time of the breaker's own clock; `make_event` takes the time of day;
    `to_state` is set for a transition. A locked section sets `listeners` and `wall_time` and then `addressed`; the
    remaining attributes belong to the dispatcher.
    """

    __slots__ = (
        "addressed",
        "at",
        "calls",
        "event",
        "is_call_event",
        "listeners",
        "make_event",
        "opened_wall_time",
        "remaining",
        "to_state",
        "wall_time",
    )

    def __init__(
        self,
        at: float,
        make_event: Callable[[datetime], Event],
        *,
        to_state: CircuitState | None = None,
        is_call_event: bool = False,
    ) -> None:
        self.at, self.make_event, self.to_state, self.is_call_event = at, make_event, to_state, is_call_event
        self.opened_wall_time: float | None = None  # if the circuit opened before a restart: seconds since 1970
        self.addressed = False
        self.wall_time = 0.0
        self.listeners: tuple[Listener, ...] = ()
        self.event: Event | None = None
        self.remaining: Any = None  # iterator over the listeners, positioned behind the last one called
        self.calls: Iterator[object] | None = None  # each step calls one listener


# The functions below import the event's class when the event is made for a listener. `events.py` takes as long to
# import as a third of all other modules of the breaker, and most circuits have no listener.


def state_changed(
    at: float,
    *,
    name: str,
    from_state: CircuitState,
    to_state: CircuitState,
    cause: Cause,
    reason: str,
    calls: int,
    failures: float,
    retry_after: float | None,
    jitter: float,
) -> Notification:
    """Return the notification of a transition that is about to happen."""

    def make_event(wall_time: datetime) -> Event:
        from steadyvoice.breaker.events import StateChanged

        return StateChanged(
            name=name,
            from_state=from_state,
            to_state=to_state,
            cause=cause,
            reason=reason,
            failure_rate=failures / calls if calls else 0.0,
            calls=calls,
            failures=failures,
            retry_after=retry_after,
            at=at,
            wall_time=wall_time,
            jitter=jitter,
        )

    return Notification(at, make_event, to_state=to_state)


def would_have_opened(at: float, *, name: str, cause: Cause, reason: str, calls: int, failures: float) -> Notification:
    """Return the notification of a broken rule in a monitored circuit."""

    def make_event(wall_time: datetime) -> Event:
        from steadyvoice.breaker.events import WouldHaveOpened

        return WouldHaveOpened(
            name=name,
            cause=cause,
            reason=reason,
            failure_rate=failures / calls if calls else 0.0,
            calls=calls,
            failures=failures,
            at=at,
            wall_time=wall_time,
        )

    return Notification(at, make_event)


def circuit_reset(at: float, *, name: str, reason: str) -> Notification:
    """Return the notification of a closed circuit whose window is emptied manually."""

    def make_event(wall_time: datetime) -> Event:
        from steadyvoice.breaker.events import CircuitReset

        return CircuitReset(name=name, reason=reason, at=at, wall_time=wall_time)

    return Notification(at, make_event)


def config_changed(at: float, *, name: str, before: CircuitBreakerConfig, after: CircuitBreakerConfig) -> Notification:
    """Return the notification of a new configuration that is about to take effect."""

    def make_event(wall_time: datetime) -> Event:
        from steadyvoice.breaker.events import ConfigChanged

        return ConfigChanged(name=name, before=before, after=after, at=at, wall_time=wall_time)

    return Notification(at, make_event)


def call_recorded(at: float, name: str, outcome: Outcome, duration: float | None, error: str | None) -> Notification:
    """Return the notification of a call that ended."""

    def make_event(wall_time: datetime) -> Event:
        from steadyvoice.breaker.events import CallRecorded

        return CallRecorded(name=name, outcome=outcome, duration=duration, error=error, at=at, wall_time=wall_time)

    return Notification(at, make_event, is_call_event=True)


def call_refused(at: float, name: str, state: CircuitState, reason: str, retry_after: float | None) -> Notification:
    """Return the notification of a call that was refused."""

    def make_event(wall_time: datetime) -> Event:
        from steadyvoice.breaker.events import CallRefused

        return CallRefused(name=name, state=state, reason=reason, retry_after=retry_after, at=at, wall_time=wall_time)

    return Notification(at, make_event, is_call_event=True)


class TransitionHistory:
    """Time of day of the last transition and of the opening: the machine's own clock counts seconds from anywhere."""

    __slots__ = ("_last", "_opened")

    def __init__(self) -> None:
        self._last: tuple[Notification, float] | None = None
        self._opened: float | None = None

    def record(self, notification: Notification, wall_time: float) -> None:
        """Remember a transition that happened at this time of day, in seconds since 1970. Skip other events."""
        if notification.to_state is not None:
            self._last = notification, wall_time
            opened = wall_time if notification.opened_wall_time is None else notification.opened_wall_time
            self._record_opening(notification.to_state, opened)

    @property
    def last_transition(self) -> StateChanged | None:
        """Last transition, as the event that listeners received."""
        if self._last is None:
            return None
        notification, wall_time = self._last
        return cast("StateChanged", notification.make_event(to_datetime(wall_time)))

    @property
    def opened_at(self) -> datetime | None:
        """Time of day at which the present outage began; None if there is none."""
        return None if self._opened is None else to_datetime(self._opened)

    @property
    def opened_wall_time(self) -> float | None:
        """The same in seconds since 1970."""
        return self._opened

    def _record_opening(self, to_state: CircuitState, wall_time: float) -> None:
        match to_state:
            case CircuitState.OPEN | CircuitState.FORCED_OPEN:
                self._opened = wall_time
            case CircuitState.HALF_OPEN:
                pass  # still the same outage
            case _:
                self._opened = None


NO_HISTORY = TransitionHistory()
"""History of every circuit without a transition."""


def to_datetime(wall_time: float) -> datetime:
    """Return seconds since 1970 as a time in UTC."""
    from datetime import UTC, datetime  # 3 ms of import, only needed by listeners and snapshots

    return datetime.fromtimestamp(wall_time, UTC)


class EventDispatcher:
    """Listeners of one circuit, and the delivery of notifications to them.

    One thread delivers at a time and no other waits for it, so there is no deadlock: a listener that uses the breaker
    appends notifications behind what is already queued, and the dispatcher above it on the stack delivers those too.
    """

    # A signal handler may raise between any two bytecodes (Celery's soft time limit, `signal.alarm`, Ctrl-C). So the
    # progress of a delivery is the position of one iterator that calls a listener in the same step: the interpreter
    # looks for signals between its own instructions, never inside a step of C code. What an exception leaves
    # undelivered, the next call delivers.

    __slots__ = ("_call_listeners", "_delivery", "_listeners")

    def __init__(self, listeners: tuple[Listener, ...]) -> None:
        self._listeners = listeners
        self._call_listeners: tuple[Listener, ...] = ()
        self._delivery: ref[_Delivery] | None = None

    @property
    def wants_call_events(self) -> bool:
        """True if any listener wants an event of each call."""
        return bool(self._call_listeners)

    def subscribe(self, listener: Listener, calls: bool) -> Callable[[], None]:
        """Add a listener; return a function that removes it. Both require the breaker's lock."""
        self._listeners = (*self._listeners, listener)
        if calls:
            self._call_listeners = (*self._call_listeners, listener)

        subscribed = True

        def unsubscribe() -> None:
            nonlocal subscribed
            if subscribed:
                self._listeners = _without(self._listeners, listener)
                if calls:
                    self._call_listeners = _without(self._call_listeners, listener)
            subscribed = False

        return unsubscribe

    def address(self, notification: Notification, wall_time: float) -> None:
        """Assign the present listeners to a notification. Requires the breaker's lock."""
        notification.wall_time = wall_time
        notification.listeners = self._call_listeners if notification.is_call_event else self._listeners
        # Last: an exception in between leaves the notification unaddressed, and the next locked section repeats it.
        notification.addressed = True

    def after_fork(self) -> None:
        """Discard, in a forked child, a delivery whose thread does not exist there."""
        delivery = self._delivery and self._delivery()
        if delivery and delivery.thread != get_ident():
            self._delivery = None

    def deliver(self, pending: deque[Notification], lock: AbstractContextManager[Any]) -> None:
        """Deliver the pending notifications, unless another thread does. Must not be called under the breaker's lock.

        Exceptions of listeners are logged; only those that a signal handler raised are passed on.
        """
        delivery = _Delivery()
        own_reference = ref(delivery)
        try:
            while _is_due(pending) and self._claim(own_reference, lock):
                while pending and pending[0].addressed:
                    _call_listeners(pending[0])
                    with lock:  # `_address_notifications` iterates over the queue under it
                        pending.popleft()
                # Another thread may have appended after the last look at the queue, and left because this delivery was
                # still running. So the queue is looked at once more, after this one has ended for all to see.
                self._delivery = None
        except BaseException:
            if self._delivery is own_reference:
                self._delivery = None
            raise

    def _claim(self, own_reference: ref[_Delivery], lock: AbstractContextManager[Any]) -> bool:
        with lock:
            if self._delivery is not None and self._delivery() is not None:
                return False
            self._delivery = own_reference
        return True


def _is_due(pending: deque[Notification]) -> bool:
    """Return whether the first notification can be delivered."""
    if not pending:
        return False
    # Another thread may deliver it and take it away between two looks at the queue: seen with free threads.
    try:
        return pending[0].addressed
    except IndexError:
        return False


class _Delivery:
    """A running delivery, alive as long as its call of `deliver`, however that ends.

    The dispatcher holds it by a weak reference: were it interrupted before its cleanup, it would still be gone.
    """

    __slots__ = ("__weakref__", "thread")

    def __init__(self) -> None:
        self.thread = get_ident()


def _call_listeners(notification: Notification) -> None:
    """Call the listeners that have not been called yet."""
    if not notification.listeners:
        return
    if notification.calls is None:
        notification.event = notification.event or notification.make_event(to_datetime(notification.wall_time))
        notification.remaining = iter(notification.listeners)
        notification.calls = map(call, notification.remaining, repeat(notification.event))
    while True:
        try:
            for result in notification.calls:
                if result.__class__ is CoroutineType:
                    break
            else:
                return
        except Exception as error:
            if raised_by_signal_handler(error):
                _repeat_unless_started(notification, error)
                raise
            listener = notification.listeners[_called(notification) - 1]
            logger().exception("circuit breaker listener %r raised on %s", listener, type(notification.event).__name__)
        except BaseException as error:
            _repeat_unless_started(notification, error)
            raise
        else:
            result.close()
            listener = notification.listeners[_called(notification) - 1]
            logger().error(
                "circuit breaker listener %r returned a coroutine, which is never awaited; start a task instead",
                listener,
            )


def _called(notification: Notification) -> int:
    return len(notification.listeners) - length_hint(notification.remaining)


def _repeat_unless_started(notification: Notification, error: BaseException) -> None:
    """Step back to the last listener if it was interrupted at its entry, before its first instruction."""
    from opcode import opmap

    inside = error.__traceback__ and error.__traceback__.tb_next
    if inside and inside.tb_frame.f_code.co_code[inside.tb_lasti] == opmap["RESUME"]:
        notification.remaining.__setstate__(_called(notification) - 1)


def _without(listeners: tuple[Listener, ...], removed: Listener) -> tuple[Listener, ...]:
    kept = list(listeners)
    if removed in kept:
        kept.remove(removed)
    return tuple(kept)
