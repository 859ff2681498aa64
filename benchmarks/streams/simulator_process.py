"""Simulator that speaks in word tones, in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from steadyvoice.simulator import Simulator


@contextmanager
def simulator_process(**settings: Any) -> Iterator[str]:
    """Run the simulator and yield its URL."""
    # Not forked: a fork would copy this process's event loop and threads.
    ours, child = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(child, settings), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join()


def _serve(pipe: Connection, settings: dict[str, Any]) -> None:
    asyncio.run(_serve_until_stopped(pipe, settings))


async def _serve_until_stopped(pipe: Connection, settings: dict[str, Any]) -> None:
    async with Simulator(voice="tones", concurrency=1000, **settings) as simulator:
        pipe.send(simulator.url)
        await asyncio.to_thread(pipe.recv)
