"""Our own breaker, the real one, on the world's clock."""

from __future__ import annotations

import random

from lab.play import Settle
from steadyvoice.breaker import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitState,
    Event,
    StateChanged,
)


class Ours:
    """A `CircuitBreaker` with the given settings, and seeded luck for its jitter."""

    def __init__(self, config: CircuitBreakerConfig) -> None:
        self.openings = 0
        self._now = 0.0
        luck = random.Random(1)
        self._breaker = CircuitBreaker(
            "ours", config, clock=lambda: self._now, random=luck.random, listeners=[self._listen]
        )

    def admit(self, now: float) -> Settle | None:
        self._now = now
        try:
            permit = self._breaker.acquire()
        except CircuitOpenError:
            return None

        def settle(at: float, works: bool) -> None:
            self._now = at
            if works:
                permit.success()
            else:
                permit.failure("failed")

        return settle

    def _listen(self, event: Event) -> None:
        if isinstance(event, StateChanged) and event.to_state is CircuitState.OPEN:
            self.openings += event.from_state is CircuitState.CLOSED
