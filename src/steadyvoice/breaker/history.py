"""The time of day of what happened: the machine counts seconds, people read clocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from steadyvoice.breaker.events import Event, StateChanged
from steadyvoice.breaker.states import CircuitState


class History:
    """The last transition, and when the circuit was opened."""

    __slots__ = ("last_transition", "opened_at")

    def __init__(self) -> None:
        self.last_transition: StateChanged | None = None
        self.opened_at: datetime | None = None

    def stamp(self, event: Event, wall: float) -> Event:
        """The event with its time of day, in seconds since 1970; transitions are remembered."""
        event = replace(event, wall=datetime.fromtimestamp(wall, UTC))
        if isinstance(event, StateChanged):
            self.last_transition = event
            self._remember_opening(event)
        return event

    def _remember_opening(self, event: StateChanged) -> None:
        match event.to_state:
            case CircuitState.OPEN | CircuitState.FORCED_OPEN:
                self.opened_at = event.wall
            case CircuitState.HALF_OPEN:
                pass  # still the same outage
            case _:
                self.opened_at = None
