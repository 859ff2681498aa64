"""Tests of the prefetch buffer between a source and its consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.service.pipeline.prefetch import PREFETCH_SECONDS, PrefetchBuffer
from steadyvoice.speech.format import AudioFormat

PCM = AudioFormat.parse("pcm_8000")
FULL = int(PREFETCH_SECONDS * 16_000)  # bytes

STEPS = st.lists(st.tuples(st.sampled_from([1, FULL // 2, FULL, 2 * FULL]), st.integers(0, 3)), max_size=12)
"""Size of each chunk, and the turns of the loop before it is made."""


@given(steps=STEPS, pauses=st.lists(st.integers(0, 3), max_size=12))
def test_every_chunk_arrives_in_order_however_both_sides_wait(steps: list[tuple[int, int]], pauses: list[int]) -> None:
    chunks = [bytes([number]) * size for number, (size, _) in enumerate(steps)]
    buffer, made, most = PrefetchBuffer(PCM), [0], [0]

    async def source() -> AsyncGenerator[bytes, None]:
        for chunk, (_, turns) in zip(chunks, steps, strict=True):
            for _ in range(turns):
                await asyncio.sleep(0)
            made[0] += len(chunk)
            yield chunk

    async def consume() -> list[bytes]:
        received, taken = [], 0
        waits = iter(pauses)
        async for data in buffer.chunks(source()):
            received.append(data)
            taken += len(data)
            for _ in range(next(waits, 0)):
                await asyncio.sleep(0)
            most[0] = max(most[0], made[0] - taken)
        return received

    async def bounded() -> list[bytes]:
        async with asyncio.timeout(10):
            return await consume()

    assert asyncio.run(bounded()) == chunks
    assert most[0] < FULL + max((len(chunk) for chunk in chunks), default=1), "a full buffer stops the source"


async def test_consumer_waits_while_the_stopped_source_has_not_run_yet() -> None:
    """The source is stopped by a full buffer, and the consumer empties it and waits within the same turn."""
    buffer = PrefetchBuffer(PCM)

    async def source() -> AsyncGenerator[bytes, None]:
        for number in range(3):
            yield bytes([number]) * FULL
            await asyncio.sleep(0)

    async with asyncio.timeout(10):
        assert [data[0] async for data in buffer.chunks(source())] == [0, 1, 2]


async def test_consumer_that_leaves_ends_a_source_that_waits_for_room() -> None:
    buffer, ended = PrefetchBuffer(PCM), asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield bytes(FULL)
        finally:
            ended.set()

    async with aclosing(buffer.chunks(source())) as chunks:
        await anext(chunks)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_error_of_the_source_comes_behind_its_chunks() -> None:
    async def source() -> AsyncGenerator[bytes, None]:
        yield b"ab"
        await asyncio.sleep(0)
        raise RuntimeError("broken")

    chunks = PrefetchBuffer(PCM).chunks(source())
    assert await anext(chunks) == b"ab"
    with pytest.raises(RuntimeError, match="broken"):
        await anext(chunks)
