"""When does a websocket speak what it was told? Decided from text alone: ElevenLabs' generation schedule.

The first audio comes when 120 characters are there, the next after 160 more, and so on; `flush` and the end of the
text do not wait. A word that may still grow is kept back.
"""

from __future__ import annotations

from collections.abc import Sequence

from steadyvoice.wire.elevenlabs.websocket import DEFAULT_SCHEDULE, SHORTEST_CHUNK


class Buffer:
    """Text on its way to a voice. With `at_once` (`auto_mode`) nothing waits."""

    def __init__(self, schedule: Sequence[float] = DEFAULT_SCHEDULE, *, at_once: bool = False) -> None:
        self._schedule = list(schedule)
        self._at_once = at_once
        self._text = ""

    def take(self, text: str, *, trigger: bool = False, flush: bool = False) -> str:
        """Add text, and give what is to be spoken now, perhaps nothing.

        `trigger` does not wait for the schedule, but for the least that makes good speech, 50 characters.
        """
        if text.strip() or self._text[-1:].strip():  # a blank behind a blank only keeps the connection alive
            self._text = (self._text + text).lstrip()
        if flush or self._at_once:
            return self._spoken(len(self._text))
        least = min(self._schedule[0], SHORTEST_CHUNK) if trigger else self._schedule[0]
        if len(self._text) < least:
            return ""
        return self._spoken(_last_blank(self._text) or len(self._text))

    def _spoken(self, count: int) -> str:
        spoken, self._text = self._text[:count], self._text[count:]
        if not spoken.strip():
            return ""
        if len(self._schedule) > 1:
            self._schedule.pop(0)
        return spoken


def _last_blank(text: str) -> int:
    """Behind the last white space: 0 where there is none."""
    return next((at for at in range(len(text), 0, -1) if text[at - 1].isspace()), 0)
