"""What a breaker could do that does not count but estimates: a reference, not a product, for it is told the world.

It keeps a probability for each state the provider may be in, moves them with time and with each result by Bayes'
rule, and sends a call when it will rather succeed than fail; one at a time while it is in doubt. When it refuses,
it asks after so long as balances what a probe costs against what oversleeping costs.
"""

from __future__ import annotations

from collections import deque
from math import exp, inf, sqrt

from lab.play import Settle
from lab.world import World

DOUBT = 0.8
SILENCE = 2.0


class Estimator:
    """Knows how often and how long each trouble comes, but not when."""

    def __init__(self, world: World) -> None:
        self.openings = 0
        self._rates = [0.0] + [trouble.share / world.healthy_seconds for trouble in world.troubles]
        self._lasts = [0.0] + [trouble.seconds for trouble in world.troubles]
        self._works = [world.healthy_success] + [trouble.success for trouble in world.troubles]
        self._belief = [1.0] + [0.0] * len(world.troubles)
        self._at = 0.0
        self._asked = -inf
        self._arrivals = 0
        self._out: deque[list[float]] = deque()  # [sent at, whether it was taken for a failure or has ended]

    def admit(self, now: float) -> Settle | None:
        while self._out and (self._out[0][1] or self._out[0][0] <= now - SILENCE):
            sent = self._out.popleft()
            if not sent[1]:
                self._learn(now, works=False)
                sent[1] = 1
        self._pass_time(now)
        chance = sum(belief * works for belief, works in zip(self._belief, self._works, strict=True))
        self._arrivals += 1
        if chance < DOUBT and any(not ended for _, ended in self._out):
            return None
        if chance < 0.5 and now < self._asked + self._apart(now):
            return None
        self._asked = now
        sent = [now, 0.0]
        self._out.append(sent)

        def settle(at: float, works: bool) -> None:
            if not sent[1]:
                self._learn(at, works=works)
                sent[1] = 1

        return settle

    def _apart(self, now: float) -> float:
        """Seconds between probes: each costs a call, and oversleeping costs half of this in calls refused."""
        ill = sum(belief * lasts for belief, lasts in zip(self._belief, self._lasts, strict=True))
        return sqrt(2 * ill * now / self._arrivals)

    def _learn(self, now: float, *, works: bool) -> None:
        self._pass_time(now)
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
