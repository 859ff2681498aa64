"""Fault rules: selection of the fault for each call, from values only (time, chance and call are parameters)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random

from steadyvoice.simulator.fault_injection.actions import (
    CONNECTION,
    AudioAction,
    FaultAction,
    FaultError,
    FaultTarget,
    action_name,
)
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint
from steadyvoice.wire.elevenlabs.websocket import SocketEndpoint

ENDPOINTS = (
    *(f"text-to-speech{form.value}" for form in (*SpeechEndpoint, *SocketEndpoint)),
    *(f"text-to-dialogue{form.value}" for form in SpeechEndpoint),
    "audio/speech",
    "voices",
    "voices/settings",
    "voices/settings/default",
    "models",
    "user",
    "user/subscription",
    "history",
    "connection",
)
"""All doors by the names that faults and the ledger have for them."""


@dataclass(frozen=True, slots=True)
class FaultCall:
    """What a fault can be picky about."""

    endpoint: str  # the path without its version, voice and query: "text-to-speech/stream", "audio/speech", "user"
    voice: str | None = None  # the vendor's id
    characters: int = 0  # of the text
    target: FaultTarget = FaultTarget.HTTP
    speech: bool = True  # whether audio is asked for


@dataclass(frozen=True, slots=True)
class Fault:
    """An act, and when it is due. All conditions must hold.

    Times are seconds since the fault was set; with a `period` the span from `start` to `end` comes back. Of the calls
    that fit, `nth` picks one, counted from 1, and `times` the first so many; both count before luck is asked. Of
    websockets, a call is a connection, which has no characters yet.
    Raises FaultError for impossible ones.
    """

    action: FaultAction
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
        if self.period is not None and self.end == math.inf:
            raise FaultError("period: needs an end, for what never ends does not come back", "period")
        if self.period is not None and not self.end <= self.period < math.inf:
            raise FaultError(f"period: at least the end at {self.end:g} s, got {self.period:g}", "period")
        for name in ("nth", "times"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise FaultError(f"{name}: at least 1, got {count}", name)
        if self.longer_than is not None and self.longer_than < 0:
            raise FaultError(f"longer_than: characters, 0 or more, got {self.longer_than}", "longer_than")
        self._check_that_it_can_come()

    def _check_that_it_can_come(self) -> None:
        """Refuse conditions that no call will ever fulfil."""
        if self.nth is not None and self.times is not None and self.nth > self.times:
            raise FaultError(f"nth: never comes, for it is call {self.nth} of the first {self.times}", "nth")
        if self.voice is not None and self.action.targets == CONNECTION:
            raise FaultError(f"voice: a connection has none yet when {self.name} happens", "voice")
        if self.longer_than is not None and FaultTarget.HTTP not in self.action.targets:
            raise FaultError(f"longer_than: a connection has no text yet when {self.name} is chosen", "longer_than")
        if self.endpoint is not None and not any(fnmatchcase(each, self.endpoint) for each in ENDPOINTS):
            raise FaultError(f"endpoint: {self.endpoint!r} is none of {', '.join(ENDPOINTS)}", "endpoint")

    @property
    def name(self) -> str:
        return action_name(self.action)

    def matches(self, call: FaultCall, elapsed: float) -> bool:
        """Whether the call is of the kind it waits for, `elapsed` seconds after it was set."""
        moment = elapsed % self.period if self.period else elapsed
        return (
            call.target in self.action.targets
            and (call.speech or not isinstance(self.action, AudioAction))
            and self.start <= moment < self.end
            and self.voice in (None, call.voice)
            and (self.endpoint is None or fnmatchcase(call.endpoint, self.endpoint))
            and (self.longer_than is None or call.characters > self.longer_than)
        )


class FaultRules:
    """The faults in force, the first that is due wins. They can be changed at any time."""

    def __init__(
        self, now: Callable[[], float], rng: Random, check: Callable[[Fault], None] = lambda fault: None
    ) -> None:
        self._now = now
        self._rng = rng
        self._check = check
        self._rules: list[_RuleState] = []
        self._changed: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Fault]:
        return (rule.fault for rule in self._rules)

    def set(self, *faults: Fault | FaultAction) -> None:
        """Put these in place of all others. A bare act befalls every call. Raises FaultError, and changes nothing."""
        self._put(self._made(faults))

    def add(self, *faults: Fault | FaultAction) -> None:
        """Put these behind the others. Raises FaultError, and changes nothing."""
        self._put([*self._rules, *self._made(faults)])

    def clear(self) -> None:
        """Behave again."""
        self._put([])

    def on_change(self, changed: Callable[[], None]) -> None:
        """Have `changed` called now, and whenever the faults are others."""
        self._changed = changed
        changed()

    def select(self, call: FaultCall) -> Fault | None:
        """Decide what befalls a call; None is nothing. Every fault counts it that it fits, whichever happens."""
        now = self._now()
        due = [rule.fault for rule in self._rules if rule.strikes(call, now, self._rng)]
        return due[0] if due else None

    def peek(self, call: FaultCall) -> Fault | None:
        """Tell what would befall such a call if it came now. Nothing is counted, and luck is asked once."""
        now = self._now()
        return next((rule.fault for rule in self._rules if rule.due(call, now, self._rng)), None)

    def _made(self, faults: Iterable[Fault | FaultAction]) -> list[_RuleState]:
        now = self._now()
        made = [each if isinstance(each, Fault) else Fault(each) for each in faults]
        for fault in made:
            self._check(fault)
        return [_RuleState(fault, now) for fault in made]

    def _put(self, rules: list[_RuleState]) -> None:
        self._rules = rules
        self._changed()


@dataclass(slots=True)
class _RuleState:
    fault: Fault
    since: float
    seen: int = 0
    lucky: bool | None = None  # at the next call, once that has been asked

    def due(self, call: FaultCall, now: float, rng: Random) -> bool:
        fault, number = self.fault, self.seen + 1
        return (
            fault.matches(call, now - self.since)
            and fault.nth in (None, number)
            and (fault.times is None or number <= fault.times)
            and self._is_lucky(rng)
        )

    def strikes(self, call: FaultCall, now: float, rng: Random) -> bool:
        due = self.due(call, now, rng)
        if self.fault.matches(call, now - self.since):
            self.seen += 1
            self.lucky = None
        return due

    def _is_lucky(self, rng: Random) -> bool:
        if self.lucky is None:
            self.lucky = self.fault.probability == 1 or rng.random() < self.fault.probability
        return self.lucky
