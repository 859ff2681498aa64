"""Audio stream of one utterance (reading, closing, interruption), and the streams and turns that are open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar
from weakref import ref

from steadyvoice.breaker.fork_safety import keep_until_exit
from steadyvoice.service.log_messages import log_utterance
from steadyvoice.service.observers import UtteranceObservers
from steadyvoice.service.pipeline.provider_call import AudioSink
from steadyvoice.service.pipeline.utterance import Utterance
from steadyvoice.service.provider_set import Closable, ReplacedProviders
from steadyvoice.service.result import ReportedUtterance, current_call
from steadyvoice.speech.errors import (
    TTSCancelledError,
    TTSError,
    TTSStreamInterruptedError,
    copy_without_traceback,
    drop_tracebacks,
)

if TYPE_CHECKING:
    from steadyvoice.service.cache.lookup import CachedUtterance
    from steadyvoice.service.conversation.turn import AsyncTurn
    from steadyvoice.service.conversation.turn_utterance import TurnUtterance
    from steadyvoice.service.fast_lane.stream_relay import RelayedUtterance

T = TypeVar("T")


class _WeakSet(Generic[T]):
    """Set of open streams or turns, held weakly.

    It may be read while other threads add to it: every step is one operation on a dictionary, which is atomic.
    """

    def __init__(self) -> None:
        self._refs: dict[int, ref[T]] = {}

    def add(self, stream: T) -> None:
        """Add a stream; it leaves the set when it is garbage."""
        key, refs = id(stream), self._refs
        refs[key] = ref(stream, lambda _: refs.pop(key, None))

    def discard(self, stream: T) -> bool:
        """Remove a stream, and return whether it was in the set."""
        return self._refs.pop(id(stream), None) is not None

    def clear(self) -> None:
        """Remove all."""
        self._refs.clear()

    def all(self) -> list[T]:
        """Return the streams that are in the set now."""
        return [stream for each in list(self._refs.values()) if (stream := each()) is not None]


class AsyncSpeechStream(ReportedUtterance):
    """Audio of one utterance as it is made: an iterator for one task. Its report grows with it.

    It ends in one of three ways: with the last chunk, with a TTSError, or early: by `aclose()` from any task of its
    event loop, or by the cancellation of a read, as when `asyncio.wait_for(anext(stream), ...)` times out. An early end
    stops the vendor at once, the outcome is `interrupted`, and further reads raise TTSStreamInterruptedError, so that
    half an utterance never passes for a whole one. To wait for a chunk without giving up the stream, read in a task and
    use `asyncio.wait({task}, timeout=...)`.

    `on_end` is called when the stream has ended, in whatever way.
    """

    def __init__(
        self,
        utterance: Utterance | RelayedUtterance | CachedUtterance | TurnUtterance,
        on_end: Callable[[AsyncSpeechStream], None],
    ) -> None:
        self.report = utterance.report
        self.format = utterance.format
        self._on_end = on_end  # may be called more than once
        self._utterance: Utterance | RelayedUtterance | CachedUtterance | TurnUtterance | None = (
            utterance  # None after the end
        )
        self._chunks: AsyncGenerator[bytes, None] | None = utterance.chunks()
        self._delivered = 0.0  # seconds of audio, set at the end
        self._reader: asyncio.Task[Any] | None = None  # task that waits for the next chunk
        self._reader_left: asyncio.Future[None] | None = None  # set when that task has left `__anext__`
        self._closing: asyncio.Future[None] | None = (
            None  # set while the stream is being closed; later closers wait for it
        )
        self._ended_early: str | None = None  # reason of an early end
        self.begun = False  # whether a first chunk has been requested

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunks = self._chunks
        if chunks is None or self._ended_early or self._reader:
            self._refuse_read()
        self.begun = True
        self._reader = task = asyncio.current_task()
        before = task.cancelling() if task else 0
        outer = None
        if self.call:
            self.call.start()
            outer = current_call.get()
            current_call.set(self.call)
        try:
            return await anext(chunks)
        except StopAsyncIteration:
            self._finish()
            log_utterance(self.report)
            raise
        except asyncio.CancelledError:
            is_closed = self._ended_early is not None
            self._mark_interrupted("the task that read it was cancelled")
            self._finish()
            # As in asyncio.timeout(): a cancellation made by `_close` is taken back, and raised as what it means.
            if is_closed and task and task.uncancel() <= before:
                raise self._interruption() from None
            raise
        except TTSError as error:
            failure = drop_tracebacks(error)
        except Exception as error:  # a defect of this library: its traceback is needed
            self.report.error = copy_without_traceback(error)
            self._finish()
            raise
        finally:
            # A cancelled task keeps its CancelledError, whose traceback keeps this frame: no frame may keep the task.
            self._reader = task = chunks = None
            if self.call:
                current_call.set(outer)
                outer = None
            if self._reader_left and not self._reader_left.done():
                self._reader_left.set_result(None)
        self.report.error = failure
        self._finish()
        log_utterance(self.report)
        try:
            # The report keeps the error, and the caller gets a copy with a traceback of its own (decision 27).
            raise copy_without_traceback(failure)
        finally:
            del failure

    def attach_sink(self, sink: AudioSink) -> None:
        """Write passthrough audio directly to a sink from now on; all other audio is iterated as before.

        For a caller that forwards bytes and has read the first chunk: it saves a turn of the event loop per chunk.
        """
        if isinstance(self._utterance, Utterance):  # audio for the cache has to pass through the iterator
            self._utterance.attach_sink(sink)

    async def aclose(self) -> None:
        """Stop the utterance. It counts against the provider only if that was overdue.

        A pending read in another task ends at once with TTSStreamInterruptedError.
        """
        await self._close("it was closed")

    def _refuse_read(self) -> NoReturn:
        """Raise the error of a read after the end, or beside another read."""
        if self._ended_early or (self._reader and self._reader.cancelling()):
            raise self._interruption()
        if self._reader:
            raise RuntimeError("another task is reading this stream; only one may read it at a time")
        if error := self.report.error:
            raise copy_without_traceback(error)
        raise StopAsyncIteration

    def _mark_interrupted(self, why: str) -> None:
        """Note that the utterance ends before its last chunk, unless it is complete."""
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
        self._mark_interrupted(why)
        if self._closing:
            await asyncio.shield(self._closing)
            return
        self._closing = asyncio.get_running_loop().create_future()
        try:
            # A generator cannot be closed while it runs: the pending read is cancelled first, and waited for.
            if self._reader and self._reader is not asyncio.current_task():
                self._reader_left = asyncio.get_running_loop().create_future()
                self._reader.cancel()
                await self._reader_left
            if self._chunks:
                await self._chunks.aclose()
        finally:
            self._closing.set_result(None)
            self._closing = self._reader_left = None
            self._finish()

    def _finish(self) -> None:
        """Release the utterance. Calling it twice changes nothing."""
        if self._utterance:
            self._delivered = self._utterance.delivered
            self._utterance.close()
            self._utterance = self._chunks = None
        self._on_end(self)

    async def interrupt(self) -> None:
        """End the stream because its service is closed; the next read raises TTSStreamInterruptedError."""
        if not self.begun:  # It uses nothing of the service yet, which may be used again after closing.
            self._on_end(self)
            return
        self._mark_interrupted("the service was closed")
        if self._ended_early and not self.report.error:
            self.report.error = self._interruption()
        await self._close("the service was closed")

    def leave_behind(self) -> None:
        """End a stream of the parent in a forked child: its connection belongs to the parent."""
        if not self.begun:
            return
        self._mark_interrupted("this process was forked from the one that synthesises it")
        keep_until_exit((self._chunks, self._reader, self._reader_left, self._closing))
        self._chunks, self._reader, self._reader_left, self._closing = _no_chunks(), None, None, None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class OpenUtterances:
    """Streams and turns of one service that are in progress, and what their ends mean to others.

    Its observers are told, a traced stream finishes its span, and providers that were replaced meanwhile are closed
    after the last one that may use them.
    """

    def __init__(self, observers: UtteranceObservers) -> None:
        self._observers = observers
        self._streams = _WeakSet[AsyncSpeechStream]()
        self._turns: _WeakSet[AsyncTurn] = _WeakSet()
        self._replaced = ReplacedProviders()
        self.add_stream = self._streams.add
        self.add_turn = self._turns.add

    @property
    def streams(self) -> list[AsyncSpeechStream]:
        """Streams in progress."""
        return [stream for stream in self._streams.all() if stream.begun]

    @property
    def turns(self) -> list[AsyncTurn]:
        """Turns whose text has begun and that have not ended."""
        return [turn for turn in self._turns.all() if turn.begun]

    def stream_ended(self, stream: AsyncSpeechStream) -> None:
        """Note the end of a stream. Called again, or for a stream of the parent in a forked child, it does nothing."""
        if self._streams.discard(stream):
            self._replaced.left(stream)
            if self._observers and stream.begun:
                self._observers.report_ended(stream.report)
            if stream.call:
                stream.call.finish(stream.report)

    def stream_of_turn_ended(self, stream: AsyncSpeechStream) -> None:
        """Note the end of a stream that is made of a turn, which is reported by itself."""
        if self._streams.discard(stream):
            self._replaced.left(stream)

    def turn_ended(self, turn: AsyncTurn) -> None:
        """Note the end of a turn."""
        if self._turns.discard(turn):
            self._replaced.left(turn)
            if self._observers and turn.begun:
                self._observers.report_ended(turn.report, is_turn=True)

    def close_unused(self, former: Iterable[Closable]) -> None:
        """Close what new utterances do not use any more: now, or after the last of those that are open."""
        self._replaced.add(former, [*self._streams.all(), *self._turns.all()])

    async def settled(self) -> None:
        """Wait until the closing that was started has ended."""
        await self._replaced.settled()

    async def aclose(self) -> None:
        """Interrupt all streams and turns."""
        for stream in self._streams.all():
            await stream.interrupt()
        for turn in self.turns:
            await turn.aclose()

    async def close_replaced(self) -> None:
        """Close all providers that were replaced."""
        await self._replaced.aclose()

    def after_fork(self) -> None:
        """Leave the parent's streams and turns behind: their ends in this process mean nothing."""
        for stream in self._streams.all():
            stream.leave_behind()
        for turn in self._turns.all():
            turn.leave_behind()
        self._streams.clear()
        self._turns.clear()
        keep_until_exit(self._replaced)
        self._replaced = ReplacedProviders()


async def _no_chunks() -> AsyncGenerator[bytes, None]:
    return
    yield b""
