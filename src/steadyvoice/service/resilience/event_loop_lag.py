"""Event loop lag: seconds in which this process had work to do but no processor time.

A loop without a turn reads no socket, so an answer that lies there looks like a silent provider. Code that judges a
provider by time subtracts these seconds; otherwise a starved process opens the circuits of healthy providers
(decision 25).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

HEARTBEAT_INTERVAL = 0.05
"""Seconds between two heartbeats. Turns of the loop that are shorter are not worth subtracting."""

_JITTER = 0.005  # seconds by which timers are late on an idle machine

_MAX_LATENESS = 1.0
"""Seconds that one heartbeat adds to the recent lag at most: one long stall says little about the next second."""

_SMOOTHING = 1.0  # seconds after which a heartbeat has lost most of its weight in the recent lag


class LoopLag:
    """Heartbeat on the running event loop that measures by how much it is called late.

    It runs while `start()` was called more often than `stop()`, so that an idle process is never woken. `clock` is
    monotonic. Reading is safe from any thread; all else belongs to the loop.
    """

    __slots__ = ("_beaten", "_clock", "_handle", "_loop", "_users", "beat", "on_beat", "recent")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.recent = 0.0
        """Seconds by which the latest heartbeats were late, smoothed over about a second; 0.0 while it does not run."""
        self.on_beat: Callable[[], None] | None = None
        """Callback after each heartbeat, on the loop."""
        self.beat = (0.0, math.inf)
        """Seconds lost until the latest heartbeat, and the clock reading at which the next is due.

        A tuple that is replaced by each heartbeat and never changed, so that other threads read both values together.
        """
        self._clock = clock
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._beaten = 0.0  # clock reading of the latest heartbeat

    def start(self) -> None:
        """Run until `stop()` has been called as often."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a forked child, or a service that is used again
            self._loop, self._handle, self._users = loop, None, 0
        self._users += 1
        if self._users == 1:
            self._beaten = now = self._clock()
            self.beat = (self.beat[0], now + HEARTBEAT_INTERVAL + _JITTER)
            if self._handle is None:
                self._handle = loop.call_later(HEARTBEAT_INTERVAL, self._ring)

    def stop(self) -> None:
        """Take back one `start()`. After the last one, the pending timer fires once more and does nothing."""
        if self._users:
            self._users -= 1
        if not self._users:
            now, (lost, due) = self._clock(), self.beat
            self.beat = (lost + max(0.0, now - due), math.inf)
            self.recent = 0.0

    def after_fork(self) -> None:
        """Forget the parent's event loop, which does not exist in this process."""
        self._loop, self._handle, self._users = None, None, 0
        self.beat, self.recent = (self.beat[0], math.inf), 0.0

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Event loop on which it runs, or ran last; None before that."""
        return self._loop

    @property
    def overdue(self) -> float:
        """Seconds for which the loop has had no turn, 0.0 if the next heartbeat is not due yet."""
        return max(0.0, self._clock() - self.beat[1])

    @property
    def lost(self) -> float:
        """Seconds lost so far."""
        return self.lost_at(self._clock())

    def lost_at(self, now: float) -> float:
        """Return the seconds lost until `now`, a reading of the clock, an overdue heartbeat included."""
        lost, due = self.beat
        return lost + (now - due) if now > due else lost

    def time(self) -> float:
        """Return monotonic seconds that stand still while the loop has no turn: the clock of the circuits."""
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
