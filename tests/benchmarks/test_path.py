"""Counting of calls in `benchmarks/path.py`: all threads and deferred work, but neither the client nor idle time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from path import CHUNK_EVERY, REQUESTS, Length, Profiler, gateway_request, library, measure, vendor

from steadyvoice.speech.text import count_letters_and_digits

CALLS_OF_A_TICK = 40
"""Calls of one tick of the fast lane, with the heartbeat of the event loop that comes as often."""

CALLS_OF_A_HEARTBEAT = 8


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


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("pace", "most"), [(0.0, 84), (CHUNK_EVERY, 190)], ids=["in one piece", "in 16 chunks"])
async def test_usual_request_to_the_gateway_makes_few_calls(pace: float, most: int) -> None:
    """The numbers are those that were reached; to be lowered when fewer are."""
    length = await gateway_length(pace, "passthrough", {"on_midstream": "error"})
    assert length.own <= most_calls(most, length), length.most_called[:20]
    assert len({name.split()[0] for name, calls in length.most_called if calls > 0.5}) <= 43


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("pace", "most"), [(0.0, 167), (CHUNK_EVERY, 296)], ids=["in one piece", "in 16 chunks"])
async def test_usual_request_that_may_be_resumed_makes_few_calls(pace: float, most: int) -> None:
    """The numbers are those that were reached; to be lowered when fewer are."""
    length = await gateway_length(pace, "resume", {})
    assert length.own <= most_calls(most, length), length.most_called[:20]


async def gateway_length(pace: float, name: str, server: dict[str, Any]) -> Length:
    """Measure requests of which the pipeline takes none, and which OpenTelemetry costs nothing."""
    with Profiler() as profiler, vendor(pace) as url:
        length = await gateway_request(url, profiler, name, server)
    assert length.relayed == REQUESTS
    assert telemetry_calls(length) == []
    return length


def most_calls(reached: float, length: Length) -> float:
    """Return the calls that a request may take: those reached without ticks, 5 % more, and those of its ticks.

    On a busy machine a request takes longer, and more ticks fall into its time.
    """
    return 1.05 * reached + CALLS_OF_A_TICK * length.ticks


def telemetry_calls(length: Length) -> list[str]:
    """Return the calls that only OpenTelemetry needs: there are none while it is off."""
    return [name for name, _ in length.most_called if any(word in name for word in ("telemetry", "tracing", "export"))]


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
        (0.0, {"synthesize()": (206, 45), "stream()": (260, 55)}),
        (CHUNK_EVERY, {"synthesize()": (261, 45), "stream()": (401, 56)}),
    ],
    ids=["one piece", "16 chunks"],
)
def test_calls_of_a_library_request_are_no_more_than_reached(pace: float, reached: dict[str, tuple[int, int]]) -> None:
    """Python calls without heartbeats, and modules; more than these have to be justified here.

    The service keeps its relays and its templates in modules of their own, which are two more and add no call.
    """
    uvloop = pytest.importorskip("uvloop")  # asyncio's own loop calls Python functions
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, Profiler() as profiler, vendor(pace) as url:
        for length in runner.run(library(url, profiler)):
            assert telemetry_calls(length) == []
            calls, modules = reached[length.name]
            most = 1.05 * calls + CALLS_OF_A_HEARTBEAT * length.heartbeats
            assert length.python <= most, f"{length.name}: {length.most_called[:40]}"
            assert length.modules <= modules
