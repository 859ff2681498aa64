"""Policy that uses the real circuit breaker, on the simulation's clock."""

from __future__ import annotations

import random

from lab.scoring import Settle
from steadyvoice.breaker import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitState,
    Event,
    StateChanged,
)


class SteadyvoicePolicy:
    """CircuitBreaker with these settings, and a seeded random generator for its jitter."""

    def __init__(self, config: CircuitBreakerConfig) -> None:
        self.openings = 0
        self._now = 0.0
        rng = random.Random(1)
        self._breaker = CircuitBreaker(
            "ours", config, clock=lambda: self._now, random=rng.random, listeners=[self._listen]
        )

    def admit(self, now: float) -> Settle | None:
        self._now = now
        try:
            permit = self._breaker.acquire()
        except CircuitOpenError:
            return None

        def settle(now: float, works: bool) -> None:
            self._now = now
            if works:
                permit.success()
            else:
                permit.failure("failed")

        return settle

    def _listen(self, event: Event) -> None:
        if isinstance(event, StateChanged) and event.to_state is CircuitState.OPEN:
            # From closed only, as for the peers: a failed probe opens nothing that was usable.
            self.openings += event.from_state is CircuitState.CLOSED
