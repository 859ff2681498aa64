"""Text stream over a context of a pooled websocket: text and flushes in, audio with times out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, Self

from steadyvoice.providers.base import CHUNK_SIZE, Accepted, AudioChunk, WorkBudget
from steadyvoice.providers.websocket.context_protocol import ContextEvent, ContextProtocol
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSCutError, TTSError, TTSOverloadedError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.text import count_letters_and_digits

MAX_BUFFERED = 4 * 1024 * 1024
"""Bytes of audio that may wait for the reader of one stream."""

BUFFERED_SECONDS = 30.0
"""Seconds of audio that may wait for the reader. Above it, no more text is sent."""

ENOUGH_TEXT = 300
"""Characters after which the vendor speaks without a flush, whatever its schedule: the longest has 290."""

_WAIT_FOR_TIMES = 1.0  # seconds of audio that wait for times which come apart
_MOMENT = 0.02  # seconds of audio that wait for the last of them
_OVERLAP = 0.05  # seconds by which successive messages may overlap and still have one common origin
_MISSING_LETTERS = 3  # letters of what was flushed that an alignment may lack: emoji, or a tag in part
_TAIL = 12  # letters at the end by which a text is recognised as spoken
_RECENT = 4096  # letters in which that end must not come twice


class AlignmentTimeline:
    """Common timeline for the alignments of one stream's messages, in seconds from the beginning of its audio.

    Vendors count from the beginning of each message, of each flush, or of the context, and have changed that: a message
    that begins before the one before has ended counts from an origin of its own.
    """

    __slots__ = ("_begin", "_end", "_offset")

    def __init__(self) -> None:
        self._offset = self._begin = self._end = 0.0  # seconds; begin and end of the last message's times

    def placed(self, alignment: Alignment | None, audio_begin: float | None = None) -> Alignment | None:
        """Return a message's alignment on the timeline, None for none.

        `audio_begin` is the second at which the message's audio begins, if it is known.
        """
        if alignment is None or not alignment.characters:
            return None
        earliest = self._end - min(_OVERLAP, (self._end - self._begin) / 2)
        if self._offset + alignment.starts[0] < earliest:
            self._offset = self._end if audio_begin is None or audio_begin < earliest else audio_begin
        placed = Alignment.joined([(self._offset, alignment)])
        self._begin, self._end = placed.starts[0], max(self._end, placed.ends[-1])
        return placed


class StreamCarrier(Protocol):
    """Connection that carries a stream's context."""

    def notify(self, stream: SocketTextStream) -> None:
        """Have the messages that the stream has ready sent."""
        ...

    def abandon(self, stream: SocketTextStream, *, owed: bool) -> None:
        """End the stream's context early. It releases the stream when the vendor has ended it.

        `owed` is whether the vendor may still be generating audio.
        """
        ...


