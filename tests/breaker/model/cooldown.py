"""Cooldown of the model: by a schedule, or with backoff up to the cap."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, trunc

from steadyvoice.breaker import CircuitBreakerConfig


class Cooldown:
    """Cooldown: `level` is the number of openings remembered, less one; `named` is a requested cooldown."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.random = random
        self.level, self.rest, self.roll = -1, 1.0, 0.0
        self.named: float | None = None

    def next(self, c: CircuitBreakerConfig, named: float | None, healthy: float) -> float:
        self.named = named
        if named is None:
            # One level is forgotten for each length of the last cooldown in which the circuit was healthy.
            steps = trunc(healthy / self.rest) if self.rest else inf if healthy else 0
            self.level -= int(min(steps, self.level + 1))
            if self.level < 0 or self._grows(c):
                self.level += 1  # no further than to the cap
            self.roll = self.random() if c.cooldown_jitter else 0.0
        return self.seconds(c)

    def seconds(self, c: CircuitBreakerConfig) -> float:
        if self.named is not None:
            return self.named
        self.rest = rest_at(c, self.level)
        return self.rest * (1 - c.cooldown_jitter * self.roll)

    def forget(self) -> None:
        self.level, self.named = -1, None

    def continue_at(self, c: CircuitBreakerConfig, level: int) -> None:
        self.level, self.rest = level, rest_at(c, level)

    def _grows(self, c: CircuitBreakerConfig) -> bool:
        if c.cooldown_schedule is not None:
            return self.level < len(c.cooldown_schedule) - 1
        return rest_at(c, self.level + 1) > rest_at(c, self.level)


def rest_at(c: CircuitBreakerConfig, level: int) -> float:
    if c.cooldown_schedule:
        return c.cooldown_schedule[min(max(level, 0), len(c.cooldown_schedule) - 1)]
    return float(min(c.cooldown_period * c.cooldown_backoff ** max(level, 0), c.max_cooldown or inf))
