"""Audio stream of one utterance, and the set of the streams that are open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar
from weakref import ref

from steadyvoice.breaker.fork_safety import keep_until_exit
from steadyvoice.service.cache.lookup import CachedUtterance
from steadyvoice.service.log_messages import log_utterance
from steadyvoice.service.pipeline.provider_call import AudioSink
from steadyvoice.service.pipeline.utterance import Utterance
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.speech.errors import (
    TTSCancelledError,
    TTSError,
    TTSStreamInterruptedError,
    copy_without_traceback,
    drop_tracebacks,
)

T = TypeVar("T")


class OpenStreams(Generic[T]):
    """A set of what is alive and not over. No other thread can be in the middle of a step on the dictionary."""

    def __init__(self) -> None:
        self._refs: dict[int, ref[T]] = {}

    def add(self, stream: T) -> None:
        """One more; when it is forgotten, it is gone from here."""
        key, refs = id(stream), self._refs
        refs[key] = ref(stream, lambda _: refs.pop(key, None))

    def discard(self, stream: T) -> bool:
        """This one is over. Tell whether it was here."""
        return self._refs.pop(id(stream), None) is not None

    def all(self) -> list[T]:
        """Those that there are now."""
        return [stream for each in list(self._refs.values()) if (stream := each()) is not None]


class AsyncSpeechStream(ReportedUtterance):
    """Audio of one utterance as it is made: iterate it, once, from one task. The account of it grows meanwhile.

    It ends in one of three ways: with its last chunk, with a TTSError, or early: closed by `aclose()` from any task of
    its event loop, or by the cancellation of a read (`asyncio.wait_for(anext(stream), ...)` cancels when its time is
    up). An early end stops the vendor at once, its outcome is `interrupted`, and whoever reads on gets
    TTSStreamInterruptedError: half an utterance never looks like a whole one. To wait for a chunk without giving up
    the stream, read in a task and use `asyncio.wait({task}, timeout=...)`.

    `on_end` is called when nothing of it will be heard any more.
    """

    def __init__(self, utterance: Utterance | CachedUtterance, on_end: Callable[[AsyncSpeechStream], None]) -> None:
        self.report = utterance.report
        self.format = utterance.format
        self._on_end = on_end  # may be called more than once
        self._utterance: Utterance | CachedUtterance | None = utterance  # until it is over
        self._chunks: AsyncGenerator[bytes, None] | None = utterance.chunks()
        self._delivered = 0.0  # seconds of audio, when it is over
        self._reader: asyncio.Task[Any] | None = None  # that waits for the next chunk
        self._reader_left: asyncio.Future[None] | None = None  # for whoever waits until it does not any more
        self._closing: asyncio.Future[None] | None = None  # of several who close, the first one does it
        self._ended_early: str | None = None  # why
        self.begun = False  # somebody has asked for a first chunk

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunks = self._chunks
        if chunks is None or self._ended_early or self._reader:
            self._refuse_read()
        self.begun = True
        self._reader = task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            return await anext(chunks)
        except StopAsyncIteration:
            self._over()
            log_utterance(self.report)
            raise
        except asyncio.CancelledError:
            closed = self._ended_early is not None
            self._end_early("the task that read it was cancelled")
            self._over()
            # As asyncio.timeout() does: a cancellation of our own making is taken back and told as what it is.
            if closed and task and task.uncancel() <= before:
                raise self._interruption() from None
            raise
        except TTSError as error:
            failure = drop_tracebacks(error)
        except Exception as error:  # a mistake of ours, of which the traceback says where
            self.report.error = copy_without_traceback(error)
            self._over()
            raise
        finally:
            # A cancelled task keeps its CancelledError, whose traceback keeps this frame: no frame may keep the task.
            self._reader = task = chunks = None
            if self._reader_left and not self._reader_left.done():
                self._reader_left.set_result(None)
        self.report.error = failure
        self._over()
        log_utterance(self.report)
        try:
            raise copy_without_traceback(
                failure
            )  # the account keeps one, the caller gets the other, with a traceback of its own
        finally:
            del failure

    def attach_sink(self, outlet: AudioSink) -> None:
        """From here on, audio that goes out as it comes may go straight there; all else is iterated as before.

        That is for whoever moves bytes, and has got the first of them: it saves a turn of the event loop for each.
        """
        if isinstance(self._utterance, Utterance):  # what is remembered has to be seen
            self._utterance.attach_sink(outlet)

    async def aclose(self) -> None:
        """Stop speaking, whoever reads meanwhile. Nothing is counted against the provider, unless it was overdue.

        A read that is pending in another task ends at once, with TTSStreamInterruptedError.
        """
        await self._close("it was closed")

    def _refuse_read(self) -> NoReturn:
        """Raise what a read meets that comes behind the end, or beside another read."""
        if self._ended_early or (self._reader and self._reader.cancelling()):
            raise self._interruption()
        if self._reader:
            raise RuntimeError("this stream is being read by another task: one at a time may read it")
        if error := self.report.error:
            raise copy_without_traceback(error)
        raise StopAsyncIteration

    def _end_early(self, why: str) -> None:
        """Nobody will have heard all of it."""
        if self._ended_early or self._utterance is None or self._utterance.finished:
            return
        self._ended_early = why
        self.report.interrupted = True

    def _interruption(self) -> TTSStreamInterruptedError:
        why = self._ended_early or "a read of it was cancelled"
        cause = TTSCancelledError(f"{why} before its end")
        delivered = self._utterance.delivered if self._utterance else self._delivered
        return TTSStreamInterruptedError([cause], delivered=delivered)

    async def _close(self, why: str) -> None:
        self._end_early(why)
        if self._closing:
            await asyncio.shield(self._closing)
            return
        self._closing = asyncio.get_running_loop().create_future()
        try:
            if self._reader and self._reader is not asyncio.current_task():
                self._reader_left = asyncio.get_running_loop().create_future()
                self._reader.cancel()
                await self._reader_left
            if self._chunks:
                await self._chunks.aclose()
        finally:
            self._closing.set_result(None)
            self._closing = self._reader_left = None
            self._over()

    def _over(self) -> None:
        """Nothing of it will be heard any more."""
        if self._utterance:
            self._delivered = self._utterance.delivered
            self._utterance.close()
            self._utterance = self._chunks = None
        self._on_end(self)

    async def interrupt(self) -> None:
        """The service closes: end this, wherever it is, so that nobody takes what was heard for the whole."""
        if not self.begun:  # it asks for nothing of this service yet, which may be used again
            self._on_end(self)
            return
        self._end_early("the service was closed")
        if self._ended_early and not self.report.error:
            self.report.error = self._interruption()
        await self._close("the service was closed")

    def leave_behind(self) -> None:
        """End a stream that the parent began, in a forked child: its connection is the parent's."""
        if not self.begun:
            return
        self._end_early("this process was forked from the one that speaks it")
        keep_until_exit((self._chunks, self._reader, self._reader_left, self._closing))
        self._chunks, self._reader, self._reader_left, self._closing = _no_chunks(), None, None, None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _no_chunks() -> AsyncGenerator[bytes, None]:
    return
    yield b""
