"""Counting of calls in `benchmarks/path.py`: all threads and deferred work, but neither the client nor idle time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest
from path import CHUNK_EVERY, REQUESTS, Length, Profiler, gateway_request, library, measure, vendor

from steadyvoice.speech.text import count_letters_and_digits

MOST_IN_THE_PIPELINE = 1000
"""Calls of a request in 16 chunks that the pipeline takes over: some 600 were counted."""


async def test_calls_of_other_threads_and_deferred_calls_are_counted() -> None:
    async def request() -> None:
        count_letters_and_digits("one")
        await asyncio.to_thread(count_letters_and_digits, "two")
        asyncio.get_running_loop().call_later(0.05, count_letters_and_digits, "three")

    with Profiler() as profiler:
        length = await measure("three calls", request, profiler, requests=4)

    assert dict(length.most_called)["speech/text.py count_letters_and_digits"] == 3.0
    assert length.own >= 3
    assert length.python > length.own
    assert length.modules == 1


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("pace", "most"), [(0.0, 93), (CHUNK_EVERY, 268)], ids=["in one piece", "in 16 chunks"])
async def test_usual_request_to_the_gateway_makes_few_calls(pace: float, most: int) -> None:
    """The numbers are those that were reached, and five per cent; to be lowered when fewer are."""
    length = await shortest_path(pace, "passthrough", {"on_midstream": "error"}, most)
    assert length.own <= most + handed_over(length), length.most_called[:20]
    assert len({name.split()[0] for name, calls in length.most_called if calls > 0.5}) <= 43
    assert telemetry_calls(length) == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("pace", "most"), [(0.0, 179), (CHUNK_EVERY, 366)], ids=["in one piece", "in 16 chunks"])
async def test_usual_request_that_may_be_resumed_makes_few_calls(pace: float, most: int) -> None:
    """The numbers are those that were reached, and five per cent; to be lowered when fewer are."""
    length = await shortest_path(pace, "resume", {}, most)
    assert length.own <= most + handed_over(length), length.most_called[:20]
    assert telemetry_calls(length) == []


def handed_over(length: Length) -> float:
    """Return the calls that the requests cost which the pipeline took, because this machine was busy."""
    assert length.relayed > REQUESTS / 2
    return MOST_IN_THE_PIPELINE * (REQUESTS - length.relayed) / REQUESTS


def telemetry_calls(length: Length) -> list[str]:
    """Return the calls that only OpenTelemetry needs: there are none while it is off."""
    return [name for name, _ in length.most_called if any(word in name for word in ("telemetry", "tracing", "export"))]


async def shortest_path(pace: float, name: str, server: dict[str, Any], most: int) -> Length:
    """Measure up to six times: on a busy machine, requests are late and are handed over to the pipeline."""
    lengths = list[Length]()
    for _ in range(6):
        with Profiler() as profiler, vendor(pace) as url:
            length = await gateway_request(url, profiler, name, server)
        lengths.append(length)
        if length.relayed == REQUESTS or length.own <= most + handed_over(length):
            break
    return max(lengths, key=attrgetter("relayed"))


async def test_baseline_calls_are_subtracted() -> None:
    loop, ticked = asyncio.get_running_loop(), asyncio.Event()
    timer = loop.call_later(0.01, lambda: tick())

    def tick() -> None:
        nonlocal timer
        count_letters_and_digits("tick")
        ticked.set()
        timer = loop.call_later(0.01, tick)

    async def request() -> None:
        ticked.clear()
        await ticked.wait()

    with Profiler() as profiler:
        length = await measure("nothing", request, profiler, requests=4)
    timer.cancel()
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pace", "reached"),
    [
        (0.0, {"synthesize()": (210, 45), "stream()": (262, 55)}),
        (CHUNK_EVERY, {"synthesize()": (330, 45), "stream()": (500, 56)}),
    ],
    ids=["one piece", "16 chunks"],
)
def test_calls_of_a_library_request_are_no_more_than_reached(pace: float, reached: dict[str, tuple[int, int]]) -> None:
    """Python calls, with 5 % for what a busy machine adds, and modules; more than these have to be justified here.

    The service keeps its relays and its templates in modules of their own, which are two more and add no call.
    """
    uvloop = pytest.importorskip("uvloop")  # asyncio's own loop calls Python functions
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, Profiler() as profiler, vendor(pace) as url:
        for length in runner.run(library(url, profiler)):
            assert telemetry_calls(length) == []
            calls, modules = reached[length.name]
            assert length.python <= 1.05 * calls, f"{length.name}: {length.most_called[:40]}"
            assert length.modules <= modules
