"""Synchronous service: the same API for code without an event loop, which runs in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

from steadyvoice.breaker import CircuitBreaker
from steadyvoice.breaker.fork_safety import keep_until_exit, register_fork_aware
from steadyvoice.providers.base import Credit, Provider
from steadyvoice.service.options import ServiceSettings, SettingChanges, SynthesisOptions
from steadyvoice.service.result import ReportedUtterance, Speech
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.service.stream import AsyncSpeechStream

if TYPE_CHECKING:
    from steadyvoice.service.conversation.conversation import ConversationOptions
    from steadyvoice.service.conversation.sync_conversation import Conversation

T = TypeVar("T")


class LoopThread:
    """Event loop in a thread of its own, which runs coroutines for other threads.

    It ends with `stop()`, or when it is garbage: a signal handler may raise within `__init__` or before `stop()`, and
    leave a loop without references. The thread is a daemon and is joined by `stop()` only, so that a program that
    does not call it can exit.
    """

    def __init__(self) -> None:
        self._shutdown = _ThreadShutdown()
        weakref.finalize(self, self._shutdown.request).atexit = False
        started = threading.Event()
        self._thread = threading.Thread(
            target=_run_loop, args=(self._shutdown, started), name="steadyvoice", daemon=True
        )
        self._thread.start()
        started.wait()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        assert self._shutdown.loop is not None  # noqa: S101 - it has started
        return self._shutdown.loop

    def call(
        self, function: Callable[[], Awaitable[T]], *, interrupted: Callable[[], Awaitable[object]] | None = None
    ) -> T:
        """Await `function()` in the loop's thread, and return its result here.

        If a signal handler raises in this thread meanwhile, the call is cancelled, and `interrupted()` is awaited in
        the loop's thread, because the result may be lost. Raises RuntimeError in the loop's own thread, which would
        wait for itself.
        """
        self.raise_if_own_thread("a method")

        call: _ThreadCall[T] | None = None
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
        """Raise RuntimeError in the loop's own thread, where `what` would wait for itself."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                f"TTSService: {what} was called from the service's own event loop, for instance by a circuit listener "
                "or a provider, where it would deadlock; call it from another thread and do not wait for that thread"
            )

    def _begin(self, function: Callable[[], Awaitable[object]]) -> None:
        """Start `function()` in the loop's thread, without waiting for it."""

        async def awaited() -> None:
            with suppress(Exception):
                await function()

        with suppress(RuntimeError):  # the loop is closed, so nothing runs in it
            asyncio.run_coroutine_threadsafe(awaited(), self._loop)

    def stop(self) -> None:
        """Cancel the calls in progress, and end the loop and its thread."""
        self._shutdown.request()
        self._thread.join()


class _ThreadShutdown:
    """Shutdown request for a loop's thread, shared by the thread and its owner, which must not refer to each other."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.stopped = asyncio.Event()
        self.requested = False

    def request(self) -> None:
        """Request the end of the loop, which may not have started yet."""
        self.requested = True
        if self.loop:
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self.stopped.set)


def _run_loop(shutdown: _ThreadShutdown, started: threading.Event) -> None:
    with asyncio.Runner() as runner:
        shutdown.loop = runner.get_loop()
        started.set()
        if not shutdown.requested:
            runner.run(_wait_for(shutdown.stopped))


async def _wait_for(stopped: asyncio.Event) -> None:
    await stopped.wait()


class _ThreadCall(Generic[T]):
    """Call in the loop's thread, whose result another thread waits for.

    The two share no lock that either holds while it does something else. A `concurrent.futures.Future` has one, which a
    signal handler that raises in the waiting thread can leave taken: the loop would then stand still for ever.
    """

    def __init__(self, function: Callable[[], Awaitable[T]], loop: asyncio.AbstractEventLoop) -> None:
        self._function, self._loop = function, loop
        self._finished = threading.Lock()  # taken until there is a result
        self._finished.acquire()
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._result: list[T] = []
        self._error: BaseException | None = None

    def start(self) -> None:
        """Start the call, in the loop's thread."""
        if self._cancelled:
            self._finished.release()
        else:
            self._task = self._loop.create_task(self._run())
            self._task.add_done_callback(self._end)  # not `finally`: a task cancelled before its first step runs none

    def result(self) -> T:
        """Wait for the result and return it. Raises the error of the call."""
        self._finished.acquire()
        try:
            if self._error is not None:
                raise self._error
            return self._result[0]
        finally:
            del self  # the error's traceback keeps this frame, which must not keep the error

    def has_raised(self, error: BaseException) -> bool:
        """Return whether an error was raised by the call, and not in the waiting thread."""
        return self._error is error

    def cancel(self) -> None:
        """Cancel the call, from any thread; its result is dropped."""
        self._cancelled = True
        with suppress(RuntimeError):  # the loop is closed, so nothing runs in it
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            self._error = CancelledError()
        self._finished.release()

    async def _run(self) -> None:
        try:
            self._result.append(await self._function())
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._error = error


