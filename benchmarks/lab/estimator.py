"""Bayesian reference policy: estimates the provider's state instead of counting. It knows the parameters of the world.

Keeps a probability for each state of the provider, updates them with time and with each result by Bayes' rule, and
sends a call when it will rather succeed than fail; one at a time while in doubt. When it refuses, the interval of its
probes balances the cost of a probe against the cost of refusing a healthy provider.
"""

from __future__ import annotations

from collections import deque
from math import exp, inf, sqrt

from lab.outage_world import OutageWorld
from lab.scoring import Settle

CONFIDENT_SUCCESS = 0.8
ASSUMED_FAILED_AFTER = 2.0


class Estimator:
    """Policy that knows the frequency and duration of each kind of outage, but not their times."""

    def __init__(self, world: OutageWorld) -> None:
        self.openings = 0
        self._rates = [0.0] + [trouble.share / world.healthy_seconds for trouble in world.troubles]
        self._lasts = [0.0] + [trouble.seconds for trouble in world.troubles]
        self._works = [world.healthy_success] + [trouble.success for trouble in world.troubles]
        self._belief = [1.0] + [0.0] * len(world.troubles)
        self._at = 0.0
        self._last_sent = -inf
        self._arrivals = 0
        self._out: deque[list[float]] = deque()  # [sent at, whether it was taken for a failure or has ended]

    def admit(self, now: float) -> Settle | None:
        # A call without a result for two seconds is taken for a failure, once: it may hang for its whole timeout.
        while self._out and (self._out[0][1] or self._out[0][0] <= now - ASSUMED_FAILED_AFTER):
            sent = self._out.popleft()
            if not sent[1]:
                self._learn(now, works=False)
                sent[1] = 1
        self._pass_time(now)
        chance = sum(belief * works for belief, works in zip(self._belief, self._works, strict=True))
        self._arrivals += 1
        if chance < CONFIDENT_SUCCESS and any(not ended for _, ended in self._out):
            return None
        # Refusing is right below one half, as a refused call that would have failed is no mistake.
        if chance < 0.5 and now < self._last_sent + self._apart(now):
            return None
        self._last_sent = now
        sent = [now, 0.0]
        self._out.append(sent)

        def settle(now: float, works: bool) -> None:
            if not sent[1]:
                self._learn(now, works=works)
                sent[1] = 1

        return settle

    def _apart(self, now: float) -> float:
        """Return the seconds between probes: each costs a call, and waiting costs half of them in refused calls."""
        outage_seconds = sum(belief * lasts for belief, lasts in zip(self._belief, self._lasts, strict=True))
        return sqrt(2 * outage_seconds * now / self._arrivals)

    def _learn(self, now: float, *, works: bool) -> None:
        self._pass_time(now)
        # Bounded below, or a single result that the model calls impossible would make every belief zero.
        likely = [max(chance if works else 1 - chance, 1e-3) for chance in self._works]
        joint = [belief * chance for belief, chance in zip(self._belief, likely, strict=True)]
        self._belief = [share / sum(joint) for share in joint]

    def _pass_time(self, now: float) -> None:
        elapsed, self._at = now - self._at, now
        for state in range(1, len(self._belief)):
            falls_ill = self._belief[0] * (1 - exp(-elapsed * self._rates[state]))
            recovers = self._belief[state] * (1 - exp(-elapsed / self._lasts[state]))
            self._belief[state] += falls_ill - recovers
            self._belief[0] += recovers - falls_ill
