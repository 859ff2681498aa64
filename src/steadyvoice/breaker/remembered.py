"""One failure as a circuit keeps it: no exception object, so no frames are kept alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from steadyvoice.breaker.record import FailureRecord


class Remembered(NamedTuple):
    """`at` is on the breaker's own clock; `latency` is in seconds, None where no clock was running."""

    kind: str
    message: str
    at: float
    latency: float | None

    def dated(self, now: float, wall: float) -> Dated:
        """The same, when it is `wall` o'clock now, in seconds since 1970."""
        return Dated(self.kind, self.message, wall - (now - self.at), self.latency)


class Dated(NamedTuple):
    """`wall` is the time of day, in seconds since 1970. What a refusal holds, until somebody reads it."""

    kind: str
    message: str
    wall: float
    latency: float | None

    def record(self) -> FailureRecord:
        """The same as it is shown."""
        from datetime import UTC, datetime  # with the class, 4 ms of import that a refusal need not wait for

        from steadyvoice.breaker.record import FailureRecord

        return FailureRecord(self.kind, self.message, datetime.fromtimestamp(self.wall, UTC), self.latency)