class TTSService:
    """Text-to-speech through a list of providers in order of preference, each behind its own circuit breaker.

    Use it with `with`, or call `close()`. Any number of threads may share it. Its event loop starts with the first
    call, in a thread. Keyword arguments: see `ServiceSettings`. Raises TypeError and TTSConfigurationError.

    - `providers`: in order of preference; all others are asked only if the ones before cannot speak.
    - `text`: the text, with its markup; in `stream()` also pieces of it.
    - `name`: name of a provider; None: all providers.
    - `path`: the TOML file.
    - `environ`: variables; those of this process if None.
    - `reason`: sentence for logs, events and the dashboard.
    - `duration`: seconds; None: for a day, or until it is reset everywhere.
    """

    _loop: LoopThread | None = None

    def __init__(self, providers: Sequence[Provider], **settings: Unpack[ServiceSettings]) -> None:
        self._service = AsyncTTSService(providers, **settings)
        self.after_fork()
        register_fork_aware(self)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> Self:
        """Return a service configured by a TOML file. Raises TTSConfigurationError, which names the key."""
        # Imported here, so that only services with a configuration file load pydantic.
        from steadyvoice.service.config_file import load_arguments

        return cls(**load_arguments(Path(path), os.environ))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return a service configured by the environment: STEADYVOICE_CONFIG, or vendors' API keys and a local voice.

        Raises TTSConfigurationError.
        """
        from steadyvoice.service.config_file import arguments_from_environment

        return cls(**arguments_from_environment(os.environ if environ is None else environ))

    def synthesize(self, text: str, **options: Unpack[SynthesisOptions]) -> Speech:
        """Synthesise a text and return the whole audio: see AsyncTTSService.synthesize."""
        return self._run(lambda: self._service.synthesize(text, **options))

    def stream(self, text: str | Iterable[str], **options: Unpack[SynthesisOptions]) -> SpeechStream:
        """Return an iterator over the audio of a text, or of pieces of text, as it is made: see AsyncTTSService.stream.

        An iterable runs in a thread of its own.
        """
        return SpeechStream(self, self._service.stream(text, **options))

    def conversation(self, **options: Unpack[ConversationOptions]) -> Conversation:
        """Return a conversation, whose turns are spoken while their text is still being written.

        See AsyncTTSService.conversation.
        """
        # Imported here, so that services without conversations do not load them.
        from steadyvoice.service.conversation.sync_conversation import Conversation

        return Conversation(self._run, self._service.conversation(**options))

    def get_error_state(self) -> dict[str, Any]:
        """Return the error state as a JSON-ready dict: see AsyncTTSService.get_error_state."""
        return self._service.get_error_state()

    def check_credit(self) -> dict[str, Credit]:
        """Request the remaining credit from every vendor that states it: see AsyncTTSService.check_credit."""
        return self._run(self._service.check_credit)

    def reset_circuit_breaker(self, name: str | None = None, *, reason: str = "reset") -> None:
        """Close the circuit of one provider, or all circuits, and release the holds. Raises KeyError."""
        self._service.reset_circuit_breaker(name, reason=reason)

    def reset_everywhere(self, name: str | None = None, *, reason: str = "reset everywhere") -> None:
        """Reset at all replicas of the fleet: see AsyncTTSService.reset_everywhere."""
        self._service.reset_everywhere(name, reason=reason)

    def open_everywhere(
        self, name: str, *, reason: str = "forced open everywhere", duration: float | None = None
    ) -> None:
        """Force a circuit open at all replicas of the fleet: see AsyncTTSService.open_everywhere."""
        self._service.open_everywhere(name, reason=reason, duration=duration)

    def reconfigure(self, **changes: Unpack[SettingChanges]) -> None:
        """Change settings or providers at run time: see AsyncTTSService.reconfigure."""
        self._run(lambda: self._service.reconfigure(**changes))

    @property
    def circuits(self) -> dict[str, CircuitBreaker]:
        """Circuit breakers by name of the provider."""
        return self._service.circuits

    def close(self) -> None:
        """Close connections, child processes and the event loop. The service may be used again afterwards.

        Streams in progress, of any thread, end with TTSStreamInterruptedError. Raises RuntimeError in the service's own
        event loop, where circuit listeners are called: call it from another thread.
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
        """Start over: a forked child has neither the loop's thread nor the thread that held the lock."""
        if self._loop:
            keep_until_exit(self._loop)
        self._lock = threading.Lock()
        self._loop = None


class SpeechStream(ReportedUtterance):
    """Audio of one utterance as it is made: an iterator whose report grows with it.

    `close()` may be called from any thread; a pending read in another one ends at once. Like every early end, including
    an exception raised by a signal handler during a read, it stops the vendor, the outcome is `interrupted`, and
    further reads raise TTSStreamInterruptedError.
    """

    def __init__(self, service: TTSService, stream: AsyncSpeechStream) -> None:
        self._service, self._stream = service, stream
        self.report, self.format = stream.report, stream.format

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        # A chunk that arrived while a signal handler raised is lost, so the stream cannot continue after it.
        chunk = self._service._run(lambda: anext(self._stream, None), interrupted=self._stream.aclose)
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Stop the utterance. It counts against the provider only if that was overdue."""
        self._service._run(self._stream.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
