"""An event loop in a thread of its own, for code that has none."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Generic, TypeVar

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

        call: _Call[T] | None = None
        try:
            call = _Call(function, self._loop)
            self._loop.call_soon_threadsafe(call.start)
            return call.result()
        except BaseException as error:
            if call is None or not call.has_raised(error):
                if call:
                    call.cancel()
                if interrupted:
                    self._begin(interrupted)
            raise
        finally:
            call = None  # its exception's traceback keeps this frame, which must not keep the exception

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


class _Call(Generic[T]):
    """Call in the loop's thread, whose result another thread waits for.

    The two share no lock that either holds while it does something else. A `concurrent.futures.Future` has one, which a
    signal handler that raises in the waiting thread can leave taken: the loop would then stand still for ever.
    """

    def __init__(self, function: Callable[[], Awaitable[T]], loop: asyncio.AbstractEventLoop) -> None:
        self._function, self._loop = function, loop
        self._over = threading.Lock()  # taken until there is a result
        self._over.acquire()
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._result: list[T] = []
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begin, in the loop's thread."""
        if self._cancelled:
            self._over.release()
        else:
            self._task = self._loop.create_task(self._run())
            self._task.add_done_callback(self._end)  # one that is cancelled before its first step runs no `finally`

    def result(self) -> T:
        """Wait for the result, and return it. Raises what the call raised."""
        self._over.acquire()
        try:
            if self._error is not None:
                raise self._error
            return self._result[0]
        finally:
            del self  # the error's traceback keeps this frame, which must not keep the error

    def has_raised(self, error: BaseException) -> bool:
        """Whether an error is the call's own, and not one that came up in the thread that waited."""
        return self._error is error

    def cancel(self) -> None:
        """Cancel it, from any thread; nobody waits for its result any more."""
        self._cancelled = True
        with suppress(RuntimeError):  # the loop is closed: nothing of it runs any more
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            self._error = CancelledError()
        self._over.release()

    async def _run(self) -> None:
        try:
            self._result.append(await self._function())
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._error = error
