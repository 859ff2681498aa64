"""Retries: backoff, the retry budget that keeps them from multiplying an outage, and the retry loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from steadyvoice._option_rules import COUNT, FACTOR, SECONDS, Number
from steadyvoice.service.resilience.failover import GiveUp, TryProvider, WaitForProvider
from steadyvoice.speech.errors import TTSConfigurationError, TTSError
from steadyvoice.speech.failure_kinds import RetryAdvice
from steadyvoice.speech.option_validation import validate_fields, validate_option


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """Retry settings: number of attempts, exponential backoff with jitter, and retry budget.

    A provider gets one retry while another one could speak, and `max_attempts` in all if it is the last. The n-th pause
    is `base_delay * multiplier**(n-1)` seconds, up to `max_delay`, plus up to as much again at random. Each first
    attempt adds `budget` of a retry to the retry budget, which holds `budget_reserve` at most: that is what retries add
    to the load in an outage. Raises TTSConfigurationError.
    """

    max_attempts: int = 3  # attempts at the last provider left
    base_delay: float = 0.25  # seconds of backoff before the first retry
    max_delay: float = 8.0  # seconds, upper bound of the backoff
    multiplier: float = 2.0  # factor by which each pause is longer than the one before
    budget: float = 0.2  # share of the first attempts that may be retried
    budget_reserve: float = 10.0  # retries that can be saved up

    def __post_init__(self) -> None:
        validate_option("max_attempts", self.max_attempts, COUNT)
        validate_fields(self, ("base_delay", "max_delay"), SECONDS)
        validate_option("multiplier", self.multiplier, FACTOR)
        validate_fields(self, ("budget", "budget_reserve"), Number(minimum=0))
        if self.base_delay > self.max_delay:
            raise TTSConfigurationError(
                f"base_delay: must not be more than max_delay ({self.max_delay:g}), got {self.base_delay:g}"
            )

    def pause(self, error: TTSError, tries: int, rng: Random) -> float:
        """Return the seconds to wait before the next attempt, after `tries` that failed; at least `Retry-After`."""
        if error.meaning.retry is RetryAdvice.NOW and error.retry_after is None:
            return 0.0
        delay = min(self.max_delay, self.base_delay * self.multiplier ** min(tries - 1, 60))
        # A vendor that answers everything with `Retry-After: 0` would be hammered without the backoff.
        return max(delay * (1.0 + rng.random()), error.retry_after or 0.0)


class RetryBudget:
    """Retry budget: a share of the first attempts, saved up to a reserve (decision 3)."""

    __slots__ = ("_reserve", "_saved", "_share")

    def __init__(self, config: RetryConfig) -> None:
        self._share = config.budget
        self._reserve = config.budget_reserve
        self._saved = config.budget_reserve

    @property
    def affords_one(self) -> bool:
        return self._saved >= 1.0

    def earn(self) -> None:
        """Add the share of one first attempt."""
        self._saved = min(self._reserve, self._saved + self._share)

    def spend(self) -> None:
        """Take one retry."""
        self._saved -= 1.0


class RetryLoop:
    """Loop over the decisions of `decide`: attempts, pauses before retries, and the end.

    A pause is slept by the call of `next()` behind it, so that the caller may do something better than wait.
    """

    __slots__ = ("_decide", "_pause", "_sleep")

    def __init__(
        self,
        decide: Callable[[], TryProvider | WaitForProvider | GiveUp],
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._decide, self._sleep = decide, sleep
        self._pause = 0.0

    async def next(self) -> TryProvider | WaitForProvider | GiveUp:
        """Sleep through the pause that was decided last, if any, and return the next decision."""
        if self._pause:
            await self._sleep(self._pause)
        step = self._decide()
        self._pause = step.seconds if isinstance(step, WaitForProvider) else 0.0
        return step
