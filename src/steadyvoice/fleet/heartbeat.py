"""Heartbeat of a replica: the thread that beats, and what the beats say: together with the others, stale, or alone."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol
from weakref import ref

BEAT_INTERVAL = 0.25
"""Seconds between beats, before jitter."""
BEAT_JITTER = 0.1
"""Share by which intervals between beats vary, so that replicas that started together do not beat together."""
RECORD_LIFE = 3.0
"""Seconds for which a record counts after it was written."""
BEATS_TO_STALE = 3
"""Missed beats in a row after which a replica learns nothing new of the others."""
BEATS_TO_RETURN = 3
"""Beats in a row that come back, after which a replica that was alone trusts the store again."""
HURRIED_INTERVAL = 0.1
"""Seconds between beats while requests wait for slots that are to come, for `HURRY` seconds at most."""
HURRY = 2.0
MIN_BEAT_INTERVAL = 0.02
"""Seconds between beats, however often the next one is hurried."""

_logger = logging.getLogger("steadyvoice.fleet")


class FleetState(StrEnum):
    """State of a replica: together with the others; stale, while it hears nothing new of them; or alone."""

    TOGETHER = "together"  # the store answers, and others are heard of
    STALE = "stale"  # nothing new is heard of the others
    ALONE = "alone"  # the store does not answer, or has not yet


class Membership:
    """State of a replica, from the beats that came back and those that were missed.

    Only beats that were sent can be missed. A process that was stopped, or began a beat late, has missed none.
    """

    def __init__(self) -> None:
        self.state = FleetState.ALONE
        self._answered = self._missed = 0  # in a row
        self._answered_at: float | None = None

    def record_answer(self, now: float) -> FleetState:
        """Record a beat that came back, and return the state. The first one ever is enough to join."""
        first = self._answered_at is None
        self._answered, self._missed, self._answered_at = self._answered + 1, 0, now
        if first or self.state is FleetState.STALE or self._answered >= BEATS_TO_RETURN:
            self.state = FleetState.TOGETHER
        return self.state

    def record_miss(self, now: float) -> FleetState:
        """Record a beat that failed, and return the state."""
        self._answered, self._missed = 0, self._missed + 1
        if self._missed >= BEATS_TO_STALE and self.state is not FleetState.ALONE:
            silent = now - (self._answered_at or 0.0)
            self.state = FleetState.ALONE if silent >= RECORD_LIFE else FleetState.STALE
        return self.state


class Beating(Protocol):
    """Fleet as its thread uses it."""

    name: str
    hurry: threading.Event

    @property
    def wants_slots(self) -> bool:
        """True if requests wait for slots that are to come."""
        ...

    def beat(self) -> None:
        """Exchange records with the others once, and apply what follows."""
        ...


class BeatThread:
    """Daemon thread that beats until it is stopped."""

    def __init__(self, fleet: Beating, random: Callable[[], float]) -> None:
        self._fleet = ref(fleet)  # one that was forgotten, not closed, ends with its thread
        self._hurry = fleet.hurry
        self._random = random
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=f"steadyvoice-fleet-{fleet.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop it after the present beat, and wait for that."""
        self._is_stopping = True
        self._hurry.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        hurried_at = -math.inf
        while not self._is_stopping and (fleet := self._fleet()) is not None:
            self._hurry.clear()  # before the beat, which reads whatever a hurry was for
            began = time.monotonic()
            try:
                fleet.beat()
            except Exception:
                # A beat that fails for another reason than the store must not be the last one.
                _logger.exception("fleet %s: a beat failed", fleet.name)
            hurries = fleet.wants_slots and began - hurried_at < HURRY
            del fleet
            interval = HURRIED_INTERVAL if hurries else BEAT_INTERVAL
            if self._hurry.wait(interval * (1 + BEAT_JITTER * (2 * self._random() - 1))) and not self._is_stopping:
                hurried_at = time.monotonic()
                time.sleep(max(0.0, began + MIN_BEAT_INTERVAL - hurried_at))
