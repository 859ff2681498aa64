"""Synchronous service: the same API for code without an event loop, which runs in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

from steadyvoice.breaker import CircuitBreaker
from steadyvoice.breaker.fork_safety import keep_until_exit, register_fork_aware
from steadyvoice.providers.base import Credit, Provider
from steadyvoice.service.options import ServiceSettings, SettingChanges, SynthesisOptions
from steadyvoice.service.result import ReportedUtterance, Speech
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.service.stream import AsyncSpeechStream

Returned = TypeVar("Returned")


class LoopThread:
    """Runs coroutines for other threads until it is stopped, or forgotten: a signal handler may raise in `__init__` or
    on the way to `stop`, and leave a loop that nothing refers to.

    The thread is a daemon, and its end is waited for in `stop` alone: whoever forgets that can still leave the program.
    """

    def __init__(self) -> None:
        self._ends = _ThreadShutdown()
        weakref.finalize(self, self._ends.request).atexit = False
        started = threading.Event()
        self._thread = threading.Thread(target=_run_loop, args=(self._ends, started), name="steadyvoice", daemon=True)
        self._thread.start()
        started.wait()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        assert self._ends.loop is not None  # noqa: S101 - it has started
        return self._ends.loop

    def call(
        self, function: Callable[[], Awaitable[Returned]], *, interrupted: Callable[[], Awaitable[object]] | None = None
    ) -> Returned:
        """Await `function()` over there, and wait for it here.

        An exception that a signal handler raises here meanwhile cancels it there, and has `interrupted()` awaited
        there, for its result may have been lost on the way. Raises RuntimeError when called from the loop's own
        thread, which would wait for itself for ever.
        """
        self.raise_if_own_thread("this")

        call: _ThreadCall[Returned] | None = None
        try:
            call = _ThreadCall(function, self._loop)
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

    def raise_if_own_thread(self, what: str) -> None:
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
        self._ends.request()
        self._thread.join()


class _ThreadShutdown:
    """What a thread and its owner share: how the one ends the other."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.stopped = asyncio.Event()
        self.requested = False

    def request(self) -> None:
        """End the loop, which may not have begun yet."""
        self.requested = True
        if self.loop:
            with suppress(RuntimeError):  # it is closed
                self.loop.call_soon_threadsafe(self.stopped.set)


def _run_loop(ends: _ThreadShutdown, started: threading.Event) -> None:
    with asyncio.Runner() as runner:
        ends.loop = runner.get_loop()
        started.set()
        if not ends.requested:
            runner.run(_wait_for(ends.stopped))


async def _wait_for(stopped: asyncio.Event) -> None:
    await stopped.wait()


class _ThreadCall(Generic[Returned]):
    """Call in the loop's thread, whose result another thread waits for.

    The two share no lock that either holds while it does something else. A `concurrent.futures.Future` has one, which a
    signal handler that raises in the waiting thread can leave taken: the loop would then stand still for ever.
    """

    def __init__(self, function: Callable[[], Awaitable[Returned]], loop: asyncio.AbstractEventLoop) -> None:
        self._function, self._loop = function, loop
        self._over = threading.Lock()  # taken until there is a result
        self._over.acquire()
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._result: list[Returned] = []
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begin, in the loop's thread."""
        if self._cancelled:
            self._over.release()
        else:
            self._task = self._loop.create_task(self._run())
            self._task.add_done_callback(self._end)  # one that is cancelled before its first step runs no `finally`

    def result(self) -> Returned:
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


T = TypeVar("T")


