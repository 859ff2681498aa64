"""Fault rules: selection of the fault for each call, from values only (time, chance and call are parameters)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random

from steadyvoice._option_rules import COUNT, SECONDS, SHARE, Number
from steadyvoice.simulator.fault_injection.actions import (
    CONNECTION_ONLY,
    AudioAction,
    FaultAction,
    FaultError,
    FaultTarget,
    action_name,
    validate_fields,
)
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint
from steadyvoice.wire.elevenlabs.websocket import SocketEndpoint

ENDPOINTS = (
    *(f"text-to-speech{form.value}" for form in (*SpeechEndpoint, *SocketEndpoint)),
    *(f"text-to-dialogue{form.value}" for form in (*SpeechEndpoint, *SocketEndpoint)),
    "audio/speech",
    "cognitiveservices/v1",  # Azure
    "cognitiveservices/voices/list",
    "speak",  # Deepgram
    "projects",
    "speech",  # Amazon Polly
    "text:synthesize",  # Google
    "tts/bytes",  # Cartesia
    "tts/sse",
    "tts/websocket",
    "voices",
    "voices/settings",
    "voices/settings/default",
    "models",
    "user",
    "user/subscription",
    "history",
    "connection",
)
"""All endpoints, by the names that faults and the ledger have for them."""


@dataclass(frozen=True, slots=True)
class FaultCall:
    """Properties of a call that a fault's conditions can select by."""

    endpoint: str  # the path without its version, voice and query: "text-to-speech/stream", "audio/speech", "user"
    voice: str | None = None  # the vendor's id
    characters: int = 0  # of the text
    target: FaultTarget = FaultTarget.HTTP
    speech: bool = True  # whether audio is requested


@dataclass(frozen=True, slots=True)
class Fault:
    """Fault rule: an action, and the conditions under which it happens. All conditions must hold.

    `start`, `end` and `period` are seconds since the rule was set; with a `period` the span from `start` to `end`
    repeats. Of the calls that match, `nth` selects one, counted from 1, and `times` the first ones; both count before
    `probability` is drawn. A call of a websocket is its connection, which has no characters yet.
    Raises FaultError for impossible conditions.
    """

    action: FaultAction  # what happens to the call: an object of a class in `actions`
    probability: float = 1.0  # share of the calls, 0 to 1
    start: float = 0.0  # seconds since the rule was set
    end: float = math.inf  # seconds since the rule was set
    period: float | None = None  # seconds after which the span from `start` to `end` comes again
    nth: int | None = None  # number of the one call, counted from 1
    times: int | None = None  # number of calls, the first ones
    voice: str | None = None  # the vendor's id of a voice
    endpoint: str | None = None  # path without version, voice and query; may have wildcards: "text-to-speech*"
    longer_than: int | None = None  # characters that the text exceeds

    def __post_init__(self) -> None:
        validate_fields(self, ("probability",), SHARE)
        validate_fields(self, ("start",), SECONDS)
        validate_fields(self, ("nth", "times"), COUNT)
        validate_fields(self, ("longer_than",), Number("characters", integer=True, minimum=0))
        if not self.end > self.start:
            raise FaultError(f"end: must be after the start at {self.start:g} s, got {self.end:g}", "end")
        if self.period is not None and self.end == math.inf:
            raise FaultError("period: needs an end, because a fault without end does not repeat", "period")
        if self.period is not None and not self.end <= self.period < math.inf:
            raise FaultError(f"period: must not be before the end at {self.end:g} s, got {self.period:g}", "period")
        self._validate_reachable()

    def _validate_reachable(self) -> None:
        """Refuse conditions that no call can meet. Raises FaultError."""
        if self.nth is not None and self.times is not None and self.nth > self.times:
            raise FaultError(f"nth: call {self.nth} is not among the first {self.times}", "nth")
        if self.voice is not None and self.action.targets == CONNECTION_ONLY:
            raise FaultError(f"voice: a connection has no voice yet when {self.name} happens", "voice")
        if self.longer_than is not None and FaultTarget.HTTP not in self.action.targets:
            raise FaultError(f"longer_than: a connection has no text yet when {self.name} is chosen", "longer_than")
        if self.endpoint is not None and not any(fnmatchcase(each, self.endpoint) for each in ENDPOINTS):
            raise FaultError(f"endpoint: {self.endpoint!r} matches none of {', '.join(ENDPOINTS)}", "endpoint")

    @property
    def name(self) -> str:
        """Name of the action, as in scripts."""
        return action_name(self.action)

    def matches(self, call: FaultCall, elapsed: float) -> bool:
        """Return whether a call meets the conditions, `elapsed` seconds after the rule was set."""
        # With a period, `start` and `end` are times within it.
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
    """Fault rules in force; of those that are due, the first is applied. They can be changed at any time."""

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
        """Replace all rules; an action alone applies to every call. Raises FaultError, and then changes nothing."""
        self._replace(self._validated(faults))

    def add(self, *faults: Fault | FaultAction) -> None:
        """Append rules. Raises FaultError, and then changes nothing."""
        self._replace([*self._rules, *self._validated(faults)])

    def clear(self) -> None:
        """Remove all rules."""
        self._replace([])

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed` now, and after every change of the rules."""
        self._changed = changed
        changed()

    def select(self, call: FaultCall) -> Fault | None:
        """Return the fault of this call, or None. Every rule that matches counts the call, whichever is applied."""
        now = self._now()
        # Every rule is asked, and not only those before the first that is due, because each counts its own calls.
        due = [rule.fault for rule in self._rules if rule.count_call(call, now, self._rng)]
        return due[0] if due else None

    def peek(self, call: FaultCall) -> Fault | None:
        """Return the fault that a call would meet now, or None. Nothing is counted."""
        now = self._now()
        return next((rule.fault for rule in self._rules if rule.due(call, now, self._rng)), None)

    def _validated(self, faults: Iterable[Fault | FaultAction]) -> list[_RuleState]:
        now = self._now()
        rules = [each if isinstance(each, Fault) else Fault(each) for each in faults]
        for fault in rules:
            self._check(fault)
        return [_RuleState(fault, now) for fault in rules]

    def _replace(self, rules: list[_RuleState]) -> None:
        self._rules = rules
        self._changed()


@dataclass(slots=True)
class _RuleState:
    fault: Fault
    since: float
    matched: int = 0
    # Chance is drawn once for the next call, and kept until that comes: `peek` may be asked many times before.
    drawn: bool | None = None

    def due(self, call: FaultCall, now: float, rng: Random) -> bool:
        fault, number = self.fault, self.matched + 1
        return (
            fault.matches(call, now - self.since)
            and fault.nth in (None, number)
            and (fault.times is None or number <= fault.times)
            and self._is_drawn(rng)
        )

    def count_call(self, call: FaultCall, now: float, rng: Random) -> bool:
        due = self.due(call, now, rng)
        if self.fault.matches(call, now - self.since):
            self.matched += 1
            self.drawn = None
        return due

    def _is_drawn(self, rng: Random) -> bool:
        if self.drawn is None:
            self.drawn = self.fault.probability == 1 or rng.random() < self.fault.probability
        return self.drawn
