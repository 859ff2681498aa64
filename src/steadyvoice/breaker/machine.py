"""The circuit breaker: a state machine that reads no clock, takes no lock and does no I/O.

Here is what a circuit consists of. What is done to it are functions, a room for each occasion:

    admission.py  a call wants to begin: may it?
    ending.py     it ended: well, badly, or without saying anything
    living.py     it showed a sign of life, or its consumer took what came
    ticks.py      calls ended that nobody took the lock for
    counting.py   what an end counts for
    judging.py    whether that must open or close the circuit
    overdue.py    what time has done since somebody last came by
    by_hand.py    somebody wants another state
    updating.py   somebody wants other settings
    saved.py      a state goes from one process to the next
    moving.py     from one state to another, by the ways in states.py
    news.py       what is told of all this

Time comes in as `now`, luck and the time of day (only shown) as functions; what happened goes out as `news`. Whoever
calls a function holds a lock around it, and delivers the news afterwards.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from steadyvoice.breaker.baseline import Baseline
from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.cooldown import Cooldown
from steadyvoice.breaker.era import Era
from steadyvoice.breaker.in_flight import InFlight
from steadyvoice.breaker.moving import commit, complete, new_era
from steadyvoice.breaker.news import News
from steadyvoice.breaker.patience import Patience
from steadyvoice.breaker.probes import Probes
from steadyvoice.breaker.remembered import Remembered
from steadyvoice.breaker.rules import Rule
from steadyvoice.breaker.states import CircuitState
from steadyvoice.breaker.ticks import rest
from steadyvoice.breaker.updating import heed_hanging, heeded
from steadyvoice.breaker.window import Window, window_for


class Machine:
    """One circuit. Requires external locking."""

    __slots__ = (
        "baseline",
        "closed_at",
        "config",
        "cooldown",
        "counting",
        "decided",
        "due",
        "era",
        "evidence",
        "failures",
        "flights",
        "ignored",
        "last_error",
        "late",
        "learns",
        "minimums",
        "name",
        "news",
        "opened_at",
        "outage_at",
        "patience",
        "plain",
        "probes",
        "ramp_credit",
        "reason",
        "recovered_last",
        "recovered_seconds",
        "recoveries",
        "refused",
        "rule",
        "slow_share",
        "state",
        "streak",
        "successes",
        "tracking",
        "until",
        "wall",
        "warned",
        "watched",
        "window",
    )

    # Set by `heed`, whenever the settings are new.
    plain: bool  # no setting asks for a clock, and nobody for an event of each call
    rule: Rule
    minimums: tuple[int, ...]  # at so many calls a success can break the rule
    slow_share: float | None
    learns: bool  # whether the rule asks what is normal
    watched: bool  # whether somebody asks for an event of each call

    # Set by `begin_era`, with each transition.
    flights: InFlight
    probes: Probes
    counting: bool  # closed or monitoring: results are judged
    tracking: bool  # whether calls in flight are looked at
    due: float  # the earliest that `advance` can have work
    ramp_credit: float
    warned: bool  # while monitoring: the rule is broken, and that has been told

    def __init__(
        self,
        name: str,
        config: CircuitBreakerConfig,
        now: float,
        luck: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.wall = wall
        self.config = config
        self.news: deque[News] | None = None  # until the first: a deque is 760 bytes
        self.decided: tuple[dict[str, Any], News | None] | None = None  # a transition that is being carried out
        self.state = CircuitState.CLOSED
        self.reason = "new"
        self.window: Window = window_for(config, now)
        self.streak: float = 0
        self.opened_at: float | None = None
        self.outage_at: float | None = None
        self.closed_at = now
        self.until: float | None = None
        self.cooldown = Cooldown(luck)
        self.patience = Patience()
        self.baseline = Baseline()
        self.evidence: deque[Remembered] | None = None
        self.last_error: Remembered | None = None
        self.successes = self.failures = self.ignored = self.late = self.refused = 0
        self.recoveries = 0
        self.recovered_seconds = 0.0
        self.recovered_last: float | None = None
        self.era = Era(self.state)
        commit(self, {**new_era(self, self.state), **heeded(config, watched=False)}, None)
        if self.plain:
            rest(self)

    @property
    def calls(self) -> int:
        """Results in the window, hanging calls included."""
        return self.window.calls + len(self.flights.silent)

    @property
    def failure_sum(self) -> float:
        """Their failures, by weight."""
        return self.window.failures + len(self.flights.silent)

    @property
    def failure_rate(self) -> float:
        """Failures per call in the window; 0 without calls."""
        return self.failure_sum / self.calls if self.calls else 0.0

    @property
    def in_a_row(self) -> float:
        """The present run of failures: since the last success, those that hang since then included."""
        return self.streak + len(self.flights.in_a_row)

    @property
    def in_flight(self) -> int | None:
        """Calls of this era that are out, None where nobody counts them."""
        return len(self.flights) if self.tracking else None

    def retry_after(self, now: float) -> float | None:
        """Seconds until the next caller becomes a probe; None unless open, or when nobody can know."""
        if self.until is None or self.state not in (CircuitState.OPEN, CircuitState.FORCED_OPEN):
            return None
        return max(0.0, self.until - now)

    def repair(self, now: float) -> None:
        """Make it whole after an exception that came up in the middle of something.

        Signal handlers raise between any two lines. What was decided is finished, and what can be counted again is; of
        the call that was being recorded, some part may be lost.
        """
        complete(self)
        self.window.recount()
        heed_hanging(self, now)
