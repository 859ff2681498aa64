"""Concurrency limit of one credential, and the queue for its slots.

The vendor's stated limit is the ceiling, and a limit set by the user is another. Below them the limit adapts as TCP
does: a refusal for too many requests halves it, and each request accepted while all slots are in use adds its share of
one more. `ConcurrencyLimit` decides and neither reads a clock nor awaits; `ConcurrencyQueue` waits.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from types import TracebackType

from steadyvoice.providers.base import Accepted
from steadyvoice.speech.errors import TTSConcurrencyError

MAX_OVERTAKING = 3
"""Pieces of what is being heard that go before a newcomer who waits, before one of those has its turn."""

_DECREASE = 0.5
_WEIGHT_OF_SLOWER, _WEIGHT_OF_FASTER = 0.2, 0.5
"""Weight of the latest request in how long one usually runs: a vendor that hung for a while is soon forgiven."""


class EntryState(Enum):
    """Where a request is."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"


@dataclass(eq=False, slots=True)
class QueueEntry:
    """One request's place, in the queue or past it. It remembers the era in which it was let through.

    Behind one that `goes_on` somebody listens already.
    """

    is_continuation: bool = False
    stage: EntryState = EntryState.WAITING
    era: int = 0
    since: float = 0.0

    @property
    def running(self) -> bool:
        return self.stage is EntryState.RUNNING


class ConcurrencyLimit:
    """First come, first served; but who has begun to speak goes before who has not, three to one at most.

    `at_once` is what surely may run before the vendor has said how many, `most` what may never be exceeded, whatever
    the vendor says; None: any number.

    What changes how many may run gives back the places whose turn it is now, and whoever holds the gate tells them.
    """

    def __init__(self, at_once: int | None = None, most: int | None = None) -> None:
        self._ceiling, self._most = at_once, most
        self._told = False  # by the vendor
        self._window: float | None = None  # what refusals have left of the ceiling
        self._era = 0
        self._running = 0
        self._going_on: OrderedDict[QueueEntry, None] = OrderedDict()
        self._newcomers: OrderedDict[QueueEntry, None] = OrderedDict()
        self._favoured = 0  # since a newcomer had its turn
        self._usual: float | None = None  # seconds that a request runs
        self.limit: int | None
        """How many may run at once, None for any number."""
        self._settle()

    def bound(self, mosts: Iterable[int | None], now: float) -> list[QueueEntry]:
        """Those who use it want no more at once than so many each: the least of such limits holds."""
        self._most = min((most for most in mosts if most is not None), default=None)
        self._settle()
        return self._admit(now)

    @property
    def running(self) -> int:
        """How many do."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many would."""
        return len(self._going_on) + len(self._newcomers)

    @property
    def open(self) -> bool:
        """Whether one more would run at once."""
        return self._free and not self.waiting

    def expected_wait(self, *, is_continuation: bool = False) -> float:
        """Seconds that one more would wait, going by how long requests have run."""
        if self.limit is None or self.open:
            return 0.0
        ahead = self.waiting
        if is_continuation:
            ahead = len(self._going_on) + min(
                len(self._newcomers), (len(self._going_on) + self._favoured) // MAX_OVERTAKING
            )
        return (ahead + 1) * (self._usual or 0.0) / self.limit

    def ask(self, now: float, *, is_continuation: bool = False) -> QueueEntry:
        """One more wants to run: it runs at once, or waits behind all of its kind who came before."""
        place = QueueEntry(is_continuation)
        if self.open:
            self._start(place, now)
        else:
            self._queue_of(place)[place] = None
            self._admit(now)
        return place

    def leave(self, place: QueueEntry, now: float) -> list[QueueEntry]:
        """It is over, or does not want to any more. Leaving twice changes nothing."""
        if place.stage is EntryState.RUNNING:
            self._running -= 1
            self._learn(now - place.since)
        elif place.stage is EntryState.WAITING:
            self._queue_of(place).pop(place, None)
        place.stage = EntryState.GONE
        return self._admit(now)

    def accepted(self, place: QueueEntry, maximum: int | None, now: float) -> list[QueueEntry]:
        """The vendor took it, and said how many it takes at once. One that never does has us guess no longer."""
        if maximum is not None or not self._told:
            self._ceiling, self._told = maximum, maximum is not None
        if self._window is not None and place.era == self._era and not self._free:
            self._window += 1 / self._window
        if self._window is not None and self._ceiling is not None and self._window >= self._ceiling:
            self._window = None
        self._settle()
        return self._admit(now)

    def refused(self, place: QueueEntry) -> None:
        """The vendor says that we are too many. A burst that is refused as one halves once."""
        if place.era == self._era:
            self._era += 1
            self._window = max(1.0, self._running * _DECREASE)
            self._settle()

    def forget(self) -> None:
        """Drop every place, running or waiting; what is known of the limit stays."""
        for place in (*self._going_on, *self._newcomers):
            place.stage = EntryState.GONE
        self._going_on.clear()
        self._newcomers.clear()
        self._running = self._favoured = 0

    def _settle(self) -> None:
        known = [bound for bound in (self._ceiling, self._window, self._most) if bound is not None]
        self.limit = max(1, int(min(known))) if known else None

    @property
    def _free(self) -> bool:
        return self.limit is None or self._running < self.limit

    def _admit(self, now: float) -> list[QueueEntry]:
        admitted: list[QueueEntry] = []
        while (self._newcomers or self._going_on) and self._free:
            place = self._next()
            self._start(place, now)
            admitted.append(place)
        return admitted

    def _start(self, place: QueueEntry, now: float) -> None:
        place.stage, place.era, place.since = EntryState.RUNNING, self._era, now
        self._running += 1

    def _next(self) -> QueueEntry:
        favoured = bool(self._going_on) and (self._favoured < MAX_OVERTAKING or not self._newcomers)
        place, _ = (self._going_on if favoured else self._newcomers).popitem(last=False)
        self._favoured = self._favoured + 1 if favoured and self._newcomers else 0
        return place

    def _queue_of(self, place: QueueEntry) -> OrderedDict[QueueEntry, None]:
        return self._going_on if place.is_continuation else self._newcomers

    def _learn(self, seconds: float) -> None:
        usual = seconds if self._usual is None else self._usual
        self._usual = usual + (_WEIGHT_OF_SLOWER if seconds > usual else _WEIGHT_OF_FASTER) * (seconds - usual)


