"""Delivery of events to listeners: outside the breaker's lock, one at a time, in order, each to each listener once.

One thread delivers at a time; nobody waits for it, so nobody deadlocks. A listener that uses the breaker adds events
behind what is already there, and the deliverer above it on the stack delivers those too.

A signal handler may raise between any two lines (Celery's soft time limit, `signal.alarm`, Ctrl-C). So how far delivery
has come is the position of one iterator, which calls a listener in the same step: the interpreter looks for signals
between its own instructions, never inside a step of C code. What an exception leaves undelivered, the next call
delivers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import repeat
from operator import call, length_hint
from threading import get_ident
from types import CoroutineType
from typing import TYPE_CHECKING, Any
from weakref import ref

from steadyvoice.breaker.failure import logger, raised_by_signal_handler
from steadyvoice.breaker.history import time_of_day

if TYPE_CHECKING:
    from steadyvoice.breaker.events import Listener
    from steadyvoice.breaker.news import News


class Outbox:
    """The listeners of one circuit."""

    __slots__ = ("_deliverer", "_listeners", "_of_calls")

    def __init__(self, listeners: tuple[Listener, ...]) -> None:
        self._listeners = listeners
        self._of_calls: tuple[Listener, ...] = ()
        self._deliverer: ref[_Deliverer] | None = None

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

    def address(self, news: News, wall: float) -> None:
        """Make it ready for those who listen now. Requires the breaker's lock."""
        news.wall = wall
        news.listeners = self._of_calls if news.of_a_call else self._listeners
        news.ready = True

    def after_fork(self) -> None:
        """Free a forked child of a deliverer that did not come along."""
        deliverer = self._deliverer and self._deliverer()
        if deliverer and deliverer.thread != get_ident():
            self._deliverer = None

    def deliver(self, pending: deque[News], lock: AbstractContextManager[Any]) -> None:
        """Deliver what is pending, unless another thread already does. Must not be called under the breaker's lock."""
        me = _Deliverer()
        mine = ref(me)
        try:
            while pending and pending[0].ready and self._claim(mine, lock):
                while pending and pending[0].ready:
                    _deliver(pending[0])
                    with lock:  # for those who look through it
                        pending.popleft()
                self._deliverer = None
        except BaseException:
            if self._deliverer is mine:
                self._deliverer = None
            raise

    def _claim(self, mine: ref[_Deliverer], lock: AbstractContextManager[Any]) -> bool:
        with lock:
            if self._deliverer is not None and self._deliverer() is not None:
                return False
            self._deliverer = mine
        return True


class _Deliverer:
    """Who delivers: alive as long as its call of `deliver`, however that ends."""

    __slots__ = ("__weakref__", "thread")

    def __init__(self) -> None:
        self.thread = get_ident()


def _deliver(news: News) -> None:
    """Call the listeners that have not been called yet."""
    if not news.listeners:
        return
    if news.calls is None:
        news.made = news.made or news.event(time_of_day(news.wall))
        news.turns = iter(news.listeners)
        news.calls = map(call, news.turns, repeat(news.made))
    while True:
        try:
            for answer in news.calls:
                if answer.__class__ is CoroutineType:
                    break
            else:
                return
        except Exception as error:
            if raised_by_signal_handler(error):
                _call_again_unless_begun(news, error)
                raise
            told = "a circuit breaker's listener %r raised on %s"
            logger().exception(told, news.listeners[_called(news) - 1], type(news.made).__name__)
        except BaseException as error:
            _call_again_unless_begun(news, error)
            raise
        else:
            answer.close()
            told = "a circuit breaker's listener %r returned a coroutine, which nobody awaits: start a task instead"
            logger().error(told, news.listeners[_called(news) - 1])


def _called(news: News) -> int:
    return len(news.listeners) - length_hint(news.turns)


def _call_again_unless_begun(news: News, error: BaseException) -> None:
    """Put the last listener's turn back if it was interrupted at its entry, before its first instruction."""
    from opcode import opmap

    inside = error.__traceback__ and error.__traceback__.tb_next
    if inside and inside.tb_frame.f_code.co_code[inside.tb_lasti] == opmap["RESUME"]:
        news.turns.__setstate__(_called(news) - 1)


def _less(listeners: tuple[Listener, ...], gone: Listener) -> tuple[Listener, ...]:
    kept = list(listeners)
    if gone in kept:
        kept.remove(gone)
    return tuple(kept)
