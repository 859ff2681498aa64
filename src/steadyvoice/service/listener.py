"""Whoever plays the audio while it comes: how much of it is still in hand, and whether it comes fast enough."""

from __future__ import annotations

REAL_TIME = 0.9
"""Seconds of audio a second that are enough to listen to. A vendor that sends at the very pace of speech jitters around
one.
"""

DRIP = 0.1
"""Less than this is no speech in the making, even to somebody who waits for the whole."""


class Listener:
    """Plays from the first audio on, and waits when there is none. Knows no clock: it is told how long things took.

    One long gap is a stall, which has a clock of its own; slow is what goes on and on below `pace`, in seconds of
    audio a second.
    """

    def __init__(self, pace: float = REAL_TIME) -> None:
        self._pace = pace
        self._ahead = 0.0  # seconds of audio in hand; what is missing when negative
        self.dry: _Drought | None = None
        """Since it ran out of audio; None while it has some in hand."""

    def waited(self, seconds: float, *, gained: float) -> None:
        """So much audio came after so long a wait."""
        self._ahead -= seconds
        if self._ahead < 0:
            self.dry = self.dry or _Drought()
            self.dry.add(min(seconds, -self._ahead), gained)
        self._ahead += gained
        if self._ahead >= 0:
            self.dry = None  # it has caught up

    @property
    def in_hand(self) -> float:
        """Seconds of audio that were not played yet when the last came. Whoever waits for the whole plays nothing."""
        return self._ahead if self._pace > DRIP else 0.0

    @property
    def starved_for(self) -> float:
        """Seconds for which audio has come slower than it is played, to somebody with nothing in hand."""
        if self.dry is None:
            return 0.0
        return self.dry.lasted if self.dry.gained < self._pace * self.dry.lasted else 0.0


class _Drought:
    """From the moment the listener ran dry until all that was missing has come."""

    def __init__(self) -> None:
        self._waited = self._longest = self.gained = 0.0

    def add(self, waited: float, gained: float) -> None:
        self._waited += waited
        self._longest = max(self._longest, waited)
        self.gained += gained

    @property
    def lasted(self) -> float:
        return self._waited - self._longest
