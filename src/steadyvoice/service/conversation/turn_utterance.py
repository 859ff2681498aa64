"""Utterance whose text is an iterable: one turn, read as bytes by an ordinary stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable

from steadyvoice.service.conversation.conversation import AsyncConversation
from steadyvoice.service.conversation.events import Audio, Ended
from steadyvoice.service.conversation.turn import AsyncTurn


class TurnUtterance:
    """Utterance of pieces of text that are still being written. Nothing is iterated before the first chunk is read."""

    def __init__(self, conversation: AsyncConversation, pieces: Iterable[str] | AsyncIterable[str]) -> None:
        self._conversation, self._pieces = conversation, pieces
        self._turn = turn = conversation.turn()
        self.report, self.format = turn.report, turn.format
        self.finished = False
        """Whether every character was spoken, and its audio delivered."""

    @property
    def delivered(self) -> float:
        """Seconds of audio delivered so far."""
        return self._turn.seconds

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the audio, once. Raises TTSError, and errors of the iterable."""
        turn = self._turn
        feeding = asyncio.create_task(_feed(turn, self._pieces))
        try:
            async for event in turn:
                if isinstance(event, Audio):
                    yield event.data
                elif isinstance(event, Ended):
                    self.finished = event.outcome != "interrupted"
            await feeding
        finally:
            feeding.cancel()
            await turn.aclose()
            await asyncio.wait([feeding])
            del feeding

    def close(self) -> None:
        """Do nothing: the end of the chunks has released everything."""


async def _feed(turn: AsyncTurn, pieces: Iterable[str] | AsyncIterable[str]) -> None:
    """Push the pieces. An error of the iterable ends the turn, and is raised behind what was spoken before it."""
    try:
        await turn.feed(pieces)
    finally:
        turn.end()
