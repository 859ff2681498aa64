"""Measurement of event loop lag: seconds in which this process had work to do, but no processor time to do it.

A loop that gets no turn reads no socket, so an answer that lies there looks like a silent provider. Whatever judges a
provider by the clock subtracts these seconds, or a starved process would open the circuits of healthy providers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

HEARTBEAT_INTERVAL = 0.05
"""Seconds between two beats. A turn of the loop that is shorter than this costs nobody anything worth subtracting."""

_JITTER = 0.005  # seconds by which timers are late on a machine at rest

_MAX_LATENESS = 1.0
"""Seconds that one beat adds to the recent lag at most: one long stall that is over says little about what comes."""

_SMOOTHING = 1.0  # seconds after which a beat has lost most of its weight in the recent lag


class LoopLag:
    """Heartbeat on the running event loop that measures how late it is called.

    It beats between `start()` and as many `stop()`, so that an idle process is never woken. `clock` gives seconds
    that never go back. Reading is safe from any thread; all else belongs to the loop.
    """

    __slots__ = ("_beaten", "_clock", "_handle", "_loop", "_users", "beat", "on_beat", "recent")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.recent = 0.0
        """Seconds by which the last beats were late, smoothed over about a second. 0.0 while nothing is active."""
        self.on_beat: Callable[[], None] | None = None
        """Called after each beat, on the loop."""
        self.beat = (0.0, math.inf)
        """Seconds lost until the last beat, and when the next is due: a new object with each beat, never changed."""
        self._clock = clock
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._beaten = 0.0  # when it beat last

    def start(self) -> None:
        """Beat until this is taken back by `stop()`."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # of a forked child, or of a service that is used again
            self._loop, self._handle, self._users = loop, None, 0
        self._users += 1
        if self._users == 1:
            self._beaten = now = self._clock()
            self.beat = (self.beat[0], now + HEARTBEAT_INTERVAL + _JITTER)
            if self._handle is None:
                self._handle = loop.call_later(HEARTBEAT_INTERVAL, self._ring)

    def stop(self) -> None:
        """Take one `start()` back. After the last one, the timer that is set fires once more and does nothing."""
        if self._users:
            self._users -= 1
        if not self._users:
            self.beat = (self.lost_at(self._clock()), math.inf)
            self.recent = 0.0

    def after_fork(self) -> None:
        """Forget the parent's event loop, which did not come along."""
        self._loop, self._handle, self._users = None, None, 0
        self.beat, self.recent = (self.beat[0], math.inf), 0.0

    @property
    def overdue(self) -> float:
        """Seconds for which the loop has had no turn just now, 0.0 if the next beat is not due yet."""
        return max(0.0, self._clock() - self.beat[1])

    @property
    def lost(self) -> float:
        """Seconds lost so far, for good."""
        return self.lost_at(self._clock())

    def lost_at(self, now: float) -> float:
        """Seconds lost until `now`, a reading of the clock, with those of a beat that is overdue."""
        lost, due = self.beat
        return lost + (now - due) if now > due else lost

    def time(self) -> float:
        """Seconds that never go back, and stand still while the loop gets no turn: a clock to judge others by."""
        now = self._clock()
        lost, due = self.beat
        return (due if now > due else now) - lost

    def _ring(self) -> None:
        self._handle = None
        if not self._users:
            return
        now, (lost, due) = self._clock(), self.beat
        late = max(0.0, now - due)
        self.beat = (lost + late, now + HEARTBEAT_INTERVAL + _JITTER)
        weight = 1.0 - math.exp((self._beaten - now) / _SMOOTHING)
        self.recent += weight * (min(late, _MAX_LATENESS) - self.recent)
        self._beaten = now
        assert self._loop is not None  # noqa: S101 - it beats on one
        self._handle = self._loop.call_later(HEARTBEAT_INTERVAL, self._ring)
        if self.on_beat:
            self.on_beat()
