"""Turns driven by tests: text pushed with pauses, and what a listener gets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from steadyvoice import AsyncTurn, Audio, Ended, Flushed, Switched, TTSError, Word, Words
from steadyvoice.audio.word_tones import words_in


@dataclass
class Listener:
    """Listener of one turn: keeps its events, and checks their order."""

    events: list[Audio | Words | Switched | Flushed | Ended] = field(default_factory=list)
    error: TTSError | None = None

    async def listen(self, turn: AsyncTurn, *, pause: float = 0.0, events: int | None = None) -> Listener:
        """Read the turn, with a pause behind each event; only so many events if that is given."""
        try:
            async for event in turn:
                self.events.append(event)
                self._check(event)
                if pause:
                    await asyncio.sleep(pause)
                if len(self.events) == events:
                    break
        except TTSError as error:
            self.error = error.with_traceback(None)  # its frames keep this listener
        return self

    def _check(self, event: object) -> None:
        assert not any(isinstance(each, Ended) for each in self.events[:-1])
        if isinstance(event, Audio):
            assert abs(event.at - sum(each.seconds for each in self.pieces[:-1])) < 1e-6
        if isinstance(event, Words):
            assert event.words
            begun = self.seconds
            assert all(word.stop >= begun - 0.05 for word in event.words)  # never later than its audio

    @property
    def pieces(self) -> list[Audio]:
        return [event for event in self.events if isinstance(event, Audio)]

    @property
    def audio(self) -> bytes:
        return b"".join(piece.data for piece in self.pieces)

    @property
    def seconds(self) -> float:
        return sum(piece.seconds for piece in self.pieces)

    @property
    def words(self) -> list[Word]:
        return [word for event in self.events if isinstance(event, Words) for word in event.words]

    @property
    def switches(self) -> list[Switched]:
        return [event for event in self.events if isinstance(event, Switched)]

    @property
    def marks(self) -> list[int]:
        return [event.mark for event in self.events if isinstance(event, Flushed)]

    @property
    def outcome(self) -> str | None:
        last = self.events[-1] if self.events else None
        return last.outcome if isinstance(last, Ended) else None

    def heard(self, turn: AsyncTurn) -> list[str]:
        """Return the words that the audio holds."""
        return words_in(self.audio, turn.format)


async def push_all(turn: AsyncTurn, tokens: Sequence[str], pause: float = 0.0) -> None:
    """Push the tokens with a pause behind each, and end the turn."""
    for token in tokens:
        turn.push(token)
        if pause:
            await asyncio.sleep(pause)
    turn.end()


async def spoken(turn: AsyncTurn, text: str, *, pause: float = 0.0) -> Listener:
    """Push a text token by token, and listen to all of it."""
    listener = Listener()
    tokens = [f"{token} " for token in text.split(" ")]
    await asyncio.gather(push_all(turn, tokens, pause), listener.listen(turn))
    return listener
