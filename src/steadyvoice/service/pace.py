"""How long a text takes to say: 60 ms a character until learnt from what each voice really did."""

from __future__ import annotations

from steadyvoice.speech.text import SECONDS_PER_CHARACTER

_WEIGHT = 0.2  # of the newest utterance
_ENOUGH = 20  # characters; shorter texts tell more of pauses than of pace
_MOST_VOICES = 1000  # voices come from callers: the memory of them is bounded


class Pace:
    """Seconds a character, learnt for each voice."""

    def __init__(self) -> None:
        self._learnt: dict[str, float] = {}

    def learn(self, voice: str, text: str, seconds: float, *, speed: float = 1.0) -> None:
        """Remember that this text took so long."""
        if len(text) < _ENOUGH or seconds <= 0:
            return
        seen = seconds * speed / len(text)
        before = self._learnt.pop(voice, seen)
        if len(self._learnt) >= _MOST_VOICES:
            self._learnt.pop(next(iter(self._learnt)))
        self._learnt[voice] = before + _WEIGHT * (seen - before)

    def seconds(self, voice: str, text: str, *, speed: float = 1.0) -> float:
        """Guess how long this text would take."""
        return len(text) * self._learnt.get(voice, SECONDS_PER_CHARACTER) / speed
