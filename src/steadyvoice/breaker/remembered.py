"""One failure as a circuit keeps it: no exception object, so no frames are kept alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from steadyvoice.breaker.record import FailureRecord


class Remembered(NamedTuple):
    """One failure. `latency` is in seconds, None where no clock was running.

    `wall` is the time of day, in seconds since 1970, noted when it happened: worked out later from the breaker's own
    clock, it would move when the computer was suspended, for monotonic clocks stand still then.
    """

    kind: str
    message: str
    wall: float
    latency: float | None

    def record(self) -> FailureRecord:
        """The same as it is shown."""
        from datetime import UTC, datetime  # with the class, 4 ms of import that a refusal need not wait for

        from steadyvoice.breaker.record import FailureRecord

        return FailureRecord(self.kind, self.message, datetime.fromtimestamp(self.wall, UTC), self.latency)
