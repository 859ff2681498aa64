"""A simulator on an event loop of its own, so that clients that block can speak to it too."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

from steadyvoice.simulator import Entry, Fault, Simulator
from steadyvoice.simulator.acts import Act

KEY = "any-key"


@dataclass(frozen=True)
class Background:
    """What a test may do with it, from its own thread."""

    simulator: Simulator
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return self.simulator.url

    def will(self, *faults: Fault | Act) -> None:
        """Put these faults in place of all others."""

        async def order() -> None:
            self.simulator.faults.set(*faults)

        asyncio.run_coroutine_threadsafe(order(), self.loop).result(timeout=30)

    def ledger(self) -> list[Entry]:
        """Every request so far, its end included."""
        asyncio.run_coroutine_threadsafe(self.simulator.idle(), self.loop).result(timeout=30)
        return list(self.simulator.ledger)

    @property
    def charged(self) -> int:
        return self.simulator.ledger.charged

    def document(self, path: str, **headers: str) -> Any:
        """What is really sent to whoever asks for a path."""
        asked = urllib.request.Request(self.url + path, headers=headers or {"xi-api-key": KEY})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def in_the_background(**settings: Any) -> Iterator[Background]:
    """Run a simulator that speaks in tones until the block is left."""
    ready: Future[Background] = Future()
    enough = asyncio.Event()

    async def serve() -> None:
        async with Simulator(**{"voice": "tones", **settings}) as simulator:
            ready.set_result(Background(simulator, asyncio.get_running_loop()))
            await enough.wait()

    thread = Thread(target=_reporting_to(ready, serve), name="simulator")
    thread.start()
    background = ready.result(timeout=30)
    try:
        yield background
    finally:
        background.loop.call_soon_threadsafe(enough.set)
        thread.join(timeout=30)


def _reporting_to(ready: Future[Background], serve: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run it, and let whoever waits for it to be ready see why it never was."""

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    return run
