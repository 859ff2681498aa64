"""How long a call may be silent before it counts as hanging: as it is set, or longer where the provider is slow."""

from __future__ import annotations

from steadyvoice.breaker.config import CircuitBreakerConfig

MEMORY = 50  # signs of life; twice as many at most are remembered


class Patience:
    """Remembers the longest silence, in seconds, that lately ended well."""

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
            return self._seen == 1
        self._earlier, self._lately = self._lately, 0.0
        return True

    def seconds(self, config: CircuitBreakerConfig) -> float | None:
        """The silence after which a call hangs, None when none does. Before the first sign of life: a probe's lease."""
        if config.hung_after is None or config.hung_factor is None:
            return config.hung_after
        if not self._seen:
            return max(config.hung_after, config.half_open_timeout)
        return max(config.hung_after, config.hung_factor * max(self._lately, self._earlier))
