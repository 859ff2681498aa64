"""The same service for code without an event loop: every call goes through a portal to one that runs in a thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from anyio.from_thread import BlockingPortal, start_blocking_portal

from steadyvoice.breaker import CircuitBreaker
from steadyvoice.providers.provider import Provider
from steadyvoice.service.service import AsyncSpeechStream, AsyncTTSService
from steadyvoice.service.spoken import Account, Speech
from steadyvoice.service.wishes import Settings, Wishes


class TTSService:
    """Speaks through a list of providers, in order of preference, each behind its own circuit.

    Use it as `with`, or call `close()`. Any number of threads may share it. Its loop starts with the first call.
    """

    def __init__(self, providers: Sequence[Provider], **settings: Unpack[Settings]) -> None:
        self._service = AsyncTTSService(providers, **settings)
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

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
        speech: Speech = self._run(lambda: self._service.synthesize(text, **wishes))
        return speech

    def stream(self, text: str, **wishes: Unpack[Wishes]) -> SpeechStream:
        """Speak a text and hand out the audio while it is made: see AsyncTTSService.stream."""
        return SpeechStream(self, self._service.stream(text, **wishes))

    def get_error_state(self) -> dict[str, Any]:
        """How everything is doing, ready for JSON."""
        return self._service.get_error_state()

    def reset_circuit_breaker(self, name: str | None = None) -> None:
        """Close one provider's circuit by hand, or all, and release what is on hold. Raises KeyError."""
        self._service.reset_circuit_breaker(name)

    @property
    def circuits(self) -> dict[str, CircuitBreaker]:
        """Every circuit, by its provider's name."""
        return self._service.circuits

    def close(self) -> None:
        """Let go of connections, child processes and the loop. The service may be used again afterwards."""
        with self._lock:
            if self._portal:
                self._portal.call(self._service.aclose)
                self._portal = None
                self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, function: Callable[[], Any]) -> Any:
        with self._lock:
            if self._portal is None:
                self._portal = self._stack.enter_context(start_blocking_portal("asyncio"))
            portal = self._portal
        return portal.call(function)


class SpeechStream(Account):
    """Audio of one utterance as it is made: iterate it, once. The account of it grows meanwhile."""

    def __init__(self, service: TTSService, stream: AsyncSpeechStream) -> None:
        self._service, self._stream = service, stream
        self.spoken, self.format = stream.spoken, stream.format

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        chunk: bytes | None = self._service._run(lambda: anext(self._stream, None))
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Stop speaking. Nothing is counted against the provider."""
        self._service._run(self._stream.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
