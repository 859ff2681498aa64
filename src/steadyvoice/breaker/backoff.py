"""Backoff of the cooldown: how long an open circuit refuses, with decay, jitter, a schedule and a cap."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

from steadyvoice.breaker.config import CircuitBreakerConfig


class Cooldown:
    """Level of the backoff: each opening raises it, time spent closed lowers it."""

    __slots__ = ("_jitter", "_level", "_unjittered", "requested")

    def __init__(self) -> None:
        self._level = -1  # openings remembered, less one
        self._jitter = 0.0
        self._unjittered = 1.0
        self.requested: float | None = None

    def copy(self) -> Cooldown:
        """Return a cooldown in the same state, to be put in place of this one when an opening is committed."""
        copy = Cooldown()
        copy._level, copy._jitter, copy._unjittered = self._level, self._jitter, self._unjittered
        copy.requested = self.requested
        return copy

    @property
    def level(self) -> int:
        """Number of times the backoff has been applied; -1 before the first opening."""
        return self._level

    @property
    def jitter(self) -> float:
        """Random number by which the running cooldown was shortened, from 0 to 1."""
        return self._jitter

    def start(
        self, config: CircuitBreakerConfig, requested: float | None, healthy: float, random: Callable[[], float]
    ) -> float:
        """Return the seconds to refuse after an opening that follows `healthy` seconds closed.

        A `requested` number of seconds is kept exactly, and leaves the backoff as it is.
        """
        self.requested = requested
        if requested is not None:
            return requested
        # With a cooldown of 0 seconds, any time spent closed is as long as the last cooldown.
        steps = healthy / self._unjittered if self._unjittered else math.inf if healthy else 0.0
        self._level -= int(min(steps, self._level + 1))
        if self._level < 0 or not _is_last(config, self._level):
            # Not beyond the cap: a night of failed probes would otherwise take a night of health to decay.
            self._level += 1
        self._jitter = random() if config.cooldown_jitter else 0.0
        return self.seconds(config)

    def seconds(self, config: CircuitBreakerConfig) -> float:
        """Return the length of the running cooldown by this configuration."""
        if self.requested is not None:
            return self.requested
        self._unjittered = _backed_off(config, self._level)
        return self._unjittered * (1 - config.cooldown_jitter * self._jitter)

    def restore(self, config: CircuitBreakerConfig, level: int, requested: float | None) -> None:
        """Continue at a level from before a restart."""
        self._level, self.requested = level, requested
        self._unjittered = _backed_off(config, level)

    def reset(self) -> None:
        """Return to the state before the first opening."""
        self._level, self.requested = -1, None


NO_COOLDOWN = Cooldown()
"""State of every circuit that has not opened yet. Each change is made to a copy."""


def _is_last(config: CircuitBreakerConfig, level: int) -> bool:
    """Return whether one more opening would not lengthen the cooldown."""
    if config.cooldown_schedule is not None:
        return level >= len(config.cooldown_schedule) - 1
    return _backed_off(config, level + 1) <= _backed_off(config, level)


def _backed_off(config: CircuitBreakerConfig, level: int) -> float:
    if config.cooldown_schedule is not None:
        return config.cooldown_schedule[min(max(level, 0), len(config.cooldown_schedule) - 1)]
    longest = sys.float_info.max if config.max_cooldown is None else config.max_cooldown
    try:
        return min(config.cooldown_period * config.cooldown_backoff ** max(level, 0), longest)
    except OverflowError:
        return longest
