"""How long a call may be silent before it counts as hanging: as it is set, or longer where the provider is slow."""

from __future__ import annotations

from steadyvoice.breaker.config import CircuitBreakerConfig

MEMORY = 100  # calls that must have answered before anything is known; twice as many at most are remembered


class Patience:
    """Remembers the longest time, in seconds, that calls lately took to their first sign of life."""

    __slots__ = ("_earlier", "_lately", "_seen")

    def __init__(self) -> None:
        self._seen = 0
        self._lately = 0.0
        self._earlier = 0.0

    def learn(self, silence: float) -> bool:
        """A call that was silent for so long gave a sign of life. Whether calls may hang sooner from now on."""
        self._seen += 1
        self._lately = max(self._lately, silence)
        if self._seen % MEMORY:
            return False
        self._earlier, self._lately = self._lately, 0.0
        return True

    def seconds(self, config: CircuitBreakerConfig) -> float | None:
        """The silence after which a call hangs, None when none does. While nothing is known: a probe's lease."""
        if config.hung_after is None or config.hung_factor is None:
            return config.hung_after
        if self._seen < MEMORY:
            return max(config.hung_after, config.half_open_timeout)
        return max(config.hung_after, config.hung_factor * max(self._lately, self._earlier))
