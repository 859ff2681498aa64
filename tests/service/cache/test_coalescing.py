"""Request coalescing: one source for all consumers, complete for each, ended with the last."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator

from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.service.cache.coalescing import CoalescedStream


class ChunkSource:
    """Source of numbered chunks that records how it ended."""

    def __init__(self, chunks: int, size: int = 10, then: Exception | None = None) -> None:
        self.sent = 0
        self.ended = False
        self._chunks, self._size, self._then = chunks, size, then

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(self._chunks):
                await asyncio.sleep(0)
                self.sent += 1
                yield bytes([number % 256]) * self._size
            if self._then:
                raise self._then
        finally:
            self.ended = True


@given(chunks=st.integers(0, 20), joins=st.lists(st.integers(0, 60), min_size=1, max_size=6), leave=st.integers(0, 20))
def test_every_consumer_that_stays_reads_the_whole_stream(chunks: int, joins: list[int], leave: int) -> None:
    async def story() -> None:
        closed = False

        def on_closed() -> None:
            nonlocal closed
            closed = True

        source = ChunkSource(chunks)
        stream = CoalescedStream(source(), 1000, on_closed)

        async def listener(turns: int, *, stays: bool) -> bytes | None:
            for _ in range(turns):
                await asyncio.sleep(0)
            if closed:
                return None
            heard, listening = b"", stream.subscribe()
            async for data in listening:
                heard += data
                if not stays and len(heard) >= 10 * leave:
                    break
            await listening.aclose()
            return heard if stays else None

        heard = await asyncio.gather(*(listener(turns, stays=bool(index)) for index, turns in enumerate(joins)))
        assert {each for each in heard if each is not None} <= {b"".join(bytes([n]) * 10 for n in range(chunks))}
        assert closed or not source.sent

    asyncio.run(story())


async def test_source_is_not_ahead_of_the_fastest_consumer() -> None:
    source = ChunkSource(20)
    stream = CoalescedStream(source(), 1000, lambda: None)
    fast, slow = stream.subscribe(), stream.subscribe()
    await anext(slow)
    for _ in range(5):
        await anext(fast)
    assert source.sent == 5
    await slow.aclose()
    assert not source.ended
    await fast.aclose()
    assert source.ended


async def test_every_consumer_gets_the_error_after_the_chunks_before_it() -> None:
    stream = CoalescedStream(ChunkSource(3, then=ValueError("broke"))(), 1000, lambda: None)

    heard: list[bytes] = []

    async def listen() -> None:
        async for data in stream.subscribe():
            heard.extend([data])

    results = await asyncio.gather(listen(), listen(), return_exceptions=True)
    assert [str(error) for error in results] == ["broke"] * 2
    assert len(heard) == 6


async def test_chunks_without_possible_readers_are_dropped() -> None:
    landings: list[int] = []
    source = ChunkSource(100, size=100_000)
    stream = CoalescedStream(source(), 300_000, lambda: landings.append(source.sent))
    tracemalloc.start()
    try:
        async for _ in stream.subscribe():
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert landings[0] == 4
    assert peak < 1_500_000
