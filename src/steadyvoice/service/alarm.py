"""A time limit for many short waits, one after the other: a single timer, looked at when it fires and not before.

`asyncio.timeout` sets a timer for each wait and takes it back. A stream waits for every few kilobytes, and hardly ever
too long.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

_GRAIN = 0.001  # seconds by which it may ring late: event loops read their clock once a turn

_LATE = 0.02  # seconds; a timer that is called later than this was kept waiting by the loop
_TURNS = 3
"""Turns of the loop that are waited for then: what is awaited may lie unread in the socket. A turn polls for I/O before
or after it runs what is due (asyncio, uvloop), and who waits is woken one turn after the poll.
"""


class Alarm:
    """Ends waits that take too long, as `asyncio.timeout` does: by a cancellation that is taken back."""

    __slots__ = ("_at", "_due", "_handle", "_left", "_task", "_turns", "rang")

    def __init__(self) -> None:
        self.rang = False
        """Whether the last wait was cut short."""
        self._due = math.inf  # of the wait at hand
        self._at = math.inf  # when the timer fires, which may be sooner
        self._handle: asyncio.Handle | None = None
        self._turns = _TURNS  # that are left before a late ring is believed
        self._task: asyncio.Task[Any] | None = None  # that waits now
        self._left: Callable[[], float] | None = None

    async def within(self, seconds: float, awaited: Awaitable[T], left: Callable[[], float] | None = None) -> T:
        """Wait for this, for so many seconds at most. Raises TimeoutError when they are over.

        `left` is asked then whether there are any more by now: they may have become more, and never less. A negative
        number ends the wait at once, even if the loop was late.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - coroutines run in tasks
        before = task.cancelling()
        self._left = left
        self._begin(task, loop, seconds)
        try:
            return await awaited
        except asyncio.CancelledError:
            if self.rang and task.uncancel() <= before:
                raise TimeoutError from None
            raise
        except BaseException:
            if self.rang:
                task.uncancel()
            raise
        finally:
            self._task = self._left = None
            del task  # a cancelled one keeps its CancelledError, whose traceback keeps this frame

    def close(self) -> None:
        """Nobody waits any more."""
        if self._handle:
            self._handle.cancel()
            self._handle = None

    def _begin(self, task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._due = due = loop.time() + seconds
        self._task, self.rang, self._turns = task, False, _TURNS
        if self._handle is None or due < self._at - _GRAIN:
            self.close()
            self._set(loop, due)

    def _set(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if due < math.inf:
            self._at, self._handle = due, loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._handle = None
        if (task := self._task) is None:
            return
        loop = task.get_loop()
        late = loop.time() - self._due
        if late < 0:
            self._set(loop, self._due)
            return
        left = self._left() if self._left else 0.0
        if left > _GRAIN:
            self._due = loop.time() + left
            self._turns = _TURNS
            self._set(loop, self._due)
        elif left >= 0 and self._turns and (late > _LATE or self._turns < _TURNS):
            self._turns -= 1
            self._at, self._handle = -math.inf, loop.call_soon(self._ring)
        else:
            self.rang = True
            task.cancel()
