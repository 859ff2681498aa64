"""Prefetch of audio, so that the next sentence is fetched while the present one plays."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from steadyvoice.speech.format import AudioFormat

PREFETCH_SECONDS = 3.0
"""Seconds of audio that are fetched before the consumer asks for them."""


class PrefetchBuffer:
    """Buffer between a source, which runs in a task of its own, and the consumer.

    The source pauses once PREFETCH_SECONDS of audio wait, and goes on when there is room; at most one chunk more than
    that is held. Nothing runs before the first chunk is asked for. A consumer that leaves ends the source at once.
    """

    def __init__(self, format: AudioFormat) -> None:
        self._max_bytes = PREFETCH_SECONDS * (
            format.bytes_per_second or 125 * (format.bitrate or 16 * format.sample_rate / 1000)
        )
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: Exception | None = None  # that ended the source
        # Only one side ever waits: the consumer for audio, or the source for room. A future does for that, with fewer
        # steps for each chunk than an event.
        self._change: asyncio.Future[None] | None = None

    @property
    def empty(self) -> bool:
        """Whether no audio waits for the consumer."""
        return not self._waiting

    async def chunks(self, source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of the source, and raise its error once everything before that was consumed."""
        task = asyncio.create_task(self._fetch(source))
        try:
            while self._waiting or not self._ended:
                if self._waiting:
                    yield self._take()
                else:
                    await self._wait_for_change()
            await task
            if error := self._error:
                self._error = None
                try:
                    raise error
                finally:
                    # The traceback of the error keeps this frame, which must not keep the error.
                    del error
        finally:
            task.cancel()
            await asyncio.wait([task])
            # A cancelled task keeps the traceback of its end, which keeps this frame.
            del task

    async def _fetch(self, source: AsyncGenerator[bytes, None]) -> None:
        try:
            async with aclosing(source):
                async for data in source:
                    self._waiting.append(data)
                    self._size += len(data)
                    self._wake()
                    # A consumer that stops reading stops the vendor, which may then disconnect.
                    while self._size >= self._max_bytes:
                        await self._wait_for_change()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._wake()

    async def _wait_for_change(self) -> None:
        self._change = change = asyncio.get_running_loop().create_future()
        await change

    def _wake(self) -> None:
        # It is removed here: the other side may wait already by the time that the awakened one runs.
        change, self._change = self._change, None
        if change and not change.done():
            change.set_result(None)

    def _take(self) -> bytes:
        data = self._waiting.popleft()
        self._size -= len(data)
        self._wake()
        return data
