"""Thread pool for decoding and encoding: bounded, in order, and with a measurable queue."""

from __future__ import annotations

import asyncio
import threading

import pytest

from steadyvoice.audio.thread_pool import AudioThreadPool


class PoolClock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_jobs_run_in_no_more_threads_than_allowed() -> None:
    workers = AudioThreadPool(2)
    running, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.001)
        with lock:
            running -= 1

    await asyncio.gather(*(workers.run(work) for _ in range(50)))
    workers.close()
    assert most == 2


async def test_queue_wait_is_that_of_the_oldest_queued_job() -> None:
    clock = PoolClock()
    workers = AudioThreadPool(1, clock=clock)
    go, began = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        go.wait(10)

    first = asyncio.ensure_future(workers.run(hold))
    await asyncio.sleep(0)
    assert began.wait(10)
    assert workers.queue_wait == 0.0
    second = asyncio.ensure_future(workers.run(hold))
    await asyncio.sleep(0)
    clock.now = 3.0
    third = asyncio.ensure_future(workers.run(hold))
    await asyncio.sleep(0)
    clock.now = 5.0
    assert workers.queue_wait == 5.0
    go.set()
    await asyncio.gather(first, second, third)
    assert workers.queue_wait == 0.0
    workers.close()


async def test_job_of_a_cancelled_caller_finishes_and_leaves_the_queue() -> None:
    workers = AudioThreadPool(1, clock=PoolClock())
    go, done = threading.Event(), threading.Event()
    first = asyncio.ensure_future(workers.run(go.wait, 10))
    second = asyncio.ensure_future(workers.run(done.set))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go.set()
    await first
    assert done.wait(10)
    workers.close()
    assert workers.queue_wait == 0.0


async def test_closed_pool_can_be_used_again() -> None:
    workers = AudioThreadPool(1)
    before = threading.active_count()
    assert await workers.run(lambda: 1) == 1
    workers.close()
    assert threading.active_count() == before
    assert await workers.run(lambda: 2) == 2
    workers.close()


@pytest.mark.looptime
async def test_slow_jobs_are_known_until_enough_others_were_quick() -> None:
    workers = AudioThreadPool(1)
    assert workers.slowest_recent_job == 0.0
    go = threading.Event()
    asyncio.get_running_loop().call_later(1.5, go.set)
    await workers.run(go.wait, 10)
    assert workers.slowest_recent_job == 1.5
    for _ in range(16):
        assert workers.slowest_recent_job == 1.5
        await workers.run(int)
    assert workers.slowest_recent_job == 0.0
    workers.close()
