"""Admission control: how many utterances are synthesised at once, and how many more wait for that in a queue.

A process that takes on more than it has processor time for serves nobody well: every stream falls behind, and timeouts
look like outages. Beyond its limits, newcomers wait for a while and are then refused, before anything is spent on them.
Work in progress goes on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.speech.errors import TTSConfigurationError, TTSOverloadedError

MAX_ACTIVE = 4096
MAX_QUEUED = 2048
QUEUE_TIMEOUT = 5.0
"""Seconds. Long enough to ride out a burst, and short enough for a caller to go elsewhere."""

MAX_LAG = 0.25
"""Seconds of smoothed lag of the event loop, or of waiting for a local engine or worker, above which newcomers queue.

Players hold about as much audio in hand; beyond it, streams in progress begin to stutter.
"""

_QUEUE_SHARE = 0.5
"""Share of the time left to an utterance that it may spend in the queue: under load, speaking takes long, too."""

_REPLACEMENT_FACTOR = 2.0
"""Times that, up to which whoever leaves is replaced by whoever waits: the number at work neither grows nor shrinks."""

_MIN_ACTIVE = 4
"""Utterances that are synthesised at once however late the loop is: other programs may be what keeps it waiting."""

_MAX_ADMITTED_PER_BEAT = 64
_GAP_WEIGHT = 0.2  # weight of the newest, in the usual time between two places that become free
_MIN_RETRY_AFTER, _MAX_RETRY_AFTER = 1.0, 60.0  # seconds, within which a refused caller is told to come again

CAUSES = ("queue_full", "queue_timeout", "deadline", "starved")
"""Why a request was refused: no room in the queue, too long in it, or its own deadline came first. `starved` was
admitted, and its time passed while this process had too little processor time.
"""


class AdmissionControl:
    """Counts utterances in and out. Everything but reading belongs to one event loop.

    Acquire a place by `admit()`, or `wait()` for one when that is refused, and `leave()` it exactly once. Places are
    given first come, first served. `lag` beats while any place is taken.
    """

    def __init__(
        self,
        lag: LoopLag,
        *,
        max_active: int = MAX_ACTIVE,
        max_queued: int = MAX_QUEUED,
        queue_timeout: float = QUEUE_TIMEOUT,
        clock: Callable[[], float],
    ) -> None:
        self.max_active, self.max_queued, self.queue_timeout = max_active, max_queued, queue_timeout
        self.active = 0
        """Utterances that are being synthesised."""
        self.is_behind = False
        """Whether the loop, a worker or an engine is too far behind for newcomers."""
        self.waits: dict[str, Callable[[], float]] = {}
        """By name of a resource of this process, such as audio workers or a local engine: gives the seconds for which
        work has waited for it. Called once with each beat.
        """
        self.refused = dict.fromkeys(CAUSES, 0)
        self._lag, self._clock = lag, clock
        self._queue: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._step = 1  # how many are let in with the next beat
        self._behind = 0.0  # seconds, of whatever is furthest behind
        self._gap: float | None = None  # seconds between two places that became free, while others waited
        self._freed: float | None = None  # when that was last
        lag.on_beat = self._beat

    @property
    def queued(self) -> int:
        """Utterances that wait for a place."""
        return len(self._queue)

    @property
    def open(self) -> bool:
        """Whether a newcomer would get a place at once."""
        return not self._queue and self._may_grow

    def admit(self) -> bool:
        """Take a place if there is one, and nobody else waits for it."""
        if self._queue or not self._may_grow:
            return False
        if self.active >= _MIN_ACTIVE and self._lag.overdue > MAX_LAG:  # all who came meanwhile come at once
            return False
        self.active += 1
        self._lag.start()
        return True

    async def wait(self, left: float) -> None:
        """Queue for a place, in vain for most of the `left` seconds at most. Raises TTSOverloadedError."""
        if len(self._queue) >= self.max_queued:
            raise self.refusal("queue_full")
        limit = min(self.queue_timeout, _QUEUE_SHARE * max(left, 0.0))
        place = asyncio.get_running_loop().create_future()
        self._queue[place] = None
        try:
            async with asyncio.timeout(limit):
                await place
        except BaseException as error:
            self._queue.pop(place, None)
            given = place.done() and not place.cancelled()  # in the same turn of the loop
            if isinstance(error, TimeoutError):
                if given:
                    return
                raise self.refusal("queue_timeout" if limit >= self.queue_timeout else "deadline") from None
            if given:
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back, which goes to whoever waits for it."""
        self.active -= 1
        self._lag.stop()
        if not self.active:
            self.is_behind, self._behind, self._step = False, 0.0, 1
        if self._queue:
            self._note_freed()
            if self.active < self.max_active and (
                self.active < _MIN_ACTIVE or self._behind <= _REPLACEMENT_FACTOR * MAX_LAG
            ):
                self._admit(1)
        else:
            self._freed = None

    def configure(self, *, max_active: int, max_queued: int, queue_timeout: float) -> None:
        """Change the limits: for newcomers, and for whoever waits."""
        self.max_active, self.max_queued, self.queue_timeout = max_active, max_queued, queue_timeout
        if self._may_grow:
            self._admit(self.max_active)

    def refusal(self, cause: str) -> TTSOverloadedError:
        """Count a refusal, and make the error that tells it. `cause` is one of CAUSES."""
        self.refused[cause] += 1
        told = f"overloaded: {self.active} utterances are being synthesised and {len(self._queue)} wait"
        if self.is_behind:
            told += f", {self._behind:.2f} s behind"
        why = {
            "queue_full": f"; no more than {self.max_queued} may wait",
            "queue_timeout": f"; no turn within {self.queue_timeout:g} s",
            "deadline": "; no turn in the time that the call's deadline left",
            "starved": "; too little processor time to speak before the deadline",
        }
        return TTSOverloadedError(told + why[cause], code=cause, retry_after=self.retry_after)

    @property
    def retry_after(self) -> float:
        """Seconds after which a newcomer is likely to find a place: how long the queue lasts at its usual pace."""
        gap = self.queue_timeout / max(len(self._queue), 1) if self._gap is None else self._gap
        return min(max(gap * (len(self._queue) + 1), _MIN_RETRY_AFTER), _MAX_RETRY_AFTER)

    def after_fork(self) -> None:
        """Forget the parent's utterances."""
        self.active, self.is_behind, self._behind, self._step = 0, False, 0.0, 1
        self._queue = OrderedDict()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: the limits, what is under way, and how far behind the process is (seconds)."""
        return {
            "overloaded": not self.open,
            "active": self.active,
            "queued": self.queued,
            "max_active": self.max_active,
            "max_queued": self.max_queued,
            "queue_timeout": self.queue_timeout,
            "refused": dict(self.refused),
            "loop_lag": round(self._lag.recent, 4),
            "loop_lost": round(self._lag.lost, 3),
            "waits": {name: round(wait(), 4) for name, wait in self.waits.items()},
        }

    @property
    def _may_grow(self) -> bool:
        return self.active < self.max_active and (not self.is_behind or self.active < _MIN_ACTIVE)

    def _beat(self) -> None:
        """Look how far behind the process is, and let in some of those who wait: at first few, then more and more."""
        self._behind = max([self._lag.recent, *(wait() for wait in self.waits.values())])
        self.is_behind = self._behind > MAX_LAG
        if self.is_behind:
            self._step = 1
        if self._queue and self._may_grow:
            self._admit(self._step)
            self._step = min(2 * self._step, _MAX_ADMITTED_PER_BEAT)

    def _admit(self, most: int) -> None:
        while most and self._queue and self.active < self.max_active:
            place, _ = self._queue.popitem(last=False)
            if place.done():  # its caller is leaving
                continue
            self.active += 1
            self._lag.start()
            place.set_result(None)
            most -= 1

    def _note_freed(self) -> None:
        now = self._clock()
        if self._freed is not None:
            gap = now - self._freed
            self._gap = gap if self._gap is None else self._gap + _GAP_WEIGHT * (gap - self._gap)
        self._freed = now


def validate_admission(given: Mapping[str, Any]) -> None:
    """Refuse impossible values of `max_active`, `max_queued`, `queue_timeout`. Raises TTSConfigurationError."""
    for key, least in (("max_active", 1), ("max_queued", 0)):
        value = given.get(key)
        if value is not None and (type(value) is not int or value < least):
            raise TTSConfigurationError(f"{key}: must be a whole number of at least {least}, got {value!r}")
    value = given.get("queue_timeout")
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise TTSConfigurationError(f"queue_timeout: must be a number of seconds, 0 or more, got {value!r}")
