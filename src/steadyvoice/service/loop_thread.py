"""An event loop in a thread of its own, for code that has none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for other threads until it is stopped.

    The thread is a daemon, and nothing here has a finaliser: whoever forgets to stop it can still leave the program.
    """

    def __init__(self) -> None:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="steadyvoice", daemon=True)
        self._thread.start()
        started.wait()

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await `function()` over there, and wait for it here. An interruption here cancels it there."""

        async def awaited() -> T:
            return await function()

        future = asyncio.run_coroutine_threadsafe(awaited(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Cancel what still runs, and end the loop and its thread."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self, started: threading.Event) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._stopped = asyncio.Event()
            started.set()
            runner.run(self._wait())

    async def _wait(self) -> None:
        await self._stopped.wait()
