"""What the probes of one half-open stretch have shown so far, and whether that decides it."""

from __future__ import annotations

from steadyvoice.breaker.config import CircuitBreakerConfig
from steadyvoice.breaker.plural import counted, were
from steadyvoice.breaker.rules import Verdict
from steadyvoice.breaker.states import Cause


class Probes:
    """Counts them. `slow` of them were slow, and succeeded all the same."""

    __slots__ = ("_last_failure", "failed", "slow", "succeeded")

    def __init__(self) -> None:
        self.succeeded = self.failed = self.slow = 0
        self._last_failure: Verdict | None = None

    def succeed(self, slow: bool) -> None:
        """One did what it was asked to."""
        self.succeeded += 1
        self.slow += slow

    def fail(self, why: Verdict) -> None:
        """One did not."""
        self.failed += 1
        self._last_failure = why

    def verdict(self, config: CircuitBreakerConfig, slow_share: float | None) -> Verdict | None:
        """Why the circuit must close (PROBES_SUCCEEDED) or open again (all else); None while it is undecided.

        `slow_share` is the share of slow calls that would open a closed circuit, None where none would.
        """
        wanted = config.success_threshold
        if self._last_failure and self.failed > config.half_open_failures:
            return self._last_failure if self.failed == 1 else self._after_several(self._last_failure)
        if slow_share is not None and self.slow and self.slow / wanted >= slow_share:
            return Verdict(Cause.PROBES_SLOW, f"{self.slow} of {counted(wanted, 'probe')} {were(self.slow)} slow")
        if self.succeeded < wanted:
            return None
        if self.failed:
            told = f"{self.succeeded} of {counted(self.succeeded + self.failed, 'probe')} succeeded"
        else:
            told = f"{counted(self.succeeded, 'probe')} in a row succeeded"
        return Verdict(Cause.PROBES_SUCCEEDED, told)

    def _after_several(self, last: Verdict) -> Verdict:
        return Verdict(last.cause, f"{last.reason}, the last of {self.failed} that failed")
