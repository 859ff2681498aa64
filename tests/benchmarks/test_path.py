"""Counting of calls in `benchmarks/path.py`: all threads and deferred work, but neither the client nor idle time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from path import Profiler, measure

from steadyvoice.speech.text import count_letters_and_digits


async def test_calls_of_other_threads_and_deferred_calls_are_counted() -> None:
    async def request() -> None:
        count_letters_and_digits("one")
        await asyncio.to_thread(count_letters_and_digits, "two")
        asyncio.get_running_loop().call_later(0.05, count_letters_and_digits, "three")

    with Profiler() as profiler:
        length = await measure("three calls", request, profiler, requests=4)

    assert dict(length.most)["speech/text.py count_letters_and_digits"] == 3.0
    assert length.own >= 3
    assert length.python > length.own
    assert length.modules == 1


async def test_what_happens_anyway_is_subtracted() -> None:
    async def tick() -> None:
        while True:
            await asyncio.sleep(0.01)
            count_letters_and_digits("tick")

    async def request() -> None:
        await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    with Profiler() as profiler:
        length = await measure("nothing", request, profiler, requests=4)
    ticking.cancel()
    assert length.own < 3


def test_thread_that_takes_the_profile_off_is_not_counted() -> None:
    def run(hidden: bool, work: Callable[[], object]) -> None:
        def target() -> None:
            if hidden:
                import sys

                sys.setprofile(None)
            work()

        thread = threading.Thread(target=target)
        thread.start()
        thread.join()

    with Profiler() as profiler, profiler.counting() as counts:
        run(True, lambda: count_letters_and_digits("hidden"))
        assert not counts.functions
        run(False, lambda: count_letters_and_digits("seen"))
        assert counts.functions.total() == 1
