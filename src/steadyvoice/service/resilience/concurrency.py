"""Concurrency limit of one credential, and the queue for its slots.

The vendor's stated limit is the ceiling, and a limit set by the user is another. Below them the limit adapts as TCP
does: a refusal for too many requests halves it, and each request accepted while all slots are in use adds its share of
one more. `ConcurrencyLimit` decides and neither reads a clock nor awaits; `ConcurrencyQueue` waits. In a fleet, it
lends from a block of the account's slots, which another thread leases.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from types import TracebackType

import msgspec

from steadyvoice.providers.base import Accepted
from steadyvoice.speech.errors import TTSConcurrencyError

MAX_OVERTAKING = 3
"""Continuations of streams in progress that may overtake each waiting new request."""

_DECREASE = 0.5
_WEIGHT_OF_SLOWER, _WEIGHT_OF_FASTER = 0.2, 0.5
"""Weight of the latest request in the usual duration, which so recovers quickly after a vendor has hung."""


class EntryState(Enum):
    """State of a request at the concurrency limit."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"


class QueueEntry(msgspec.Struct, eq=False):
    """Request at the concurrency limit, waiting or running. `era` counts the refusals before it was started.

    An `is_continuation` belongs to a stream that is already heard.
    """

    is_continuation: bool = False
    state: EntryState = EntryState.WAITING
    era: int = 0
    since: float = 0.0

    @property
    def running(self) -> bool:
        """True if it holds a slot."""
        return self.state is EntryState.RUNNING


