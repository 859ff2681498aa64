"""Admission control under overload: limit of utterances synthesised at once, and a queue for those beyond it.

A process that admits more than it has processor time for fails all of its callers: every stream falls behind, and
timeouts look like outages. Beyond the limits, new utterances wait for a while and are then refused, before anything is
spent on them. Utterances in progress continue.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from steadyvoice._option_rules import COUNT, SECONDS, Number
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.speech.errors import TTSOverloadedError
from steadyvoice.speech.option_validation import validate_option

MAX_ACTIVE = 4096
MAX_QUEUED = 2048
QUEUE_TIMEOUT = 5.0
"""Seconds. Long enough for a burst, and short enough for a caller to use another replica."""

MAX_LAG = 0.25
"""Seconds of smoothed lag of the event loop, or of waiting for a local engine or worker, above which utterances queue.

Players hold about as much audio in advance; beyond it, streams in progress begin to stutter.
"""

_QUEUE_SHARE = 0.5
"""Share of the time left to an utterance that it may spend in the queue: under load, synthesis takes long as well."""

_REPLACEMENT_FACTOR = 2.0
"""Multiple of `MAX_LAG` up to which a finished utterance is replaced by a queued one, so that the number stays equal.

Beyond it the number shrinks.
"""

_MIN_ACTIVE = 4
"""Utterances always admitted, however late the loop is: the cause may be another program on the machine."""

_MAX_ADMITTED_PER_BEAT = 64
_GAP_WEIGHT = 0.2  # weight of the latest, in the usual time between two places that become free
_MIN_RETRY_AFTER, _MAX_RETRY_AFTER = 1.0, 60.0  # seconds

CAUSES = ("queue_full", "queue_timeout", "deadline", "starved")
"""Causes of a refusal: the queue is full, the wait was too long, or the utterance's own deadline came first.

`starved` was admitted, and its time passed while this process had too little processor time.
"""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Limits of admission control. Raises TTSConfigurationError.

    `max_active` utterances are synthesised at once, `max_queued` more wait, for `queue_timeout` seconds at most.
    """

    max_active: int = MAX_ACTIVE
    max_queued: int = MAX_QUEUED
    queue_timeout: float = QUEUE_TIMEOUT

    def __post_init__(self) -> None:
        validate_option("max_active", self.max_active, COUNT)
        validate_option("max_queued", self.max_queued, Number(integer=True, minimum=0))
        validate_option("queue_timeout", self.queue_timeout, SECONDS)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the limits among a service's settings; absent ones and None have their defaults."""
        given = {field.name: settings.get(field.name) for field in fields(cls)}
        return cls(**{name: value for name, value in given.items() if value is not None})


