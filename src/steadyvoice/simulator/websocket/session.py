"""Session of one websocket, from the first message to the last: text in, audio out.

Each context speaks its texts in order, and contexts speak concurrently. Text is charged, and counted as running, when
it is generated, not while it waits in the buffer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from aiohttp import WSMsgType, web

from steadyvoice.simulator.elevenlabs import validate_voice_settings
from steadyvoice.simulator.fault_injection.actions import AbsoluteTimes, FaultAction, FinalWithoutAudio, IdleTimeout
from steadyvoice.simulator.http.response import Rejection, RequestRejectedError, sleep_or_hang
from steadyvoice.simulator.ledger import Ending, LedgerEntry
from steadyvoice.simulator.synthesis import EncodedAudio, ResponseShape, SynthesisOrder
from steadyvoice.simulator.vendor import SimulatedVendor
from steadyvoice.simulator.websocket.connection import SessionEnded, WebSocketConnection
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import AudioFormat
from steadyvoice.wire.elevenlabs.websocket import (
    DEFAULT_SCHEDULE,
    MAX_CONTEXTS,
    SHORTEST_CHUNK,
    AudioMessage,
    ClientMessage,
    FinalMessage,
    SocketEndpoint,
    SocketParameters,
    parse_message,
)
from steadyvoice.wire.request_validation import RequestValidationError


class TextBuffer:
    """Text on its way to a voice. With `at_once` (`auto_mode`) nothing waits."""

    def __init__(self, schedule: Sequence[float] = DEFAULT_SCHEDULE, *, at_once: bool = False) -> None:
        self._schedule = list(schedule)
        self._at_once = at_once
        self._text = ""

    def take(self, text: str, *, trigger: bool = False, flush: bool = False) -> str:
        """Add text, and give what is to be spoken now, perhaps nothing.

        `trigger` does not wait for the schedule, but for the least that makes good speech, 50 characters.
        """
        if text.strip() or self._text[-1:].strip():  # a blank behind a blank only keeps the connection alive
            self._text = (self._text + text).lstrip()
        if flush or self._at_once:
            return self._spoken(len(self._text))
        least = min(self._schedule[0], SHORTEST_CHUNK) if trigger else self._schedule[0]
        if len(self._text) < least:
            return ""
        return self._spoken(_end_of_last_word(self._text) or len(self._text))

    def _spoken(self, count: int) -> str:
        spoken, self._text = self._text[:count], self._text[count:]
        if not spoken.strip():
            return ""
        if len(self._schedule) > 1:
            self._schedule.pop(0)
        return spoken


def _end_of_last_word(text: str) -> int:
    """Behind the last white space: 0 where there is none."""
    return next((at for at in range(len(text), 0, -1) if text[at - 1].isspace()), 0)


DEFAULT_CONTEXT = "default"
"""The id of a context that a client does not name."""


@dataclass(slots=True)
class SessionContext:
    """One line of thought: its text, how it is to be spoken, and how long it has spoken."""

    name: str | None
    buffer: TextBuffer
    speed: float = 1.0
    audio_end: float = 0.0  # seconds
    texts: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)  # None is the end


class WebSocketSession:
    """Holds what belongs to one connection."""

    def __init__(
        self,
        vendor: SimulatedVendor,
        socket: web.WebSocketResponse,
        line: WebSocketConnection,
        entry: LedgerEntry,
        action: FaultAction | None,
    ) -> None:
        self._vendor = vendor
        self._socket = socket
        self._line = line
        self._entry = entry
        self._action = action
        self._contexts: dict[str | None, SessionContext] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._speakers: list[asyncio.Task[None]] = []
        self._unsaid = 0  # texts and ends that are still to come, and that nobody has to ask for
        self._over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def run(self, form: SocketEndpoint, voice: str, call: SocketParameters, *, known: bool) -> Ending:
        """Talk until all is said or the client leaves; closing is up to the caller.

        `known` says whether the client has shown its key already. Raises RefusedError for what the vendor would close
        with 1008.
        """
        if isinstance(self._action, IdleTimeout):
            raise _inactivity_error(call)
        self._voice, self._call, self._known = voice, call, known
        hear = self._hear_single if form is SocketEndpoint.SINGLE else self._hear_multi
        self._begin(partial(self._listen, hear))
        try:
            return await self._over
        finally:
            await self._stop()

    async def _listen(self, hear: Callable[[ClientMessage], bool]) -> None:
        """Hear the client out. Behind its last message only its leaving counts."""
        finished = False
        async for message in self._messages():
            if not self._known:
                self._vendor.elevenlabs.check_socket_key(message.api_key)
                self._known = True
            if not finished and hear(message):
                finished = True
                self._begin(self._finish)
        self._end(Ending.CLIENT_LEFT if self._unsaid else Ending.COMPLETED)

    async def _finish(self) -> None:
        """End when everything is said."""
        await asyncio.gather(*self._speakers)
        self._end(Ending.COMPLETED)

    async def _messages(self) -> AsyncIterator[ClientMessage]:
        """What the client says, until it leaves. Raises RefusedError for silence, and for what cannot be read."""
        while True:
            try:
                frame = await self._socket.receive(self._call.inactivity_timeout)
            except TimeoutError:
                if self._unsaid:
                    continue
                raise _inactivity_error(self._call) from None
            match frame.type:
                case WSMsgType.TEXT:
                    yield _parse_message(frame.data)
                case WSMsgType.BINARY:
                    raise _invalid_message()
                case _:
                    return

    def _hear_single(self, message: ClientMessage) -> bool:
        """Take a message; true when it was the last."""
        if message.text is None:
            raise _invalid_message("text: Field required")
        context = self._contexts.get(None)
        if context is None:
            context = self._new_context(None, message)
        self._say(context, message, flush=message.flush or not message.text)
        if message.text:
            return False
        self._close(context)
        return True

    def _hear_multi(self, message: ClientMessage) -> bool:
        if message.close_socket:
            for each in list(self._contexts.values()):
                self._close(each)
            return True
        name = message.context_id or DEFAULT_CONTEXT
        context = self._contexts.get(name)
        if message.close_context:
            if context is not None:
                self._close(context)
            return False
        if message.text is None and not message.flush:
            raise _invalid_message("text: Field required")
        if context is None:
            if not message.text:
                return False  # an empty text keeps alive what is there
            context = self._new_context(name, message)
        elif message.voice_settings is not None:
            text = f"Voice settings can only be given in the first message of a context, and {name} has begun."
            raise RequestRejectedError(Rejection("invalid_voice_settings", text))
        self._say(context, message, flush=message.flush)
        return False

    def _new_context(self, name: str | None, message: ClientMessage) -> SessionContext:
        if len(self._contexts) >= MAX_CONTEXTS:
            text = f"Maximum simultaneous contexts exceeded ({MAX_CONTEXTS})"
            raise RequestRejectedError(Rejection("max_contexts_exceeded", text, status=400))
        schedule = message.chunk_length_schedule or DEFAULT_SCHEDULE
        speed = validate_voice_settings(message.voice_settings or {})
        context = SessionContext(name, TextBuffer(schedule, at_once=self._call.auto_mode), speed)
        self._contexts[name] = context
        self._speakers.append(self._begin(partial(self._attend, context)))
        return context

    def _say(self, context: SessionContext, message: ClientMessage, *, flush: bool) -> None:
        text = context.buffer.take(message.text or "", trigger=message.try_trigger_generation, flush=flush)
        if text:
            self._put(context, text)

    def _close(self, context: SessionContext) -> None:
        """Finish what was flushed, and say no more. Its name is free for another."""
        if self._contexts.get(context.name) is context:
            del self._contexts[context.name]
            self._put(context, None)

    def _put(self, context: SessionContext, text: str | None) -> None:
        self._unsaid += 1
        context.texts.put_nowait(text)

    async def _attend(self, context: SessionContext) -> None:
        """Speak a context's texts in their order, and its end."""
        spoken = True
        while spoken and (text := await context.texts.get()) is not None:
            spoken = await self._spoken(context, text)
            self._unsaid -= 1
        await self._line.final(FinalMessage(context.name))
        if spoken:
            self._unsaid -= 1
        else:
            self._forget(context)

    def _forget(self, context: SessionContext) -> None:
        """End a context before its client did: what it was told is not said, and whoever has only one can go."""
        self._contexts.pop(context.name, None)
        self._unsaid -= context.texts.qsize()
        if context.name is None:
            self._end(Ending.COMPLETED)

    async def _spoken(self, context: SessionContext, text: str) -> bool:
        """Speak a text; false when it was not, and the context has to end."""
        if isinstance(self._action, FinalWithoutAudio):
            return False
        async with self._vendor.request_limit.place():
            try:
                self._vendor.credit.charge(len(text))
            except RequestRejectedError:
                if context.name is None:
                    raise
                return False  # the multi-context websocket just says that it is done
            self._entry.characters += len(text)
            self._vendor.ledger.charge(self._entry, len(text))
            async with aclosing(self._vendor.voice.speak(self._order(context, text), self._action)) as pieces:
                await self._send(context, pieces)
        return True

    async def _send(self, context: SessionContext, pieces: AsyncIterator[EncodedAudio]) -> None:
        began = asyncio.get_running_loop().time()
        before = heard = 0.0
        async for piece in pieces:
            before, heard = heard, piece.audio_end
            due = began + self._vendor.settings.real_time_factor * heard
            await sleep_or_hang(due - asyncio.get_running_loop().time())
            # Neither voice spells numbers out, so the text as it is spoken is the text as it was sent.
            times = self._told(piece.alignment, context.audio_end, before)
            await self._line.sound(AudioMessage(piece.data, times, times, context.name), heard - before)
        context.audio_end += heard

    def _told(self, alignment: Alignment | None, offset: float, before: float) -> Alignment | None:
        if alignment is None:
            return None
        shift = offset if isinstance(self._action, AbsoluteTimes) else -before
        return Alignment.joined([(shift, alignment)])

    def _order(self, context: SessionContext, text: str) -> SynthesisOrder:
        call = self._call
        format = AudioFormat.parse(call.output_format)
        wrapping = ResponseShape.TIMED_STREAM
        return SynthesisOrder(
            self._entry.endpoint, text, self._voice, call.model_id, format, wrapping, call.seed or 0, context.speed
        )

    def _begin(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guarded(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Whatever goes wrong anywhere ends the conversation."""
        try:
            await work()
        except SessionEnded as over:
            self._end(over.ending)
        except Exception as error:
            if not self._over.done():
                self._over.set_exception(error)

    def _end(self, ending: Ending) -> None:
        self._vendor.ledger.end(self._entry, ending)  # at once: the client may be gone before all is cleared away
        if not self._over.done():
            self._over.set_result(ending)

    async def _stop(self) -> None:
        tasks = list(self._work)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _parse_message(frame: str) -> ClientMessage:
    try:
        return parse_message(frame)
    except RequestValidationError as error:
        raise _invalid_message(str(error)) from error


def _inactivity_error(call: SocketParameters) -> RequestRejectedError:
    message = (
        f"Have not received a new text input within the timeout of {call.inactivity_timeout} seconds. Streaming input "
        "terminated. Please make sure to either feed the input in the timely manner, or to send the end of input text "
        '(empty string "") when done.'
    )
    return RequestRejectedError(Rejection("input_timeout_exceeded", message, status=408))


def _invalid_message(why: str = "") -> RequestRejectedError:
    message = "Could not parse input message, make sure it is a json and follows the schema outlined in protocol."
    return RequestRejectedError(Rejection("invalid_input_message", f"{message} {why}".strip(), status=400))
