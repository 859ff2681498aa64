"""Turn: one answer of a conversation, whose text arrives in pieces while its audio is heard."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Self

from steadyvoice.breaker.fork_safety import keep_until_exit
from steadyvoice.service.conversation.events import Audio, Ended, Heard, TurnEvent
from steadyvoice.service.conversation.ledger import TurnLedger
from steadyvoice.service.conversation.segment_speaker import SegmentSpeaker
from steadyvoice.service.conversation.text_stream_speaker import TextStreamSpeaker
from steadyvoice.service.log_messages import log_utterance
from steadyvoice.service.resilience.failover import CLOCK_RESOLUTION
from steadyvoice.service.result import ReportedUtterance, UtteranceReport, current_call
from steadyvoice.speech.errors import (
    TTSAllProvidersFailedError,
    TTSError,
    TTSStreamInterruptedError,
    copy_without_traceback,
    drop_tracebacks,
)
from steadyvoice.speech.format import AudioFormat

MAX_BUFFERED_SECONDS = 30.0
"""Seconds of audio that wait for the reader before the vendor is read no further."""

MAX_BUFFERED_BYTES = 4 * 1024 * 1024
"""Bytes of audio that wait for the reader, likewise."""

LEAD = 2.0
"""Seconds of audio not yet played, above which no further text is sent: an interruption would waste it."""

_CLOSING_PATIENCE = 0.015  # seconds that an interruption waits for the vendor's connection to be closed


class EventBuffer:
    """Events of one turn that wait for their reader, and a model of its playback.

    Audio counts as played from the moment that it is handed out, at the rate of speech.
    """

    def __init__(self) -> None:
        self._events: deque[TurnEvent] = deque()
        self.seconds = 0.0
        """Seconds of audio that wait."""
        self.handed_out = 0.0
        """Second of the turn up to which audio was handed out."""
        self._bytes = 0
        self._playing_until = 0.0  # on the clock of the event loop
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: TurnEvent) -> None:
        """Add an event and wake the reader."""
        self._events.append(event)
        if isinstance(event, Audio):
            self.seconds += event.seconds
            self._bytes += len(event.data)
        self._arrived.set()

    def wake(self) -> None:
        """Wake the reader without an event."""
        self._arrived.set()

    def take(self) -> TurnEvent:
        """Remove and return the next event. Raises IndexError if there is none."""
        event = self._events.popleft()
        if isinstance(event, Audio):
            self.seconds -= event.seconds
            self._bytes -= len(event.data)
            self.handed_out = event.at + event.seconds
            self._playing_until = max(self._playing_until, asyncio.get_running_loop().time()) + event.seconds
            self._taken.set()
        return event

    def clear(self) -> None:
        """Drop all events: an interrupted listener plays no more."""
        self._events.clear()
        self.seconds, self._bytes = 0.0, 0

    async def arrival(self) -> None:
        """Wait until an event may have arrived."""
        self._arrived.clear()
        await self._arrived.wait()

    async def room(self) -> None:
        """Wait until the reader has left room for more audio."""
        while self.seconds >= MAX_BUFFERED_SECONDS or self._bytes >= MAX_BUFFERED_BYTES:
            self._taken.clear()
            await self._taken.wait()

    def ahead(self) -> float:
        """Return the seconds of audio that are left to play."""
        return self.seconds + max(0.0, self._playing_until - asyncio.get_running_loop().time())

    async def need(self) -> None:
        """Wait until no more than LEAD seconds of audio are left to play."""
        while True:
            if self.seconds > LEAD:
                self._taken.clear()
                await self._taken.wait()
            elif (ahead := self.ahead() - LEAD) > CLOCK_RESOLUTION:
                await asyncio.sleep(ahead)
            else:
                return


class AsyncTurn(ReportedUtterance):
    """Turn of a conversation, one answer: text is pushed piece by piece, and its events are iterated by one task.

    `push()`, `flush()` and `end()` never block, and never raise for a vendor. The iteration ends with `Ended`, or
    raises the TTSError for which the rest of the text was not spoken. After `end()` or `interrupt()`, `push()` and
    `flush()` raise RuntimeError.

    - `text`: the next piece of the text, of any length.
    - `source`: iterable of pieces of text, asynchronous or not.
    """

    def __init__(
        self,
        id: str,
        ledger: TurnLedger,
        speaker: SegmentSpeaker,
        format: AudioFormat,
        *,
        paced: bool,
        max_segment: int,
        on_end: Callable[[AsyncTurn], None],
    ) -> None:
        self.id, self.format = id, format
        self.report: UtteranceReport = speaker.report
        self._ledger = ledger
        self._speaker: SegmentSpeaker | None = speaker  # None after the end
        self._paced, self._max_segment, self._on_end = paced, max_segment, on_end
        self._buffer = EventBuffer()
        self._text_changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stream: TextStreamSpeaker | None = None  # while the text goes through one
        self._failure: Exception | None = None
        self._over = False  # nothing will be added to the buffer any more
        self._cut_off = False  # by interrupt() or aclose()
        self._is_sealed = True  # False while an interruption has yet to add the end
        self._ended = False  # the reader has got the end
        self._reading = False

    # ---------------------------------------------------------------- text

    @property
    def text(self) -> str:
        """Text pushed so far."""
        return self._ledger.text

    @property
    def seconds(self) -> float:
        """Seconds of audio that the turn has delivered to its buffer."""
        return self._ledger.seconds

    @property
    def begun(self) -> bool:
        """True if any text was pushed."""
        return self._task is not None or self._over

    def push(self, text: str) -> None:
        """Add text. Offsets in events refer to all text pushed to the turn.

        Raises RuntimeError after `end()` or `interrupt()`, TTSTextTooLongError above `max_text_characters`, TypeError.
        """
        self._refuse_if_ended("push")
        if not self._over:
            self._ledger.push(text)
            self._notify()

    def flush(self) -> int:
        """Speak all text so far without waiting for more. Return the number of the `Flushed` event to expect.

        Raises RuntimeError after `end()` or `interrupt()`.
        """
        self._refuse_if_ended("flush")
        mark = self._ledger.flush()
        self._notify()
        return mark

    def end(self) -> None:
        """Speak all text, then end the turn. Calling it again changes nothing."""
        if not self._ledger.ended:
            self._ledger.end()
            self._notify()

    async def feed(self, source: AsyncIterable[str] | Iterable[str]) -> None:
        """Push every piece of text of an iterable, then end the turn. Returns early when the turn is interrupted.

        A plain iterable that is no list or tuple runs in a thread, because it may block. Errors of the iterable are
        raised here, and leave the turn open.
        """
        if isinstance(source, AsyncIterable):
            async for text in source:
                if self._cut_off:
                    return
                self.push(text)
        elif isinstance(source, list | tuple):
            for text in source:
                self.push(text)
        else:
            iterator, last = iter(source), object()
            while (item := await asyncio.to_thread(next, iterator, last)) is not last:
                if self._cut_off:
                    return
                self.push(item)  # type: ignore[arg-type]
        if not self._cut_off:
            self.end()

    def _refuse_if_ended(self, method: str) -> None:
        if self._cut_off:
            raise RuntimeError(f"{method}(): the turn was interrupted; open another one")
        if self._ledger.ended:
            raise RuntimeError(f"{method}(): the text of the turn has ended with end(); open another turn")

    def _notify(self) -> None:
        """Start to speak, or go on."""
        if self._over or self._cut_off:
            return
        self._text_changed.set()
        if self._stream:
            self._stream.text_changed()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    # ---------------------------------------------------------------- speech

    async def _run(self) -> None:
        """Speak segment after segment until the text has ended."""
        speaker = self._speaker
        assert speaker is not None  # noqa: S101 - released at the end of this
        if self.call:
            self.call.start()
            current_call.set(self.call)  # in the context of this task, which is its own
        try:
            await self._speak(speaker)
        except asyncio.CancelledError:
            raise
        except TTSError as error:
            self._failure = self._as_interruption(error)
            drop_tracebacks(self._failure)
            self.report.error = copy_without_traceback(self._failure)
        except Exception as error:  # a defect of this library: its traceback is needed
            self._failure = error
            self.report.error = copy_without_traceback(error)
        else:
            self._buffer.put(Ended(self.report.outcome, self.report))
        finally:
            self._finish()
            if self.call:  # not before, because an interruption does not wait until its costs are recorded
                self.call.finish(self.report, self._ledger.text)
            del speaker

    async def _speak(self, speaker: SegmentSpeaker) -> None:
        ledger, buffer = self._ledger, self._buffer
        while True:
            begin = ledger.sent
            if stream := speaker.open_stream(ahead=self._ahead, lead=LEAD if self._paced else MAX_BUFFERED_SECONDS):
                async with speaker.place():
                    await self._speak_stream(stream)
                continue
            end = ledger.next_end(first=begin == 0, limit=self._max_segment, language=speaker.language)
            if end is None and ledger.ended:
                break
            if end is None:
                for event in speaker.marks_reached(begin):
                    buffer.put(event)
                self._text_changed.clear()
                await self._text_changed.wait()
                continue
            if self._paced:
                await buffer.need()
            ledger.sent = end
            async with aclosing(speaker.speak(begin, end)) as events:
                async for event in events:
                    buffer.put(event)
                    await buffer.room()
        for event in speaker.marks_reached(ledger.length):
            buffer.put(event)
        async with aclosing(speaker.finish()) as rest:
            async for event in rest:
                buffer.put(event)

    def _ahead(self) -> float:
        """Return the seconds of audio above which no further text is sent: not played, or without pacing not read."""
        return self._buffer.ahead() if self._paced else self._buffer.seconds

    async def _speak_stream(self, stream: TextStreamSpeaker) -> None:
        """Speak the rest of the text through a text stream, until it ends or breaks off."""
        self._stream = stream
        try:
            async with aclosing(stream.events()) as events:
                async for event in events:
                    self._buffer.put(event)
                    await self._buffer.room()
        finally:
            self._stream = None

    def _as_interruption(self, error: TTSError) -> TTSError:
        """Return the error that tells how much of the turn was delivered."""
        delivered = self._ledger.seconds
        if not delivered:
            return error
        causes = error.causes if isinstance(error, TTSAllProvidersFailedError) else [error]
        return TTSStreamInterruptedError(list(causes), delivered=delivered)

    def _finish(self) -> None:
        """Release everything. Calling it twice changes nothing."""
        if self._over:
            return
        self._over = True
        self._task = None
        if self._speaker:
            self._speaker.close()
            self._speaker = None
        self._buffer.wake()
        log_utterance(self.report)
        self._on_end(self)

    # ---------------------------------------------------------------- events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TurnEvent:
        if self._reading:
            raise RuntimeError("another task is reading this turn; only one may read it at a time")
        self._reading = True
        try:
            while True:
                if len(self._buffer):
                    event = self._buffer.take()
                    self._ended |= isinstance(event, Ended)
                    return event
                if self._over and self._is_sealed:
                    break
                await self._buffer.arrival()
        finally:
            self._reading = False
        if self._failure and not self._ended:
            self._ended = True
            raise copy_without_traceback(self._failure) if isinstance(self._failure, TTSError) else self._failure
        raise StopAsyncIteration

    async def interrupt(self, played: float | None = None) -> Heard:
        """End the turn because its listener interrupts, and return what was heard at second `played` of its audio.

        Without `played`, everything that was iterated counts as played. The vendor is stopped; the outcome is
        `interrupted`, which counts against no provider unless it was overdue. Further calls return what is known for
        their own second, also after the turn has ended by itself. The iteration ends with `Ended`.
        """
        at = self._buffer.handed_out if played is None else max(0.0, played)
        await self._cut()
        return self._heard(at)

    async def aclose(self) -> None:
        """End the turn. If it has not ended by itself, its outcome is `interrupted`."""
        await self._cut()

    async def _cut(self) -> None:
        """End the turn now, unless its reader has got the end."""
        if self._cut_off or self._ended:
            return
        self._cut_off = self.report.interrupted = True
        self._failure, self._is_sealed = None, False
        task = self._task
        if task:
            task.cancel()
            await asyncio.wait([task], timeout=_CLOSING_PATIENCE)
        self._finish()
        self._buffer.clear()
        self._buffer.put(Ended("interrupted", self.report))
        self._is_sealed = True
        del task

    def leave_behind(self) -> None:
        """End a turn of the parent in a forked child: its connections belong to the parent."""
        if not self.begun or self._over:
            return
        keep_until_exit((self._task, self._speaker))
        self._task, self._speaker = None, None
        self._cut_off = self._over = self.report.interrupted = True
        self._buffer.clear()

    def _heard(self, played: float) -> Heard:
        text = self._ledger.text
        end, exact = self._ledger.heard(played)
        return Heard(text[:end], 0, end, text[end:], exact, self.report.billed, self.report.wasted)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
