"""Request coalescing: one stream of audio for all identical requests, fetched once and read by each from its beginning.

Two requests are identical if `cache_key` is equal for every provider that could speak them (provider, model, voice,
format, cleaned text, and every option that changes the audio), and their policies are equal (deadline, `on_midstream`,
`voice_substitution`).
"""

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
    """Stream that several consumers share: its source runs in a task of its own, as fast as the fastest consumer reads.

    Nothing runs before the first consumer reads. When the last one leaves, the source ends at once. Chunks are kept for
    consumers that join, up to `max_bytes`: then `on_closed` is called, as it is at the end, and later consumers need
    another stream. From then on, a consumer that is so far behind the fastest is not waited for.
    """

    def __init__(self, source: AsyncGenerator[bytes, None], max_bytes: int, on_closed: Callable[[], None]) -> None:
        self._source, self._max_bytes, self._on_closed = source, max_bytes, on_closed
        self._chunks: list[bytes] = []
        self._dropped = 0  # chunks that every consumer has read, and no other can join to read
        self._size = 0
        self._kept_bytes = 0  # bytes of the chunks that are kept
        self._positions: dict[object, int] = {}  # number of chunks that each consumer has read
        self._task: asyncio.Task[None] | None = None
        self._error: Exception | None = None  # that ended the source
        self._demand = asyncio.Event()
        self._changed = asyncio.Event()

    async def subscribe(self) -> AsyncGenerator[bytes, None]:
        """Yield the whole stream to one more consumer. Raises the error of the source, as a copy for each consumer."""
        consumer = object()
        self._positions[consumer] = 0
        self._task = task = self._task or self._start()
        try:
            while True:
                while self._positions[consumer] < self._dropped + len(self._chunks):
                    yield self._next_chunk(consumer)
                if task.done():
                    break
                self._demand.set()
                await self._changed.wait()
            await task
            # Each consumer gets a copy, because an exception has only one traceback.
            if self._error:
                raise copy_without_traceback(self._error) from self._error.__cause__
        finally:
            del self._positions[consumer]
            if not self._positions and not task.done():
                self._close()
                task.cancel()
                await asyncio.wait([task])
            # A cancelled task keeps the traceback of its end, which keeps this frame.
            del task

    def _start(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run())
        task.add_done_callback(lambda _: self._changed.set())
        return task

    async def _run(self) -> None:
        try:
            async with aclosing(self._source) as source:
                async for data in source:
                    self._append(data)
                    await self._demand.wait()
        except Exception as error:
            self._error = drop_tracebacks(error)
        finally:
            self._close()

    def _close(self) -> None:
        """Report once that no further consumer can join."""
        on_closed, self._on_closed = self._on_closed, _nothing
        on_closed()

    def _append(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        self._kept_bytes += len(data)
        if self._size > self._max_bytes:
            self._close()
            self._drop_read_chunks()
        self._demand.clear()
        # The present waiters are woken once; a consumer that is busy meanwhile waits on the new event.
        self._changed.set()
        self._changed = asyncio.Event()

    def _next_chunk(self, consumer: object) -> bytes:
        if self._positions[consumer] < self._dropped:
            cause = TTSCancelledError(f"consumer more than {self._max_bytes} bytes behind the fastest one")
            raise TTSStreamInterruptedError([cause], delivered=0.0)
        data = self._chunks[self._positions[consumer] - self._dropped]
        self._positions[consumer] += 1
        return data

    def _drop_read_chunks(self) -> None:
        """Drop chunks that every consumer has read, and those beyond the memory limit for the slowest."""
        read = max(0, min(self._positions.values()) - self._dropped)
        self._kept_bytes -= sum(map(len, self._chunks[:read]))
        # A consumer that is so far behind gets an error instead of a share of this process's memory.
        while self._kept_bytes > self._max_bytes and read < len(self._chunks) - 1:
            self._kept_bytes -= len(self._chunks[read])
            read += 1
        del self._chunks[:read]
        self._dropped += read


def _nothing() -> None: ...
