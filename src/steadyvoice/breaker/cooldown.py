"""How long an open circuit refuses: backoff or a schedule, its decay, jitter and a cap."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

from steadyvoice.breaker.config import CircuitBreakerConfig


class Cooldown:
    """Remembers how often the circuit opened lately; each opening raises the level, closed time lowers it."""

    __slots__ = ("_level", "_luck", "_rest", "_roll", "named")

    def __init__(self, luck: Callable[[], float]) -> None:
        self._luck = luck
        self._level = -1  # openings remembered, less one
        self._roll = 0.0
        self._rest = 1.0
        self.named: float | None = None

    def copy(self) -> Cooldown:
        """Return one that remembers the same, to be put in its place when an opening is decided."""
        copy = Cooldown(self._luck)
        copy._level, copy._roll, copy._rest, copy.named = self._level, self._roll, self._rest, self.named
        return copy

    @property
    def level(self) -> int:
        """How many times the backoff has been applied; -1 before the first opening."""
        return self._level

    def next(self, config: CircuitBreakerConfig, named: float | None, healthy: float) -> float:
        """Seconds to refuse after an opening that follows `healthy` closed seconds.

        A `named` time is kept to the letter, and says nothing about the next one.
        """
        self.named = named
        if named is not None:
            return named
        # As long as a cooldown of 0 is any time at all.
        steps = healthy / self._rest if self._rest else math.inf if healthy else 0.0
        self._level -= int(min(steps, self._level + 1))
        if self._level < 0 or not _is_last(config, self._level):
            self._level += 1  # a night of probes at the cap would take a night of health to forget
        self._roll = self._luck() if config.cooldown_jitter else 0.0
        return self.current(config)

    def current(self, config: CircuitBreakerConfig) -> float:
        """The running cooldown, as `config` would have it."""
        if self.named is not None:
            return self.named
        self._rest = _backed_off(config, self._level)
        return self._rest * (1 - config.cooldown_jitter * self._roll)

    def restore(self, config: CircuitBreakerConfig, level: int, named: float | None) -> None:
        """Continue at a level from before a restart."""
        self._level, self.named = level, named
        self._rest = _backed_off(config, level)

    def forget(self) -> None:
        """As before the first opening."""
        self._level, self.named = -1, None


def _is_last(config: CircuitBreakerConfig, level: int) -> bool:
    """Whether one more opening would make no difference."""
    if config.cooldown_schedule is not None:
        return level >= len(config.cooldown_schedule) - 1
    return _backed_off(config, level + 1) <= _backed_off(config, level)


def _backed_off(config: CircuitBreakerConfig, level: int) -> float:
    if config.cooldown_schedule is not None:
        return config.cooldown_schedule[min(max(level, 0), len(config.cooldown_schedule) - 1)]
    most = sys.float_info.max if config.max_cooldown is None else config.max_cooldown
    try:
        return min(config.cooldown_period * config.cooldown_backoff ** max(level, 0), most)
    except OverflowError:
        return most
