"""Reads ahead of the listener, so that the next sentence is fetched while this one plays."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from steadyvoice.speech.format import AudioFormat

AHEAD = 3.0
"""Seconds of audio that are fetched before the listener asks for them."""


class Ahead:
    """Runs a source in a task of its own until some seconds of audio wait to be heard; it goes on when there is room.

    At most one chunk more than that is held. Nothing runs before the first chunk is asked for. A listener who
    leaves ends the source at once.
    """

    def __init__(self, source: AsyncGenerator[bytes, None], format: AudioFormat) -> None:
        self._source = source
        self._most = AHEAD * (format.bytes_per_second or 125 * (format.bitrate or 16 * format.sample_rate / 1000))
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._over = False
        self._changed = asyncio.Event()

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be heard."""
        return not self._waiting

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield what the source does, and raise what it raises, once everything before that has been heard."""
        task = asyncio.create_task(self._fetch())
        try:
            while self._waiting or not self._over:
                if self._waiting:
                    yield self._taken()
                else:
                    await self._change()
            await task
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # somebody has seen it, even if the listener left before it was raised

    async def _fetch(self) -> None:
        try:
            async with aclosing(self._source) as source:
                async for data in source:
                    self._waiting.append(data)
                    self._size += len(data)
                    self._changed.set()
                    while self._size >= self._most:
                        await self._change()
        finally:
            self._over = True
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _taken(self) -> bytes:
        data = self._waiting.popleft()
        self._size -= len(data)
        self._changed.set()
        return data
