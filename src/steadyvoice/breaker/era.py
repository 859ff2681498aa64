"""The stretch between two transitions, and one call's part in it."""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

from steadyvoice.breaker.remembered import Remembered
from steadyvoice.breaker.states import CircuitState


class Shut(NamedTuple):
    """What every caller is told who comes before `until`."""

    name: str
    until: float
    reason: str
    last_error: Remembered | None


class Era:
    """A stretch of one state, with a counter that needs no lock: of plain successes, or of refusals while open.

    While an era is `quiet`, a plain success cannot change any verdict, so all it does is `next(ticks)`, which is one
    atomic step of a C counter. While it is `shut`, the same is true of a refusal. Whoever holds the lock folds the
    ticks in. Whoever ticks looks at `quiet` or `shut` again afterwards: they are taken away before a fold, so a
    tick that comes after the fold is noticed by the thread that made it. Hence every tick is counted exactly once.
    """

    __slots__ = ("_folded", "quiet", "shut", "state", "ticks")

    def __init__(self, state: CircuitState) -> None:
        self.state = state
        self.quiet = False
        self.shut: Shut | None = None
        self.ticks = count()
        self._folded = 0  # ticks taken in, the folds' own included

    def fold(self) -> int:
        """The ticks since the last fold. Requires the lock, and neither `quiet` nor `shut`."""
        ticks = next(self.ticks)
        new = ticks - self._folded
        self._folded = ticks + 1  # reading the counter is a tick too
        return new

    def unfold(self, ticks: int) -> None:
        """Leave so many of them to the next fold."""
        self._folded -= ticks


class Flight:
    """One call: the era it began in, and its clocks. It exists before it is admitted, and is settled until then.

    `started` is when it was admitted (None where no clock was read), `since` when it last showed life, `useful_at`
    when it first delivered something. While it is `lent`, its consumer has the word.
    """

    __slots__ = ("era", "lent", "settled", "since", "started", "useful_at")

    def __init__(self, era: Era | None = None, now: float | None = None) -> None:
        self.era = era
        self.started = now
        self.since = now or 0.0
        self.useful_at: float | None = None
        self.settled = era is None
        self.lent = False

    def latency(self, now: float) -> float | None:
        """Seconds to the first useful thing, or to the end where nothing was said of one."""
        if self.started is None:
            return None
        return (now if self.useful_at is None else self.useful_at) - self.started