class AdmissionControl:
    """Counter of the utterances in progress, and the queue before it. All but reading belongs to one event loop.

    A place is acquired by `admit()`, or by `wait()` when that fails, and given back by `leave()` exactly once. Places
    are given first come, first served. `lag` measures while any place is taken.
    """

    def __init__(self, lag: LoopLag, limits: AdmissionLimits | None = None, *, clock: Callable[[], float]) -> None:
        self.limits = limits or AdmissionLimits()
        self.active = 0
        """Utterances in progress."""
        self.is_behind = False
        """Whether the loop, a worker or an engine is too far behind for new utterances."""
        self.waits: dict[str, Callable[[], float]] = {}
        """Seconds of queued work, by name of a resource of this process, such as audio workers or a local engine.

        Called once with each heartbeat of the loop.
        """
        self.refused = dict.fromkeys(CAUSES, 0)
        self._lag, self._clock = lag, clock
        self._queue: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._step = 1  # number admitted with the next heartbeat
        self._behind = 0.0  # seconds, of the resource that is furthest behind
        self._gap: float | None = None  # seconds between two places that became free while others waited
        self._freed: float | None = None  # clock reading of the latest one
        lag.on_beat = self._beat

    @property
    def queued(self) -> int:
        """Utterances waiting for a place."""
        return len(self._queue)

    @property
    def open(self) -> bool:
        """True if a new utterance would get a place at once."""
        return not self._queue and self._may_grow

    def admit(self) -> bool:
        """Take a place, unless there is none or others wait for it. Return whether it was taken."""
        active = self.active
        if self._queue or active >= self.limits.max_active:
            return False
        # Requests that arrived during a long turn of the loop are all read in the next one, before any heartbeat.
        if active >= _MIN_ACTIVE and (self.is_behind or self._lag.overdue > MAX_LAG):
            return False
        self.active += 1
        self._lag.start()
        return True

    async def wait(self, left: float) -> None:
        """Queue for a place, for half of the `left` seconds at most. Raises TTSOverloadedError."""
        if len(self._queue) >= self.limits.max_queued:
            raise self.refusal("queue_full")
        limit = min(self.limits.queue_timeout, _QUEUE_SHARE * max(left, 0.0))
        place = asyncio.get_running_loop().create_future()
        self._queue[place] = None
        try:
            async with asyncio.timeout(limit):
                await place
        except BaseException as error:
            self._queue.pop(place, None)
            # A place may be given in the very turn of the loop in which the wait times out or is cancelled.
            was_given = place.done() and not place.cancelled()
            if isinstance(error, TimeoutError):
                if was_given:
                    return
                timed_out = limit >= self.limits.queue_timeout
                raise self.refusal("queue_timeout" if timed_out else "deadline") from None
            if was_given:
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back; it goes to the next utterance in the queue."""
        self.active -= 1
        self._lag.stop()
        if not self.active:
            self.is_behind, self._behind, self._step = False, 0.0, 1
        if self._queue:
            self._note_freed()
            # Late: the number in progress stays. Twice as late: it shrinks (decision 25).
            is_replaced = self.active < _MIN_ACTIVE or self._behind <= _REPLACEMENT_FACTOR * MAX_LAG
            if self.active < self.limits.max_active and is_replaced:
                self._admit(1)
        else:
            self._freed = None

    def configure(self, limits: AdmissionLimits) -> None:
        """Change the limits, for utterances in the queue as well."""
        self.limits = limits
        if self._may_grow:
            self._admit(limits.max_active)

    def refusal(self, cause: str) -> TTSOverloadedError:
        """Count a refusal and return its error. `cause` is one of CAUSES."""
        self.refused[cause] += 1
        message = f"overloaded: {self.active} utterances in progress, {len(self._queue)} queued"
        if self.is_behind:
            message += f", {self._behind:.2f} s behind"
        reason = {
            "queue_full": f"; the queue is full (max_queued = {self.limits.max_queued})",
            "queue_timeout": f"; no place within {self.limits.queue_timeout:g} s (queue_timeout)",
            "deadline": "; no place in the time left by the call's deadline",
            "starved": "; too little processor time to speak before the deadline",
        }
        return TTSOverloadedError(message + reason[cause], code=cause, retry_after=self.retry_after)

    @property
    def retry_after(self) -> float:
        """Seconds until a new utterance is likely to find a place: the length of the queue at its usual rate."""
        gap = self.limits.queue_timeout / max(len(self._queue), 1) if self._gap is None else self._gap
        return min(max(gap * (len(self._queue) + 1), _MIN_RETRY_AFTER), _MAX_RETRY_AFTER)

    def after_fork(self) -> None:
        """Forget the parent's utterances."""
        self.active, self.is_behind, self._behind, self._step = 0, False, 0.0, 1
        self._queue = OrderedDict()

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready value: limits, utterances in progress, and seconds that the process is behind."""
        return {
            "overloaded": not self.open,
            "active": self.active,
            "queued": self.queued,
            "max_active": self.limits.max_active,
            "max_queued": self.limits.max_queued,
            "queue_timeout": self.limits.queue_timeout,
            "refused": dict(self.refused),
            "loop_lag": round(self._lag.recent, 4),
            "loop_lost": round(self._lag.lost, 3),
            "waits": {name: round(wait(), 4) for name, wait in self.waits.items()},
        }

    @property
    def _may_grow(self) -> bool:
        return self.active < self.limits.max_active and (not self.is_behind or self.active < _MIN_ACTIVE)

    def _beat(self) -> None:
        """Measure how far behind the process is, and admit some of the queue."""
        self._behind = max([self._lag.recent, *(wait() for wait in self.waits.values())])
        self.is_behind = self._behind > MAX_LAG
        if self.is_behind:
            self._step = 1
        if self._queue and self._may_grow:
            self._admit(self._step)
            # Doubled with each heartbeat, as the load of those just admitted shows in the lag one heartbeat later.
            self._step = min(2 * self._step, _MAX_ADMITTED_PER_BEAT)

    def _admit(self, count: int) -> None:
        while count and self._queue and self.active < self.limits.max_active:
            place, _ = self._queue.popitem(last=False)
            if place.done():  # its caller is leaving
                continue
            self.active += 1
            self._lag.start()
            place.set_result(None)
            count -= 1

    def _note_freed(self) -> None:
        now = self._clock()
        if self._freed is not None:
            gap = now - self._freed
            self._gap = gap if self._gap is None else self._gap + _GAP_WEIGHT * (gap - self._gap)
        self._freed = now
