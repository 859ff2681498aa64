"""Which call does which fault befall? Decided here from values: the time, the luck and the call are parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random

from steadyvoice.simulator.acts import Act, Door, FaultError, name_of


@dataclass(frozen=True, slots=True)
class Call:
    """What a fault can be picky about."""

    endpoint: str  # the path without its version, voice and query: "text-to-speech/stream", "audio/speech", "user"
    voice: str | None = None  # the vendor's id
    characters: int = 0  # of the text
    door: Door = Door.HTTP


@dataclass(frozen=True, slots=True)
class Fault:
    """An act, and when it is due. All conditions must hold.

    Times are seconds since the fault was set; with a `period` the span from `start` to `end` comes back. Of the calls
    that fit, `nth` picks one, counted from 1, and `times` the first so many; both count before luck is asked. Of
    websockets, a call is a connection, which has no characters yet.
    Raises FaultError for impossible ones.
    """

    act: Act
    probability: float = 1.0
    start: float = 0.0
    end: float = math.inf
    period: float | None = None
    nth: int | None = None
    times: int | None = None
    voice: str | None = None
    endpoint: str | None = None  # may have wildcards: "text-to-speech*"
    longer_than: int | None = None  # characters

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise FaultError(f"probability: from 0 to 1, got {self.probability}", "probability")
        if not (math.isfinite(self.start) and self.start >= 0):
            raise FaultError(f"start: seconds, 0 or more, got {self.start}", "start")
        if not self.end > self.start:
            raise FaultError(f"end: after the start at {self.start:g} s, got {self.end:g}", "end")
        if self.period is not None and not self.end <= self.period < math.inf:
            raise FaultError(f"period: at least the end at {self.end:g} s, got {self.period:g}", "period")
        for name in ("nth", "times"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise FaultError(f"{name}: at least 1, got {count}", name)
        if self.longer_than is not None and self.longer_than < 0:
            raise FaultError(f"longer_than: characters, 0 or more, got {self.longer_than}", "longer_than")

    @property
    def name(self) -> str:
        return name_of(self.act)

    def fits(self, call: Call, elapsed: float) -> bool:
        """Whether the call is of the kind it waits for, `elapsed` seconds after it was set."""
        moment = elapsed % self.period if self.period else elapsed
        return (
            call.door in self.act.doors
            and self.start <= moment < self.end
            and self.voice in (None, call.voice)
            and (self.endpoint is None or fnmatchcase(call.endpoint, self.endpoint))
            and (self.longer_than is None or call.characters > self.longer_than)
        )


class Faults:
    """The faults in force, the first that is due wins. They can be changed at any time."""

    def __init__(self, now: Callable[[], float], rng: Random) -> None:
        self._now = now
        self._rng = rng
        self._rules: list[_Rule] = []

    def __iter__(self) -> Iterator[Fault]:
        return (rule.fault for rule in self._rules)

    def set(self, *faults: Fault | Act) -> None:
        """Put these in place of all others. A bare act befalls every call."""
        self._rules = []
        self.add(*faults)

    def add(self, *faults: Fault | Act) -> None:
        """Put these behind the others."""
        now = self._now()
        self._rules += [_Rule(each if isinstance(each, Fault) else Fault(each), now) for each in faults]

    def clear(self) -> None:
        """Behave again."""
        self._rules = []

    def choose(self, call: Call) -> Fault | None:
        """Decide what befalls a call; None is nothing."""
        now = self._now()
        return next((rule.fault for rule in self._rules if rule.strikes(call, now, self._rng)), None)


@dataclass(slots=True)
class _Rule:
    fault: Fault
    since: float
    seen: int = 0

    def strikes(self, call: Call, now: float, rng: Random) -> bool:
        fault = self.fault
        if not fault.fits(call, now - self.since):
            return False
        self.seen += 1
        return (
            fault.nth in (None, self.seen)
            and (fault.times is None or self.seen <= fault.times)
            and (fault.probability == 1 or rng.random() < fault.probability)
        )
