"""Reads ahead of the listener, so that the next sentence is fetched while this one plays."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from steadyvoice.speech.format import AudioFormat

PREFETCH_SECONDS = 3.0
"""Seconds of audio that are fetched before the listener asks for them."""


class PrefetchBuffer:
    """Runs a source in a task of its own until some seconds of audio wait to be heard; it goes on when there is room.

    At most one chunk more than that is held. Nothing runs before the first chunk is asked for. A listener who
    leaves ends the source at once.
    """

    def __init__(self, format: AudioFormat) -> None:
        self._most = PREFETCH_SECONDS * (
            format.bytes_per_second or 125 * (format.bitrate or 16 * format.sample_rate / 1000)
        )
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._over = False
        self._error: Exception | None = None  # in which the source ended
        self._changed = asyncio.Event()

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be heard."""
        return not self._waiting

    async def chunks(self, source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield what the source does, and raise what it raises, once everything before that has been heard."""
        task = asyncio.create_task(self._fetch(source))
        try:
            while self._waiting or not self._over:
                if self._waiting:
                    yield self._taken()
                else:
                    await self._change()
            await task
            if error := self._error:
                self._error = None
                try:
                    raise error
                finally:
                    del error  # its traceback keeps this frame, which must not keep it
        finally:
            task.cancel()
            await asyncio.wait([task])
            del task  # a cancelled one keeps the traceback of its end, which keeps this frame

    async def _fetch(self, source: AsyncGenerator[bytes, None]) -> None:
        try:
            async with aclosing(source):
                async for data in source:
                    self._waiting.append(data)
                    self._size += len(data)
                    self._changed.set()
                    while self._size >= self._most:
                        await self._change()
        except Exception as error:
            self._error = error
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
