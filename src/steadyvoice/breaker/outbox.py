"""Events on their way to listeners: posted under the breaker's lock, delivered outside of it.

One deliverer at a time, so the order holds; nobody waits for it, so nobody deadlocks. A listener that uses the
breaker posts behind what is already there, and the deliverer above it on the stack delivers that too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from steadyvoice.breaker.failure import logger
from steadyvoice.breaker.history import time_of_day

if TYPE_CHECKING:
    from steadyvoice.breaker.events import Event, Listener
    from steadyvoice.breaker.news import News


class Outbox:
    """Listeners, and the events they have not heard yet."""

    __slots__ = ("_delivering", "_listeners", "_of_calls", "pending")

    def __init__(self, listeners: tuple[Listener, ...]) -> None:
        self._listeners = listeners
        self._of_calls: tuple[Listener, ...] = ()
        self._delivering = Lock()
        self.pending: deque[tuple[News, float, tuple[Listener, ...]]] | None = (
            None  # until the first: a deque is 760 bytes
        )

    @property
    def wants_calls(self) -> bool:
        """Whether any listener asks for an event of each call."""
        return bool(self._of_calls)

    def subscribe(self, listener: Listener, calls: bool) -> Callable[[], None]:
        """Add a listener. Requires the breaker's lock, and so does what is returned, which removes it."""
        self._listeners = (*self._listeners, listener)
        if calls:
            self._of_calls = (*self._of_calls, listener)

        subscribed = True

        def unsubscribe() -> None:
            nonlocal subscribed
            if subscribed:
                self._listeners = _less(self._listeners, listener)
                if calls:
                    self._of_calls = _less(self._of_calls, listener)
            subscribed = False

        return unsubscribe

    def post(self, news: News, wall: float) -> None:
        """Queue what happened for those who listen now. Requires the breaker's lock."""
        listeners = self._of_calls if news.of_a_call else self._listeners
        if listeners:
            if self.pending is None:
                self.pending = deque()
            self.pending.append((news, wall, listeners))

    def after_fork(self) -> None:
        """Free a forked child's outbox of a deliverer that did not come along."""
        if self._delivering.acquire(blocking=False):
            self._delivering.release()
        else:
            self._delivering = Lock()

    def deliver(self) -> None:
        """Deliver what is pending, unless somebody already does. Must not be called under the breaker's lock."""
        while self.pending and self._delivering.acquire(blocking=False):
            try:
                while self.pending:
                    news, wall, listeners = self.pending.popleft()
                    event = news.event(time_of_day(wall))
                    for listener in listeners:
                        _tell(listener, event)
            finally:
                self._delivering.release()


def _tell(listener: Listener, event: Event) -> None:
    try:
        listener(event)
    except Exception:
        logger().exception("a circuit breaker's listener %r raised on %s", listener, type(event).__name__)


def _less(listeners: tuple[Listener, ...], gone: Listener) -> tuple[Listener, ...]:
    kept = list(listeners)
    kept.remove(gone)
    return tuple(kept)