class TTSService:
    """Speaks through a list of providers, in order of preference, each behind its own circuit.

    Use it as `with`, or call `close()`. Any number of threads may share it. Its loop starts with the first call.
    """

    _loop: LoopThread | None = None

    def __init__(self, providers: Sequence[Provider], **settings: Unpack[ServiceSettings]) -> None:
        self._service = AsyncTTSService(providers, **settings)
        self.after_fork()
        register_fork_aware(self)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> Self:
        """Build it from a TOML file. Raises TTSConfigurationError that names the offending key."""
        from steadyvoice.service.config_file import load_arguments  # pydantic is for those who use a file

        return cls(**load_arguments(Path(path), os.environ))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Build it from what the environment offers: STEADYVOICE_CONFIG, vendors' API keys, a local voice."""
        from steadyvoice.service.config_file import arguments_from_environment

        return cls(**arguments_from_environment(os.environ if environ is None else environ))

    def synthesize(self, text: str, **wishes: Unpack[SynthesisOptions]) -> Speech:
        """Speak a text and wait for the whole: see AsyncTTSService.synthesize."""
        return self._run(lambda: self._service.synthesize(text, **wishes))

    def stream(self, text: str, **wishes: Unpack[SynthesisOptions]) -> SpeechStream:
        """Speak a text and hand out the audio while it is made: see AsyncTTSService.stream."""
        return SpeechStream(self, self._service.stream(text, **wishes))

    def get_error_state(self) -> dict[str, Any]:
        """How everything is doing, ready for JSON."""
        return self._service.get_error_state()

    def check_credit(self) -> dict[str, Credit]:
        """Ask every vendor that can tell what its account may still spend: see AsyncTTSService.check_credit."""
        return self._run(self._service.check_credit)

    def reset_circuit_breaker(self, name: str | None = None, *, reason: str = "reset") -> None:
        """Close one provider's circuit by hand, or all, and release what is on hold. Raises KeyError."""
        self._service.reset_circuit_breaker(name, reason=reason)

    def reconfigure(self, **changes: Unpack[SettingChanges]) -> None:
        """Change settings or providers while it runs: see AsyncTTSService.reconfigure."""
        self._run(lambda: self._service.reconfigure(**changes))

    @property
    def circuits(self) -> dict[str, CircuitBreaker]:
        """Every circuit, by its provider's name."""
        return self._service.circuits

    def close(self) -> None:
        """Let go of connections, child processes and the loop. The service may be used again afterwards.

        What is still being spoken, by whatever thread, ends with TTSStreamInterruptedError. Raises RuntimeError when
        called from the service's own event loop, as a circuit listener is: hand it to another thread.
        """
        if self._loop:
            self._loop.raise_if_own_thread("close()")
        with self._lock:
            loop, self._loop = self._loop, None
        if loop:
            try:
                loop.call(self._service.aclose)
            finally:
                loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(
        self, function: Callable[[], Awaitable[T]], *, interrupted: Callable[[], Awaitable[object]] | None = None
    ) -> T:
        with self._lock:
            if self._loop is None:
                self._loop = LoopThread()
            loop = self._loop
        return loop.call(function, interrupted=interrupted)

    fork_lock = None

    def after_fork(self) -> None:
        """Start over: a forked child has neither the loop's thread nor that of whoever held the lock."""
        if self._loop:
            keep_until_exit(self._loop)
        self._lock = threading.Lock()
        self._loop = None


class SpeechStream(ReportedUtterance):
    """Audio of one utterance as it is made: iterate it, once. The account of it grows meanwhile.

    `close()` may be called from any thread: a read that is pending in another one ends at once. Like every early end,
    also by an exception that a signal handler raises in the middle of a read, it stops the vendor, its outcome is
    `interrupted`, and reading on raises TTSStreamInterruptedError.
    """

    def __init__(self, service: TTSService, stream: AsyncSpeechStream) -> None:
        self._service, self._stream = service, stream
        self.report, self.format = stream.report, stream.format

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        # A chunk that came while a signal handler raised is lost, so there is no going on behind it.
        chunk = self._service._run(lambda: anext(self._stream, None), interrupted=self._stream.aclose)
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Stop speaking. Nothing is counted against the provider, unless it was overdue."""
        self._service._run(self._stream.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
