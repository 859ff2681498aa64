"""Timer for many waits: it fires when a wait is too long, whenever it was set."""

from __future__ import annotations

import asyncio

import pytest

from steadyvoice.service.pipeline.timeouts import WaitTimer

pytestmark = pytest.mark.looptime


async def quick() -> str:
    return "done"


async def test_short_wait_is_not_interrupted() -> None:
    alarm = WaitTimer()

    for _ in range(3):
        assert await alarm.wait(1.0, asyncio.sleep(0.9, "done")) == "done"

    assert not alarm.expired
    alarm.close()


async def test_each_wait_has_its_full_time() -> None:
    alarm, clock = WaitTimer(), asyncio.get_running_loop().time
    await alarm.wait(10.0, asyncio.sleep(9.0))
    before = clock()

    with pytest.raises(TimeoutError):
        await alarm.wait(10.0, asyncio.sleep(60.0))

    assert clock() - before == pytest.approx(10.0)
    assert alarm.expired
    alarm.close()


async def test_shorter_wait_after_a_longer_one_is_interrupted_in_time() -> None:
    alarm, clock = WaitTimer(), asyncio.get_running_loop().time
    await alarm.wait(100.0, quick())

    before = clock()
    with pytest.raises(TimeoutError):
        await alarm.wait(2.0, asyncio.sleep(60.0))

    assert clock() - before == pytest.approx(2.0)
    alarm.close()


async def test_timer_does_not_fire_between_waits() -> None:
    alarm = WaitTimer()
    await alarm.wait(1.0, quick())

    await asyncio.sleep(5.0)  # somebody reads what came

    assert await alarm.wait(1.0, asyncio.sleep(0.5, "done")) == "done"
    alarm.close()


async def test_task_cancelled_by_another_stays_cancelled() -> None:
    alarm = WaitTimer()
    waiting = asyncio.create_task(alarm.wait(60.0, asyncio.sleep(30.0)))
    await asyncio.sleep(1.0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not alarm.expired
    alarm.close()


async def test_task_cancelled_by_both_stays_cancelled() -> None:
    alarm = WaitTimer()
    waiting = asyncio.create_task(alarm.wait(5.0, asyncio.sleep(30.0)))
    asyncio.get_running_loop().call_later(5.0, waiting.cancel)

    with pytest.raises(asyncio.CancelledError):
        await waiting
    alarm.close()


async def test_own_cancellation_is_taken_back() -> None:
    alarm, task = WaitTimer(), asyncio.current_task()
    assert task

    with pytest.raises(TimeoutError):
        await alarm.wait(1.0, asyncio.sleep(30.0))

    assert task.cancelling() == 0
    alarm.close()


async def test_error_raised_on_cancellation_is_raised() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(30.0)
        except asyncio.CancelledError:
            raise ConnectionError("it broke meanwhile") from None

    alarm, task = WaitTimer(), asyncio.current_task()
    assert task

    with pytest.raises(ConnectionError):
        await alarm.wait(1.0, stubborn())

    assert alarm.expired
    assert task.cancelling() == 0
    alarm.close()


async def test_infinite_wait_never_times_out() -> None:
    alarm = WaitTimer()

    assert await alarm.wait(float("inf"), asyncio.sleep(1e6, "done")) == "done"

    alarm.close()


async def test_extended_wait_lasts_until_its_new_end() -> None:
    alarm, clock = WaitTimer(), asyncio.get_running_loop().time
    before = clock()
    more = [3.0, 4.0, 0.0]

    with pytest.raises(TimeoutError):
        await alarm.wait(2.0, asyncio.sleep(60.0), lambda: more.pop(0))

    assert clock() - before == pytest.approx(9.0)
    alarm.close()


async def test_extension_of_one_wait_does_not_affect_the_next() -> None:
    alarm, clock = WaitTimer(), asyncio.get_running_loop().time
    await alarm.wait(2.0, quick(), lambda: 100.0)
    before = clock()

    with pytest.raises(TimeoutError):
        await alarm.wait(2.0, asyncio.sleep(60.0))

    assert clock() - before == pytest.approx(2.0)
    alarm.close()
