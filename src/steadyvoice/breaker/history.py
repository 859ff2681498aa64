"""The time of day of what happened: the machine counts seconds, people read clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from steadyvoice.breaker.states import CircuitState

if TYPE_CHECKING:
    from datetime import datetime

    from steadyvoice.breaker.events import StateChanged
    from steadyvoice.breaker.news import News


class History:
    """The last transition, and when the circuit was opened."""

    __slots__ = ("_last", "_opened")

    def __init__(self) -> None:
        self._last: tuple[News, float] | None = None
        self._opened: float | None = None

    def take(self, news: News, wall: float) -> None:
        """That happened at this time of day, in seconds since 1970; transitions are remembered."""
        if news.to is not None:
            self._last = news, wall
            self._remember_opening(news.to, wall if news.opened is None else news.opened)

    @property
    def last_transition(self) -> StateChanged | None:
        """As it was told."""
        if self._last is None:
            return None
        move, wall = self._last
        return cast("StateChanged", move.event(time_of_day(wall)))

    @property
    def opened_at(self) -> datetime | None:
        """The time of day, while the outage lasts."""
        return None if self._opened is None else time_of_day(self._opened)

    @property
    def opened(self) -> float | None:
        """The same in seconds since 1970."""
        return self._opened

    def _remember_opening(self, to: CircuitState, wall: float) -> None:
        match to:
            case CircuitState.OPEN | CircuitState.FORCED_OPEN:
                self._opened = wall
            case CircuitState.HALF_OPEN:
                pass  # still the same outage
            case _:
                self._opened = None


def time_of_day(wall: float) -> datetime:
    """Seconds since 1970, for people."""
    from datetime import UTC, datetime  # 3 ms of import, wanted only when somebody looks or listens

    return datetime.fromtimestamp(wall, UTC)