class ConcurrencyLimit:
    """Adaptive limit of concurrent requests, with a queue: first come, first served within each kind.

    Continuations overtake new requests, three to one at most, because their listeners hear a gap otherwise. `initial`
    requests may run before the vendor has stated its limit; `maximum` is never exceeded, whatever the vendor states.
    None is unlimited. In a fleet, `share` of the account's slots are lent to this process; see `set_share`.

    Methods that may free slots return the entries that start to run; the caller notifies them.
    """

    def __init__(self, initial: int | None = None, maximum: int | None = None) -> None:
        self._ceiling, self._maximum = initial, maximum
        self._is_stated = False  # whether the vendor has stated the ceiling
        self._window: float | None = None  # adaptive limit after refusals, None without any
        self._era = 0
        self._running = 0
        self._peak = 0
        self._continuations: OrderedDict[QueueEntry, None] = OrderedDict()
        self._new: OrderedDict[QueueEntry, None] = OrderedDict()
        self._overtaken = 0  # continuations that started since a new request did
        self._usual: float | None = None  # seconds that a request runs
        self.share: int | None = None
        """Slots that a fleet lends to this process; None: it lends none, and sets no limit."""
        self._attainable = 1  # slots that it would lend to more requests
        self.own_limit: int | None = None
        """Limit without a fleet; None is unlimited."""
        self.limit: int | None
        """Number of requests that may run at once; None is unlimited."""
        self._update_limit()

    def set_user_limits(self, limits: Iterable[int | None], now: float) -> list[QueueEntry]:
        """Set the limits that users of the credential ask for; the least of them holds."""
        self._maximum = min((limit for limit in limits if limit is not None), default=None)
        self._update_limit()
        return self._start_waiting(now)

    def set_share(self, share: int | None, attainable: int, now: float) -> list[QueueEntry]:
        """Set how many slots a fleet lends to this process, which may be none; None: there is no fleet.

        More requests may get up to `attainable`, once they wait: by these, and not by its share, the wait is estimated.
        """
        self.share, self._attainable = share, attainable
        self._update_limit()
        return self._start_waiting(now)

    @property
    def bounds(self) -> tuple[int | None, int | None, int | None]:
        """Limits that the vendor has stated, that users set, and that is assumed before the vendor states one."""
        stated, initial = (self._ceiling, None) if self._is_stated else (None, self._ceiling)
        return stated, self._maximum, initial

    @property
    def waiting_since(self) -> float | None:
        """Time since when the first request waits; None if none does. Safe from any thread."""
        # A dictionary may change while another thread takes its first key.
        with suppress(StopIteration, RuntimeError):
            return min((next(iter(queue)).since for queue in (self._continuations, self._new) if queue), default=None)
        return None

    @property
    def running(self) -> int:
        """Number of running requests."""
        return self._running

    def take_peak(self) -> int:
        """Return the most requests that ran at once since the last call. One other thread may call this."""
        peak, self._peak = self._peak, self._running
        return peak

    @property
    def waiting(self) -> int:
        """Number of waiting requests."""
        return len(self._continuations) + len(self._new)

    @property
    def available(self) -> bool:
        """True if a new request would start at once."""
        return self._has_slot and not self.waiting

    def expected_wait(self, *, is_continuation: bool = False) -> float:
        """Return the seconds that a new request would wait, by how long requests usually run."""
        if self.limit is None or self.available:
            return 0.0
        ahead = self.waiting
        if is_continuation:
            continuations = len(self._continuations)
            ahead = continuations + min(len(self._new), (continuations + self._overtaken) // MAX_OVERTAKING)
        slots = self.limit if self.share is None else max(1, self.limit, self._attainable)
        return (ahead + 1) * (self._usual or 0.0) / slots

    def acquire(self, now: float, *, is_continuation: bool = False) -> QueueEntry:
        """Return an entry that runs at once, or waits behind all earlier ones of its kind."""
        entry = QueueEntry(is_continuation, since=now)
        if self.available:
            self._start(entry, now)
        else:
            self._queue_of(entry)[entry] = None
            self._start_waiting(now)
        return entry

    def try_acquire(self, now: float) -> QueueEntry | None:
        """Return an entry that runs at once; None if a new request would have to wait."""
        if self._new or self._continuations or not (self.limit is None or self._running < self.limit):
            return None
        running = self._running = self._running + 1
        if running > self._peak:
            self._peak = running
        return QueueEntry(False, EntryState.RUNNING, self._era, now)

    def release(self, entry: QueueEntry, now: float) -> list[QueueEntry]:
        """Remove an entry that has ended or does not wait any longer. Releasing twice changes nothing."""
        if entry.state is EntryState.RUNNING:
            self._running -= 1
            seconds, usual = now - entry.since, self._usual
            if usual is None:
                usual = seconds
            weight = _WEIGHT_OF_SLOWER if seconds > usual else _WEIGHT_OF_FASTER
            self._usual = usual + weight * (seconds - usual)
        elif entry.state is EntryState.WAITING:
            self._queue_of(entry).pop(entry, None)
        entry.state = EntryState.GONE
        return self._start_waiting(now) if self._new or self._continuations else []

    def accepted(self, entry: QueueEntry, stated: int | None, now: float) -> list[QueueEntry]:
        """Note that the vendor accepted a request, and the limit that it stated with it.

        A vendor that never states one is not guessed at any longer.
        """
        if stated == self._ceiling and self._window is None and not (self._new or self._continuations):
            self._is_stated = stated is not None or self._is_stated
            return []
        known = self._ceiling, self._window
        if stated is not None or not self._is_stated:
            self._ceiling, self._is_stated = stated, stated is not None
        if self._window is not None and entry.era == self._era and not self._has_slot:
            self._window += 1 / self._window
        if self._window is not None and self._ceiling is not None and self._window >= self._ceiling:
            self._window = None
        if (self._ceiling, self._window) != known:
            self._update_limit()
        return self._start_waiting(now) if self._new or self._continuations else []

    def refused(self, entry: QueueEntry) -> None:
        """Note that the vendor refused a request because too many were running."""
        # Requests of one burst are refused one by one, though they are one mistake: only the first one halves.
        if entry.era == self._era:
            self._era += 1
            self._window = max(1.0, self._running * _DECREASE)
            self._update_limit()

    def reset(self) -> None:
        """Remove all entries; the limit stays as it was learnt."""
        for entry in (*self._continuations, *self._new):
            entry.state = EntryState.GONE
        self._continuations.clear()
        self._new.clear()
        self._running = self._overtaken = 0

    def _update_limit(self) -> None:
        known = [bound for bound in (self._ceiling, self._window, self._maximum) if bound is not None]
        self.own_limit = self.limit = max(1, int(min(known))) if known else None
        if self.share is not None:
            self.limit = self.share if self.own_limit is None else min(self.own_limit, self.share)

    @property
    def _has_slot(self) -> bool:
        return self.limit is None or self._running < self.limit

    def _start_waiting(self, now: float) -> list[QueueEntry]:
        started: list[QueueEntry] = []
        while (self._new or self._continuations) and self._has_slot:
            entry = self._next()
            self._start(entry, now)
            started.append(entry)
        return started

    def _start(self, entry: QueueEntry, now: float) -> None:
        entry.state, entry.era, entry.since = EntryState.RUNNING, self._era, now
        self._running += 1
        self._peak = max(self._peak, self._running)

    def _next(self) -> QueueEntry:
        overtakes = bool(self._continuations) and (self._overtaken < MAX_OVERTAKING or not self._new)
        entry, _ = (self._continuations if overtakes else self._new).popitem(last=False)
        self._overtaken = self._overtaken + 1 if overtakes and self._new else 0
        return entry

    def _queue_of(self, entry: QueueEntry) -> OrderedDict[QueueEntry, None]:
        return self._continuations if entry.is_continuation else self._new


class ConcurrencyQueue:
    """Queue at a concurrency limit, for the requests of one event loop."""

    def __init__(self, limiter: ConcurrencyLimit, clock: Callable[[], float]) -> None:
        self.limiter = limiter
        self.clock = clock
        self._waiting: dict[QueueEntry, asyncio.Future[None]] = {}
        self.on_wait: Callable[[], object] | None = None
        """Callback when a request begins to wait."""

    def slot(
        self, provider: str, limit: float, *, waits_anyway: bool = False, is_continuation: bool = False
    ) -> QueueSlot:
        """Return a slot to enter: it is waited for, for `limit` seconds at most.

        With `waits_anyway` it is waited for even if that will probably take longer, because no other provider is left.
        """
        return QueueSlot(self, provider, limit, waits_anyway, is_continuation)

    async def wait(self, entry: QueueEntry, seconds: float) -> bool:
        """Wait for an entry to run. Return whether it did within so many seconds."""
        if entry.running:
            return True
        notified = self._waiting[entry] = asyncio.get_running_loop().create_future()
        if self.on_wait:
            self.on_wait()
        try:
            async with asyncio.timeout(seconds if math.isfinite(seconds) else None):
                await notified
        except TimeoutError:
            return False
        finally:
            del self._waiting[entry]
        return True

    def reset(self) -> None:
        """Forget all requests without waking them: those of the parent do not exist in a forked child."""
        self.limiter.reset()
        self._waiting = {}

    def notify(self, entries: list[QueueEntry]) -> None:
        """Wake the requests that start to run."""
        for entry in entries:
            notified = self._waiting.get(entry)
            if notified and not notified.done():
                notified.set_result(None)


class QueueSlot:
    """Slot of one request at the concurrency limit: an asynchronous context manager, released however it ends."""

    __slots__ = ("_entry", "_is_continuation", "_limit", "_provider", "_queue", "_waits_anyway")

    def __init__(
        self,
        queue: ConcurrencyQueue,
        provider: str,
        limit: float,
        waits_anyway: bool,
        is_continuation: bool,
    ) -> None:
        self._queue, self._provider, self._limit = queue, provider, limit
        self._waits_anyway, self._is_continuation = waits_anyway, is_continuation
        self._entry: QueueEntry | None = None

    @classmethod
    def running(cls, queue: ConcurrencyQueue, provider: str, entry: QueueEntry) -> QueueSlot:
        """Return the slot of an entry that runs."""
        slot = cls(queue, provider, 0.0, waits_anyway=False, is_continuation=False)
        slot._entry = entry
        return slot

    async def __aenter__(self) -> QueueSlot:
        """Wait for the slot. Raises TTSConcurrencyError if it is not had in time, or surely will not be."""
        queue = self._queue
        expected = queue.limiter.expected_wait(is_continuation=self._is_continuation)
        if expected > self._limit and not self._waits_anyway:
            raise self._no_slot()
        self._entry = queue.limiter.acquire(queue.clock(), is_continuation=self._is_continuation)
        if self._entry.running:
            return self
        try:
            in_time = await queue.wait(self._entry, self._limit)
        except BaseException:
            self.release()
            raise
        if not in_time:
            self.release()
            raise self._no_slot()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(error)

    def release(self, error: BaseException | None = None) -> None:
        """Release the slot after the request ended, by this error if any. Releasing twice changes nothing."""
        if self._entry and isinstance(error, TTSConcurrencyError):
            self._queue.limiter.refused(self._entry)
        if self._entry and (started := self._queue.limiter.release(self._entry, self._queue.clock())):
            self._queue.notify(started)

    def accepted(self, accepted: Accepted) -> None:
        """Take the limit that the vendor states with its response headers, because others wait for it."""
        if self._entry:
            queue = self._queue
            if started := queue.limiter.accepted(self._entry, accepted.concurrency_limit, queue.clock()):
                queue.notify(started)

    def _no_slot(self) -> TTSConcurrencyError:
        limiter = self._queue.limiter
        message = f"no slot within {self._limit:.3g} s: {limiter.running} requests running, {limiter.waiting} waiting"
        return TTSConcurrencyError(message, provider=self._provider)
