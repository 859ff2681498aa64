"""An event loop in a thread of its own, for code that has none."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for other threads until it is stopped, or forgotten: a signal handler may raise in `__init__` or
    on the way to `stop`, and leave a loop that nothing refers to.

    The thread is a daemon, and its end is waited for in `stop` alone: whoever forgets that can still leave the program.
    """

    def __init__(self) -> None:
        self._ends = _Ends()
        weakref.finalize(self, self._ends.meet).atexit = False
        started = threading.Event()
        self._thread = threading.Thread(target=_run, args=(self._ends, started), name="steadyvoice", daemon=True)
        self._thread.start()
        started.wait()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        assert self._ends.loop is not None  # noqa: S101 - it has started
        return self._ends.loop

    def call(
        self, function: Callable[[], Awaitable[T]], *, interrupted: Callable[[], Awaitable[object]] | None = None
    ) -> T:
        """Await `function()` over there, and wait for it here.

        An exception that a signal handler raises here meanwhile cancels it there, and has `interrupted()` awaited
        there, for its result may have been lost on the way. Raises RuntimeError when called from the loop's own
        thread, which would wait for itself for ever.
        """
        self.refuse_own_thread("this")

        async def awaited() -> T:
            return await function()

        future: Future[T] | None = None
        try:
            future = asyncio.run_coroutine_threadsafe(awaited(), self._loop)
            return future.result()
        except BaseException as error:
            if future is None or not _raised_there(future, error):
                if future:
                    future.cancel()
                if interrupted:
                    self._begin(interrupted)
                # A signal that comes while the future's condition lets go of its lock is told as a failure to release.
                if isinstance(error, RuntimeError) and "un-acquired lock" in str(error) and error.__context__:
                    raise error.__context__ from None
            raise
        finally:
            future = None  # its exception's traceback keeps this frame, which must not keep the exception

    def refuse_own_thread(self, what: str) -> None:
        """Raise RuntimeError in the loop's own thread, where `what` would never return."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                f"TTSService: {what} was called from the service's own event loop, for instance by a circuit listener "
                "or a provider; it would wait for itself: hand it to another thread and do not wait for that one"
            )

    def _begin(self, function: Callable[[], Awaitable[object]]) -> None:
        """Have this awaited over there, and wait for nothing."""

        async def awaited() -> None:
            with suppress(Exception):
                await function()

        with suppress(RuntimeError):  # the loop is closed: nothing of it runs any more
            asyncio.run_coroutine_threadsafe(awaited(), self._loop)

    def stop(self) -> None:
        """Cancel what still runs, and end the loop and its thread."""
        self._ends.meet()
        self._thread.join()


class _Ends:
    """What a thread and its owner share: how the one ends the other."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.stopped = asyncio.Event()
        self.met = False

    def meet(self) -> None:
        """End the loop, which may not have begun yet."""
        self.met = True
        if self.loop:
            with suppress(RuntimeError):  # it is closed
                self.loop.call_soon_threadsafe(self.stopped.set)


def _run(ends: _Ends, started: threading.Event) -> None:
    with asyncio.Runner() as runner:
        ends.loop = runner.get_loop()
        started.set()
        if not ends.met:
            runner.run(_wait(ends.stopped))


async def _wait(stopped: asyncio.Event) -> None:
    await stopped.wait()


def _raised_there(future: Future[T], error: BaseException) -> bool:
    """Whether an error is the call's own, and not one that came up in this thread while it waited."""
    return future.done() and (future.cancelled() or future.exception() is error)