class SocketTextStream:
    """TextStream over a context of a websocket.

    `attach` finds a connection and returns it, or None after it has failed the stream; it is called with the first
    text, and again after a connection that was lost without harm. `True` asks for one that was not used before.
    """

    __slots__ = (
        "_accepted", "_attach", "_buffer_limit", "_buffered", "_bytes_per_second", "_carrier", "_context_audio",
        "_context_begin", "_delivered", "_due", "_ended", "_error", "_events", "_finished", "_flushes", "_heard",
        "_held", "_normalized_timeline", "_pending", "_protocol", "_provider", "_queued", "_rate", "_reattached",
        "_recent", "_room", "_script", "_sent_letters", "_spoken", "_tail_spoken", "_timeline", "_times_apart",
        "_undue", "_unflushed", "_untimed", "_waiter", "_work", "characters_sent", "context_id", "last_sent",
        "opened", "released", "shut",
    )  # fmt: skip

    def __init__(
        self,
        protocol: ContextProtocol,
        attach: Callable[[SocketTextStream, bool], StreamCarrier | None],
        format: AudioFormat,
        provider: str,
    ) -> None:
        self._protocol, self._attach, self._provider = protocol, attach, provider
        self.released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.context_id = ""
        """Id of the context on the present connection; each connection gets its own."""
        self.opened = False
        """Whether the vendor has been sent anything of the present context."""
        self.shut = False
        """Whether the vendor has been told that the context ends."""
        self.last_sent = 0.0
        """Time of the loop at which the context's last message was sent."""
        self.characters_sent = 0
        self._carrier: StreamCarrier | None = None
        # Text that is to be sent, and text that was sent and would have to be sent again if the connection were lost.
        self._pending: deque[tuple[str, bool]] = deque()
        self._script: list[tuple[str, bool]] = []
        self._accepted = self._finished = self._ended = self._reattached = False
        self._error: Exception | None = None
        self._events: deque[Accepted | AudioChunk] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._buffered = 0
        exact = format.bytes_per_second
        self._bytes_per_second = exact
        self._rate = exact or (format.bitrate or 128) * 125.0  # bytes a second, about
        self._buffer_limit = min(MAX_BUFFERED, int(BUFFERED_SECONDS * self._rate))
        self._held = bytearray()  # audio that waits for the times of its words
        self._delivered = 0  # bytes of audio, of the stream
        self._context_audio = False  # whether the present context has sent audio
        self._context_begin = 0  # bytes of audio before it
        self._flushes = 0  # that it was sent and has not confirmed; only some vendors confirm them
        self._times_apart = False  # whether the times of audio come in messages of their own
        self._sent_letters = False  # whether the present context was sent letters or digits
        # Letters of the text: all, those that the vendor owes audio for, and those with audio.
        self._queued = self._due = self._spoken = 0
        self._heard = False  # whether audio has come since more became due
        self._undue = 0  # characters since more became due
        self._untimed = False  # whether audio comes without times
        self._unflushed = False  # whether there was text since the last flush
        self._recent = ""  # letters of the text, the last ones
        self._tail_spoken = ""  # letters with audio, the last ones
        self._timeline, self._normalized_timeline = AlignmentTimeline(), AlignmentTimeline()
        self._work = WorkBudget()

    # The side of the service

    @property
    def expects_audio(self) -> bool:
        """True if the vendor owes audio: see `TextStream`."""
        if self._times_apart and (self._events or self._error):  # audio may be read before its times
            return True
        if self._ended or self._error:
            return False
        if self._finished:
            return True
        return not self._is_spoken(tolerated=_MISSING_LETTERS)

    def send(self, text: str) -> None:
        """Send the next text."""
        if not text or self._finished or self._ended:
            return
        self._pending.append((text, False))
        letters = count_letters_and_digits(text)
        self._queued += letters
        self._undue += len(text)
        self._unflushed = True
        if letters:
            self._recent = (self._recent + _letters(text))[-_RECENT:]
        if self._undue >= ENOUGH_TEXT:
            self._make_due()
        self._forward()

    def flush(self) -> None:
        """Have all text so far spoken."""
        if self._finished or self._ended or not self._unflushed:
            return
        self._unflushed = False
        self._make_due()
        self._pending.append(("", True))
        self._forward()

    def finish(self) -> None:
        """Have all text spoken, and end the iteration behind it."""
        if self._finished or self._ended:
            return
        self._finished = True
        if self._unflushed:
            self._make_due()
            self._pending.append(("", True))
        if self._carrier is None and not self._pending:
            self._end()
        else:
            self._forward()

    def close(self) -> None:
        """Abandon the rest."""
        self._events.clear()
        self._held.clear()
        self._buffered = 0
        self._error = None
        if self._ended:
            return
        owed = self.expects_audio
        carrier, self._carrier = self._carrier, None
        self._ended = True
        self._wake()
        self._make_room()
        if carrier:
            carrier.abandon(self, owed=owed)
        else:
            self.release()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Accepted | AudioChunk:
        if self._work.exhausted:
            await self._work.yield_to_loop()
        while not self._events:
            if self._error:
                error, self._error = self._error, None
                try:
                    raise error
                finally:
                    del error  # its traceback holds this frame
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.popleft()
        if isinstance(event, AudioChunk):
            self._work.spend(len(event.data))
            was_full = self.full
            self._buffered -= len(event.data)
            if was_full and not self.full:
                self._make_room()
                self._forward()
        return event

    # The side of the connection

    @property
    def protocol(self) -> ContextProtocol:
        """Encoder of the stream's messages."""
        return self._protocol

    @property
    def full(self) -> bool:
        """True if as much audio waits for the reader as may wait."""
        return self._buffered >= self._buffer_limit

    @property
    def overfull(self) -> bool:
        """True if more audio waits for the reader than may be kept."""
        return self._buffered >= MAX_BUFFERED

    @property
    def delivered(self) -> bool:
        """True if the present context has sent audio."""
        return self._context_audio

    def take_messages(self) -> list[str]:
        """Return the messages to be sent now, in order; none while the reader is behind."""
        if self._ended or self.shut or self.full:
            return []
        messages: list[str] = []
        protocol, context_id = self._protocol, self.context_id
        while self._pending:
            text, flush = self._next_text()
            if not self.opened:
                self.opened = True
                if opening := protocol.open(context_id):
                    messages.append(opening)
            messages += protocol.text(context_id, text, flush=flush)
            self.characters_sent += len(text)
            self._flushes += flush
            self._sent_letters = self._sent_letters or count_letters_and_digits(text) > 0
            self._script.append((text, flush))
        if self._finished and self.opened:
            self.shut = True
            messages.append(protocol.close(context_id))
        return messages

    def accept(self, request_id: str | None) -> None:
        """Record that the first text has gone out."""
        if not self._accepted:
            self._accepted = True
            self._put(Accepted(request_id))

    def receive(self, event: ContextEvent) -> None:
        """Take audio of the context."""
        if event.audio:
            if not self._context_audio:
                self._context_begin = self._delivered
            self._context_audio, self._heard, self._reattached = True, True, False
        self._times_apart = event.times_apart
        place = self._context_begin if event.times_apart else self._delivered
        begin = place / self._bytes_per_second if self._bytes_per_second else None
        # The vendor leaves either alignment out of some messages. Most texts are spoken as they are written, so one can
        # stand for the other.
        alignment = self._timeline.placed(event.alignment or event.normalized, begin)
        if event.normalized in (None, event.alignment):
            normalized = None if event.normalized is None else alignment
        else:
            normalized = self._normalized_timeline.placed(event.normalized, begin)
        if not event.times_apart or alignment:  # audio whose times come later shows nothing yet
            self._record_spoken(alignment)
        if event.flushed:
            self._flushes -= 1
            if not self._flushes and not self._pending:
                self._spoken = max(self._spoken, self._due)  # whatever letters the times may lack
        data = event.audio
        self._delivered += len(data)
        self._buffered += len(data)
        if event.times_apart:
            data = self._paired(data, ready=alignment is not None, whole=event.flushed)
        if not data and alignment is None:
            return
        self._put(AudioChunk(data[:CHUNK_SIZE], alignment, normalized))
        for at in range(CHUNK_SIZE, len(data), CHUNK_SIZE):
            self._put(AudioChunk(data[at : at + CHUNK_SIZE]))

    def finish_context(self) -> None:
        """Take the vendor's end of the context."""
        self._carrier = None
        if self._sent_letters and not self._context_audio:
            self.fail(self._protocol.final_without_audio())
        elif self.shut or (self._finished and not self._pending):
            self._end()
        elif self._context_audio and not self._is_at_rest:
            self.fail(TTSCutError("the vendor ended the context before all text was spoken", provider=self._provider))
        else:
            self._begin_again()

    def lose(self, error: TTSError, *, retry: bool) -> None:
        """Take the loss of the connection: with another one where no audio was lost with it, else as a failure.

        `retry` is whether the connection may have been lost before this stream began.
        """
        self._carrier = None
        if self._ended:
            self.release()
        elif self._context_audio:
            # Without times nothing shows whether all text that was flushed has been spoken.
            self._begin_again() if self._is_at_rest and not self._untimed else self.fail(error)
        elif self._reattached or (self.expects_audio and not retry):
            self.fail(error)
        else:
            self._begin_again()

    def fail(self, error: Exception) -> None:
        """End with an error, behind the audio that has come."""
        self._carrier = None
        if not self._ended:
            self._error = error
            self._end()
        self.release()

    def overflow(self) -> None:
        """End because the reader does not read, and others share the connection. The carrier releases the stream."""
        kept = self._buffered // 1024
        message = f"{kept} KiB of audio wait for a reader that has stopped reading"
        error = TTSOverloadedError(message, provider=self._provider)
        carrier, self._carrier = self._carrier, None
        self._ended, self._error = True, error
        self._wake()
        if carrier:
            carrier.abandon(self, owed=True)

    def release(self) -> None:
        """Record that the vendor has ended the generation."""
        if not self.released.done():
            self.released.set_result(None)

    async def room(self) -> None:
        """Wait until some of the buffered audio was read."""
        if self.full:
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None

    def _paired(self, data: bytes, *, ready: bool, whole: bool) -> bytes:
        """Return the audio that is handed on now: it waits for the times of its words, where they come apart.

        A moment of it waits for the last ones, because times without audio wake no reader. `ready`: times have come;
        `whole`: no more will come for this audio.
        """
        held = self._held
        held += data
        if not (ready or whole or len(held) > self._rate * _WAIT_FOR_TIMES):
            return b""
        kept = 0 if whole else int(self._rate * _MOMENT) // 2 * 2  # whole samples
        end = max(0, len(held) - kept)
        audio = bytes(held[:end])
        del held[:end]
        return audio

    def _put_held(self) -> None:
        """Hand on the audio that waits for times, at the end of a context: none will come any more."""
        if self._held:
            self._put(AudioChunk(self._paired(b"", ready=True, whole=True)))

    def _next_text(self) -> tuple[str, bool]:
        """Return the text up to the next flush, and whether it is flushed."""
        texts: list[str] = []
        while self._pending:
            text, flush = self._pending.popleft()
            texts.append(text)
            if flush:
                return "".join(texts), True
        return "".join(texts), self._finished

    def _forward(self, *, fresh: bool = False) -> None:
        if self._carrier is None and self._pending:
            self._carrier = self._attach(self, fresh)
        if self._carrier:
            self._carrier.notify(self)

    def _make_due(self) -> None:
        self._due, self._undue, self._heard = self._queued, 0, False

    def _record_spoken(self, alignment: Alignment | None) -> None:
        """Record the text of the audio that has come, and forget what need not be sent again."""
        if alignment:
            text = alignment.text
            self._spoken += count_letters_and_digits(text)
            self._tail_spoken = (self._tail_spoken + _letters(text)[-_TAIL:])[-_TAIL:]
        elif self._heard and not self._spoken:
            self._due, self._untimed = 0, True  # any audio counts for all that was flushed
        if self._script and self._is_spoken(tolerated=_MISSING_LETTERS):
            flushed = max((number for number, (_, flush) in enumerate(self._script, start=1) if flush), default=0)
            del self._script[:flushed]

    @property
    def _is_at_rest(self) -> bool:
        """True if all text that is due was spoken, and no other, so that the rest can go into another context.

        Vendors begin to speak by themselves once they have enough text. What they have begun cannot be repeated.
        """
        return self._spoken <= self._due and self._is_spoken(tolerated=0)

    def _is_spoken(self, *, tolerated: int) -> bool:
        """Return whether audio has come for all text that is due, but for some letters."""
        left = self._due - self._spoken
        # Of times that come apart, those of the last letters may still be on their way.
        if left <= (tolerated if self._heard and not self._times_apart else 0):
            return True
        if not self._heard or self._tail_spoken != self._recent[-_TAIL:]:
            return False
        # Its end shows nothing about a text that repeats it: "no, no, no, no, no, no, no".
        end = max(0, len(self._recent) - _TAIL)
        return self._recent.find(self._tail_spoken, max(0, end - left)) == end

    def _begin_again(self) -> None:
        """Forget the context. Text that was sent in vain, and more that comes, goes into another one."""
        self._put_held()
        self._pending.extendleft(reversed(self._script))
        self._reattached = bool(self._pending)
        self._script = []
        self.context_id, self.opened, self.shut = "", False, False
        self._context_audio = self._sent_letters = False
        self._flushes = 0
        if self._finished and not self._pending:
            self._end()
        else:
            self._forward(fresh=True)

    def _end(self) -> None:
        if self._error is None:  # of a failure, what is audio of no known word is of no use
            self._put_held()
        self._held.clear()
        self._ended = True
        self._pending.clear()
        self._script = []
        self.release()
        self._wake()
        self._make_room()

    def _put(self, event: Accepted | AudioChunk) -> None:
        self._events.append(event)
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _make_room(self) -> None:
        if self._room and not self._room.done():
            self._room.set_result(None)


def _letters(text: str) -> str:
    """Return the letters and digits of a text, without case."""
    return "".join([each for each in text if each.isalnum()]).casefold()
