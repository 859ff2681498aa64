"""One stream of audio for all who ask for the same: it is fetched once, and everybody hears it from the beginning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from steadyvoice.speech.errors import (
    TTSCancelledError,
    TTSStreamInterruptedError,
    copy_without_traceback,
    drop_tracebacks,
)


class CoalescedStream:
    """Runs a source in a task of its own, as fast as whoever has heard the most asks for more.

    Nothing runs before the first listener asks. When the last one leaves, the source ends at once. What has come is
    held for those who join, up to `most` bytes: then `landed` is called, as it is at the end, and who joins too late
    must be given another. From then on, a listener who is so far behind the first is not waited for.
    """

    def __init__(self, source: AsyncGenerator[bytes, None], most: int, landed: Callable[[], None]) -> None:
        self._source, self._most, self._landed = source, most, landed
        self._chunks: list[bytes] = []
        self._gone = 0  # chunks that everybody has heard, and nobody can join to hear any more
        self._size = 0
        self._held = 0  # bytes of these chunks
        self._places: dict[object, int] = {}  # how many chunks each listener has heard
        self._task: asyncio.Task[None] | None = None
        self._error: Exception | None = None  # in which the source ended
        self._hunger = asyncio.Event()
        self._news = asyncio.Event()

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Yield all of it, and raise what the source raises."""
        me = object()
        self._places[me] = 0
        self._task = task = self._task or self._take_off()
        try:
            while True:
                while self._places[me] < self._gone + len(self._chunks):
                    yield self._heard(me)
                if task.done():
                    break
                self._hunger.set()
                await self._news.wait()
            await task
            if self._error:  # each listener gets a copy: one exception has one traceback
                raise copy_without_traceback(self._error) from self._error.__cause__
        finally:
            del self._places[me]
            if not self._places and not task.done():
                self._land()
                task.cancel()
                await asyncio.wait([task])
            del task  # a cancelled one keeps the traceback of its end, which keeps this frame

    def _take_off(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._fly())
        task.add_done_callback(lambda _: self._news.set())
        return task

    async def _fly(self) -> None:
        try:
            async with aclosing(self._source) as source:
                async for data in source:
                    self._take(data)
                    await self._hunger.wait()
        except Exception as error:
            self._error = drop_tracebacks(error)
        finally:
            self._land()

    def _land(self) -> None:
        """Tell once that nobody can join any more."""
        landed, self._landed = self._landed, _nothing
        landed()

    def _take(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        self._held += len(data)
        if self._size > self._most:
            self._land()
            self._forget()
        self._hunger.clear()
        self._news.set()
        self._news = asyncio.Event()

    def _heard(self, listener: object) -> bytes:
        if self._places[listener] < self._gone:
            cause = TTSCancelledError(f"this listener was more than {self._most} bytes behind another one")
            raise TTSStreamInterruptedError([cause], delivered=0.0)
        data = self._chunks[self._places[listener] - self._gone]
        self._places[listener] += 1
        return data

    def _forget(self) -> None:
        """Nobody joins any more: what all have heard can go, and what is too much for the last of them."""
        heard = max(0, min(self._places.values()) - self._gone)
        self._held -= sum(map(len, self._chunks[:heard]))
        while self._held > self._most and heard < len(self._chunks) - 1:
            self._held -= len(self._chunks[heard])
            heard += 1
        del self._chunks[:heard]
        self._gone += heard


def _nothing() -> None: ...
