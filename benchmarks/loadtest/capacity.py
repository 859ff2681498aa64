"""Search for the highest rate that one core sustains, as pure functions of the measurements of each step."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits beyond which a step is overloaded. Times in seconds."""

    answered_share: float = 0.98
    first_audio_p99: float = 2.0  # of streaming endpoints
    lag_p99: float = 0.25


@dataclass(frozen=True, slots=True)
class Step:
    """Step of the search, at a constant offered rate in requests per second.

    `answered`: calls that got all they waited for before their deadline, those that hang up on purpose included.
    `cpu`: share of its core that the gateway used. `load_cpu`: the same of simulator and load generator.
    """

    rate: float
    offered: int
    answered: int
    first_audio_p99: float
    lag_p99: float
    cpu: float = 0.0
    load_cpu: float = 0.0

    def overloaded(self, limits: Limits) -> str:
        """Return the limit that was passed, or an empty string."""
        share = self.answered / self.offered if self.offered else 1.0
        if share < limits.answered_share:
            return f"answered {share:.1%}, less than {limits.answered_share:.0%}"
        if self.first_audio_p99 > limits.first_audio_p99:
            return f"first audio p99 {self.first_audio_p99:.2f} s, more than {limits.first_audio_p99:g} s"
        if self.lag_p99 > limits.lag_p99:
            return f"loop lag p99 {self.lag_p99 * 1000:.0f} ms, more than {limits.lag_p99 * 1000:.0f} ms"
        return ""


@dataclass
class CapacitySearch:
    """Double the rate until a step is overloaded, then bisect (geometrically) until the bracket is narrow.

    Give the outcome of each step at `rate` to `record`; the search is over when `rate` is None. A step that is
    overloaded at the first rate is halved instead. `capacity` is the highest rate that was sustained, 0 if none was.
    """

    rate: float | None = 10.0
    precision: float = 1.15  # of the bracket: lowest overloaded rate over highest sustained
    max_rate: float = 2000.0
    min_rate: float = 0.5
    capacity: float = 0.0
    _overloaded: float | None = field(default=None, init=False)

    def record(self, overloaded: bool) -> None:
        """Record the outcome of the step at `rate` and choose the next rate."""
        if self.rate is None:
            raise ValueError("the search is over")
        if overloaded:
            self._overloaded = self.rate
        else:
            self.capacity = self.rate
        self.rate = self._next()

    def _next(self) -> float | None:
        if self._overloaded is None:
            return self.capacity * 2 if self.capacity * 2 <= self.max_rate else None
        if not self.capacity:
            return self._overloaded / 2 if self._overloaded / 2 >= self.min_rate else None
        if self._overloaded / self.capacity <= self.precision:
            return None
        # The geometric mean, because the precision is a ratio.
        return float((self.capacity * self._overloaded) ** 0.5)
