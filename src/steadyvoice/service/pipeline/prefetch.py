"""Prefetch of audio, so that the next sentence is fetched while the present one plays."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import Context
from functools import partial

from steadyvoice.speech.format import AudioFormat

PREFETCH_SECONDS = 3.0
"""Seconds of audio that are fetched before the consumer asks for them."""


class PrefetchBuffer:
    """Buffer between a source and the consumer: a generator that runs in a task of its own, or a relay that adds to it.

    The source pauses once PREFETCH_SECONDS of audio wait, and goes on when there is room; at most what it makes at once
    is held beyond them. Nothing runs before the first chunk is asked for. A consumer that leaves ends the source.
    """

    def __init__(self, format: AudioFormat) -> None:
        self.max_bytes = PREFETCH_SECONDS * (
            format.bytes_per_second or 125 * (format.bitrate or 16 * format.sample_rate / 1000)
        )
        """Bytes from which on a source has to pause."""
        self._waiting: deque[bytes] = deque()
        self.size = 0
        """Bytes that wait for the consumer."""
        self._ended = False
        self._error: Exception | None = None  # that ended the source
        # Only one side ever waits: the consumer for audio, or the source for room. A future does for that, with fewer
        # steps for each chunk than an event.
        self._change: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None  # of a source that is a generator
        self._fetching = False  # whether it has begun
        self.on_room: Callable[[], None] | None = None
        """Called once there is room again, by a relay that waits for it."""

    @property
    def empty(self) -> bool:
        """True if no audio waits for the consumer."""
        return not self._waiting

    def chunks(self, source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Return the chunks of the source, whose error is raised once everything before that was consumed."""
        return self.read(partial(self.fetch, source))

    async def read(
        self, begin: Callable[[], None], leave: Callable[[], None] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield what is added from `begin()` on, and raise the error of a generator once everything before that was
        consumed. `leave()` is called behind the last chunk, and when the consumer leaves before it.
        """
        waiting = self._waiting
        try:
            begin()
            while True:
                if waiting:
                    data = waiting.popleft()
                    self.size -= len(data)
                    if self._change or self.on_room:
                        self._note_room()
                    yield data
                elif self._ended:
                    break
                else:  # `_wait_for_change`, without its call
                    self._change = change = asyncio.get_running_loop().create_future()
                    await change
            if self._task:
                await self._task
            if error := self._error:
                self._error = None
                try:
                    raise error
                finally:
                    # The traceback of the error keeps this frame, which must not keep the error.
                    del error
        finally:
            if leave:
                leave()
            if self._task:
                await self._end_task()

    def fetch(self, source: AsyncGenerator[bytes, None], context: Context | None = None) -> None:
        """Begin to add the chunks of a generator, in a task."""
        self._task = asyncio.create_task(self._fetch(source), context=context)

    def add(self, data: bytes) -> None:
        """Add a chunk; the consumer sees it after `wake()`."""
        self._waiting.append(data)
        self.size += len(data)

    def end(self) -> None:
        """Note that nothing will be added any more."""
        self._ended = True
        self.wake()

    async def _end_task(self) -> None:
        """End the source, and wait for that."""
        task, self._task = self._task, None
        assert task is not None  # noqa: S101 - checked by the caller
        try:
            if not self._fetching:  # a task that is cancelled before its first step would never run
                await asyncio.sleep(0)
        finally:
            task.cancel()
            await asyncio.wait([task])
            # A cancelled task keeps the traceback of its end, which keeps this frame.
            del task

    async def _fetch(self, source: AsyncGenerator[bytes, None]) -> None:
        self._fetching = True
        try:
            async with aclosing(source):
                async for data in source:
                    self.add(data)
                    self.wake()
                    # A consumer that stops reading stops the vendor, which may then disconnect.
                    while self.size >= self.max_bytes:
                        await self._wait_for_change()
        except Exception as error:
            self._error = error
        finally:
            self.end()

    async def _wait_for_change(self) -> None:
        self._change = change = asyncio.get_running_loop().create_future()
        await change

    def wake(self) -> None:
        """Wake the side that waits."""
        # It is removed here: the other side may wait already by the time that the awakened one runs.
        change, self._change = self._change, None
        if change and not change.done():
            change.set_result(None)

    def _note_room(self) -> None:
        if self._change:
            self.wake()
        if self.size < self.max_bytes and (on_room := self.on_room):
            self.on_room = None
            on_room()
