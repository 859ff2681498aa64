"""The same service for code without an event loop: every call is handed to one that runs in a thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from steadyvoice.breaker import CircuitBreaker
from steadyvoice.breaker.fork import abandon, renew_after_fork
from steadyvoice.providers.base import Credit, Provider
from steadyvoice.service.loop_thread import LoopThread
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.service.spoken import Account, Speech
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.service.wishes import Changes, Settings, Wishes

T = TypeVar("T")


class TTSService:
    """Speaks through a list of providers, in order of preference, each behind its own circuit.

    Use it as `with`, or call `close()`. Any number of threads may share it. Its loop starts with the first call.
    """

    _loop: LoopThread | None = None

    def __init__(self, providers: Sequence[Provider], **settings: Unpack[Settings]) -> None:
        self._service = AsyncTTSService(providers, **settings)
        self.after_fork()
        renew_after_fork(self)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> Self:
        """Build it from a TOML file. Raises TTSConfigurationError that names the offending key."""
        from steadyvoice.service.settings import read_file  # pydantic is for those who use a file

        return cls(**read_file(Path(path), os.environ))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Build it from what the environment offers: STEADYVOICE_CONFIG, vendors' API keys, a local voice."""
        from steadyvoice.service.settings import from_environment

        return cls(**from_environment(os.environ if environ is None else environ))

    def synthesize(self, text: str, **wishes: Unpack[Wishes]) -> Speech:
        """Speak a text and wait for the whole: see AsyncTTSService.synthesize."""
        return self._run(lambda: self._service.synthesize(text, **wishes))

    def stream(self, text: str, **wishes: Unpack[Wishes]) -> SpeechStream:
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

    def reconfigure(self, **changes: Unpack[Changes]) -> None:
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
            self._loop.refuse_own_thread("close()")
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
            abandon(self._loop)
        self._lock = threading.Lock()
        self._loop = None


class SpeechStream(Account):
    """Audio of one utterance as it is made: iterate it, once. The account of it grows meanwhile.

    `close()` may be called from any thread: a read that is pending in another one ends at once. Like every early end,
    also by an exception that a signal handler raises in the middle of a read, it stops the vendor, its outcome is
    `interrupted`, and reading on raises TTSStreamInterruptedError.
    """

    def __init__(self, service: TTSService, stream: AsyncSpeechStream) -> None:
        self._service, self._stream = service, stream
        self.spoken, self.format = stream.spoken, stream.format

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
