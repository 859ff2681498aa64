"""How many requests may run at once on one credential, and whose turn it is. It reads no clock and awaits nothing.

The vendor's own word is the ceiling, and a limit of the user's own is another. Below them the gate feels its way, as
TCP does: a refusal for being too many halves what is let through, and every request taken while all of that is in use
adds its share of one more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

FAVOUR = 3
"""Pieces of what is being heard that go before a newcomer who waits, before one of those has its turn."""

_HALF = 0.5
_SLOWER, _FASTER = 0.2, 0.5
"""Weight of the latest request in how long one usually runs: a vendor that hung for a while is soon forgiven."""


class Stage(Enum):
    """Where a request is."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"


@dataclass(eq=False, slots=True)
class Place:
    """One request's place, in the queue or past it. It remembers the era in which it was let through.

    Behind one that `goes_on` somebody listens already.
    """

    goes_on: bool = False
    stage: Stage = Stage.WAITING
    era: int = 0
    since: float = 0.0

    @property
    def running(self) -> bool:
        return self.stage is Stage.RUNNING


class Gate:
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
        self._going_on: OrderedDict[Place, None] = OrderedDict()
        self._newcomers: OrderedDict[Place, None] = OrderedDict()
        self._favoured = 0  # since a newcomer had its turn
        self._usual: float | None = None  # seconds that a request runs
        self.limit: int | None
        """How many may run at once, None for any number."""
        self._settle()

    def bound(self, mosts: Iterable[int | None], now: float) -> list[Place]:
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

    def expected_wait(self, *, goes_on: bool = False) -> float:
        """Seconds that one more would wait, going by how long requests have run."""
        if self.limit is None or self.open:
            return 0.0
        ahead = self.waiting
        if goes_on:
            ahead = len(self._going_on) + min(len(self._newcomers), (len(self._going_on) + self._favoured) // FAVOUR)
        return (ahead + 1) * (self._usual or 0.0) / self.limit

    def ask(self, now: float, *, goes_on: bool = False) -> Place:
        """One more wants to run: it runs at once, or waits behind all of its kind who came before."""
        place = Place(goes_on)
        if self.open:
            self._start(place, now)
        else:
            self._queue_of(place)[place] = None
            self._admit(now)
        return place

    def leave(self, place: Place, now: float) -> list[Place]:
        """It is over, or does not want to any more. Leaving twice changes nothing."""
        if place.stage is Stage.RUNNING:
            self._running -= 1
            self._learn(now - place.since)
        elif place.stage is Stage.WAITING:
            self._queue_of(place).pop(place, None)
        place.stage = Stage.GONE
        return self._admit(now)

    def accepted(self, place: Place, maximum: int | None, now: float) -> list[Place]:
        """The vendor took it, and said how many it takes at once. One that never does has us guess no longer."""
        if maximum is not None or not self._told:
            self._ceiling, self._told = maximum, maximum is not None
        if self._window is not None and place.era == self._era and not self._free:
            self._window += 1 / self._window
        if self._window is not None and self._ceiling is not None and self._window >= self._ceiling:
            self._window = None
        self._settle()
        return self._admit(now)

    def refused(self, place: Place) -> None:
        """The vendor says that we are too many. A burst that is refused as one halves once."""
        if place.era == self._era:
            self._era += 1
            self._window = max(1.0, self._running * _HALF)
            self._settle()

    def forget(self) -> None:
        """Drop every place, running or waiting; what is known of the limit stays."""
        for place in (*self._going_on, *self._newcomers):
            place.stage = Stage.GONE
        self._going_on.clear()
        self._newcomers.clear()
        self._running = self._favoured = 0

    def _settle(self) -> None:
        known = [bound for bound in (self._ceiling, self._window, self._most) if bound is not None]
        self.limit = max(1, int(min(known))) if known else None

    @property
    def _free(self) -> bool:
        return self.limit is None or self._running < self.limit

    def _admit(self, now: float) -> list[Place]:
        admitted: list[Place] = []
        while (self._newcomers or self._going_on) and self._free:
            place = self._next()
            self._start(place, now)
            admitted.append(place)
        return admitted

    def _start(self, place: Place, now: float) -> None:
        place.stage, place.era, place.since = Stage.RUNNING, self._era, now
        self._running += 1

    def _next(self) -> Place:
        favoured = bool(self._going_on) and (self._favoured < FAVOUR or not self._newcomers)
        place, _ = (self._going_on if favoured else self._newcomers).popitem(last=False)
        self._favoured = self._favoured + 1 if favoured and self._newcomers else 0
        return place

    def _queue_of(self, place: Place) -> OrderedDict[Place, None]:
        return self._going_on if place.goes_on else self._newcomers

    def _learn(self, seconds: float) -> None:
        usual = seconds if self._usual is None else self._usual
        self._usual = usual + (_SLOWER if seconds > usual else _FASTER) * (seconds - usual)