class ConcurrencyQueue:
    """One gate, and those who wait at it in one event loop."""

    def __init__(self, gate: ConcurrencyLimit, clock: Callable[[], float]) -> None:
        self.limiter = gate
        self.clock = clock
        self._calls: dict[QueueEntry, asyncio.Future[None]] = {}

    def turn(
        self, provider: str, limit: float, *, waits_anyway: bool = False, is_continuation: bool = False
    ) -> QueueSlot:
        """Somebody's turn: enter it to wait, for `limit` seconds at most, and to run.

        Who is `hopeful` waits even if it will probably take longer, for there is nowhere else to go. Who `goes_on` is
        being heard already.
        """
        return QueueSlot(self, provider, limit, waits_anyway, is_continuation)

    async def wait(self, place: QueueEntry, seconds: float) -> bool:
        """Whether its turn came within so many seconds."""
        if place.running:
            return True
        called = self._calls[place] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds if math.isfinite(seconds) else None):
                await called
        except TimeoutError:
            return False
        finally:
            del self._calls[place]
        return True

    def forget(self) -> None:
        """Empty it without calling anyone: those who run or wait did not come along into a forked child."""
        self.limiter.forget()
        self._calls = {}

    def call(self, places: list[QueueEntry]) -> None:
        """Tell those whose turn it is."""
        for place in places:
            called = self._calls.get(place)
            if called and not called.done():
                called.set_result(None)


class QueueSlot:
    """One request's way through the turnstile. However it ends, its place is given back."""

    def __init__(
        self,
        turnstile: ConcurrencyQueue,
        provider: str,
        limit: float,
        waits_anyway: bool,
        is_continuation: bool,
    ) -> None:
        self._turnstile, self._provider, self._limit = turnstile, provider, limit
        self._hopeful, self._goes_on = waits_anyway, is_continuation
        self._place: QueueEntry | None = None

    async def __aenter__(self) -> QueueSlot:
        """Wait. Raises TTSConcurrencyError when it takes too long, or plainly would."""
        turnstile = self._turnstile
        if turnstile.limiter.expected_wait(is_continuation=self._goes_on) > self._limit and not self._hopeful:
            raise self._too_many()
        self._place = turnstile.limiter.ask(turnstile.clock(), is_continuation=self._goes_on)
        if self._place.running:
            return self
        try:
            in_time = await turnstile.wait(self._place, self._limit)
        except BaseException:
            self._leave()
            raise
        if not in_time:
            self._leave()
            raise self._too_many()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave(error)

    def leave(self, error: BaseException | None = None) -> None:
        """It is over, by this error if any. Leaving twice changes nothing."""
        if self._place and isinstance(error, TTSConcurrencyError):
            self._turnstile.limiter.refused(self._place)
        self._leave()

    def accepted(self, told: Accepted) -> None:
        """The vendor took the request: learn what it says of its limit at once, for others wait to know."""
        if self._place:
            turnstile = self._turnstile
            turnstile.call(turnstile.limiter.accepted(self._place, told.concurrency_limit, turnstile.clock()))

    def _leave(self) -> None:
        if self._place:
            self._turnstile.call(self._turnstile.limiter.leave(self._place, self._turnstile.clock()))

    def _too_many(self) -> TTSConcurrencyError:
        gate = self._turnstile.limiter
        told = f"no turn within {self._limit:.3g} s: {gate.running} requests run, {gate.waiting} wait"
        return TTSConcurrencyError(told, provider=self._provider)
