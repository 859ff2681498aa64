"""One websocket's conversation, from the first message to the last: texts come in, audio goes out.

Each context speaks its texts in order, and contexts speak at the same time. Text is charged and counted as running
when it is generated, not while it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from aiohttp import WSMsgType, web

from steadyvoice.simulator.acts import AbsoluteTimes, Act, FinalWithoutAudio, IdleTimeout
from steadyvoice.simulator.buffer import Buffer
from steadyvoice.simulator.elevenlabs import checked_voice_settings
from steadyvoice.simulator.ledger import Ending, Entry
from steadyvoice.simulator.line import wait
from steadyvoice.simulator.order import Order, Wrapping
from steadyvoice.simulator.refusal import Refusal, RefusedError
from steadyvoice.simulator.socket_line import HungUp, SocketLine
from steadyvoice.simulator.speaking import Piece
from steadyvoice.simulator.vendor import Vendor
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import AudioFormat
from steadyvoice.wire.elevenlabs.websocket import (
    DEFAULT_SCHEDULE,
    MAX_CONTEXTS,
    AudioMessage,
    ClientMessage,
    FinalMessage,
    SocketEndpoint,
    SocketParameters,
    parse_message,
)
from steadyvoice.wire.request_validation import RequestValidationError

DEFAULT_CONTEXT = "default"
"""The id of a context that a client does not name."""


@dataclass(slots=True)
class Context:
    """One line of thought: its text, how it is to be spoken, and how long it has spoken."""

    name: str | None
    buffer: Buffer
    speed: float = 1.0
    heard: float = 0.0  # seconds
    texts: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)  # None is the end


class Conversation:
    """Holds what belongs to one connection."""

    def __init__(
        self, vendor: Vendor, socket: web.WebSocketResponse, line: SocketLine, entry: Entry, act: Act | None
    ) -> None:
        self._vendor = vendor
        self._socket = socket
        self._line = line
        self._entry = entry
        self._act = act
        self._contexts: dict[str | None, Context] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._speakers: list[asyncio.Task[None]] = []
        self._unsaid = 0  # texts and ends that are still to come, and that nobody has to ask for
        self._over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def run(self, form: SocketEndpoint, voice: str, call: SocketParameters, *, known: bool) -> Ending:
        """Talk until all is said or the client leaves; closing is up to the caller.

        `known` says whether the client has shown its key already. Raises RefusedError for what the vendor would close
        with 1008.
        """
        if isinstance(self._act, IdleTimeout):
            raise _idle(call)
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
                raise _idle(self._call) from None
            match frame.type:
                case WSMsgType.TEXT:
                    yield _read(frame.data)
                case WSMsgType.BINARY:
                    raise _unreadable()
                case _:
                    return

    def _hear_single(self, message: ClientMessage) -> bool:
        """Take a message; true when it was the last."""
        if message.text is None:
            raise _unreadable("text: Field required")
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
            raise _unreadable("text: Field required")
        if context is None:
            if not message.text:
                return False  # an empty text keeps alive what is there
            context = self._new_context(name, message)
        elif message.voice_settings is not None:
            text = f"Voice settings can only be given in the first message of a context, and {name} has begun."
            raise RefusedError(Refusal("invalid_voice_settings", text))
        self._say(context, message, flush=message.flush)
        return False

    def _new_context(self, name: str | None, message: ClientMessage) -> Context:
        if len(self._contexts) >= MAX_CONTEXTS:
            text = f"Maximum simultaneous contexts exceeded ({MAX_CONTEXTS})"
            raise RefusedError(Refusal("max_contexts_exceeded", text, status=400))
        schedule = message.chunk_length_schedule or DEFAULT_SCHEDULE
        speed = checked_voice_settings(message.voice_settings or {})
        context = Context(name, Buffer(schedule, at_once=self._call.auto_mode), speed)
        self._contexts[name] = context
        self._speakers.append(self._begin(partial(self._attend, context)))
        return context

    def _say(self, context: Context, message: ClientMessage, *, flush: bool) -> None:
        text = context.buffer.take(message.text or "", trigger=message.try_trigger_generation, flush=flush)
        if text:
            self._put(context, text)

    def _close(self, context: Context) -> None:
        """Finish what was flushed, and say no more. Its name is free for another."""
        if self._contexts.get(context.name) is context:
            del self._contexts[context.name]
            self._put(context, None)

    def _put(self, context: Context, text: str | None) -> None:
        self._unsaid += 1
        context.texts.put_nowait(text)

    async def _attend(self, context: Context) -> None:
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

    def _forget(self, context: Context) -> None:
        """End a context before its client did: what it was told is not said, and whoever has only one can go."""
        self._contexts.pop(context.name, None)
        self._unsaid -= context.texts.qsize()
        if context.name is None:
            self._end(Ending.COMPLETED)

    async def _spoken(self, context: Context, text: str) -> bool:
        """Speak a text; false when it was not, and the context has to end."""
        if isinstance(self._act, FinalWithoutAudio):
            return False
        async with self._vendor.gate.place():
            try:
                self._vendor.credit.charge(len(text))
            except RefusedError:
                if context.name is None:
                    raise
                return False  # the multi-context websocket just says that it is done
            self._entry.characters += len(text)
            self._vendor.ledger.charge(self._entry, len(text))
            async with aclosing(self._vendor.voice.speak(self._order(context, text), self._act)) as pieces:
                await self._send(context, pieces)
        return True

    async def _send(self, context: Context, pieces: AsyncIterator[Piece]) -> None:
        began = asyncio.get_running_loop().time()
        before = heard = 0.0
        async for piece in pieces:
            before, heard = heard, piece.heard
            due = began + self._vendor.settings.real_time_factor * heard
            await wait(due - asyncio.get_running_loop().time())
            # Neither voice spells numbers out, so the text as it is spoken is the text as it was sent.
            times = self._told(piece.alignment, context.heard, before)
            await self._line.sound(AudioMessage(piece.data, times, times, context.name), heard - before)
        context.heard += heard

    def _told(self, alignment: Alignment | None, offset: float, before: float) -> Alignment | None:
        if alignment is None:
            return None
        shift = offset if isinstance(self._act, AbsoluteTimes) else -before
        return Alignment.joined([(shift, alignment)])

    def _order(self, context: Context, text: str) -> Order:
        call = self._call
        format = AudioFormat.parse(call.output_format)
        wrapping = Wrapping.TIMED_STREAM
        return Order(
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
        except HungUp as over:
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


def _read(frame: str) -> ClientMessage:
    try:
        return parse_message(frame)
    except RequestValidationError as error:
        raise _unreadable(str(error)) from error


def _idle(call: SocketParameters) -> RefusedError:
    message = (
        f"Have not received a new text input within the timeout of {call.inactivity_timeout} seconds. Streaming input "
        "terminated. Please make sure to either feed the input in the timely manner, or to send the end of input text "
        '(empty string "") when done.'
    )
    return RefusedError(Refusal("input_timeout_exceeded", message, status=408))


def _unreadable(why: str = "") -> RefusedError:
    message = "Could not parse input message, make sure it is a json and follows the schema outlined in protocol."
    return RefusedError(Refusal("invalid_input_message", f"{message} {why}".strip(), status=400))
