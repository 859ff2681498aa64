"""Session of one websocket, from the first message to the last: text in, audio out.

Each context speaks its texts in order, and contexts speak concurrently. Text is charged, and counted as running, when
it is generated, not while it waits in the buffer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, nullcontext
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
from steadyvoice.wire.elevenlabs.dialogue import MAX_VOICES, DialogueMessage, parse_dialogue_message
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
    """Buffer of text that waits for ElevenLabs' generation schedule.

    The first audio is generated when 120 characters are there, the next after 160 more, and so on. `flush` and the end
    of the text do not wait, and with `auto_mode` nothing does. A word that may still grow is kept back.
    """

    def __init__(self, schedule: Sequence[float] = DEFAULT_SCHEDULE, *, auto_mode: bool = False) -> None:
        self._schedule = list(schedule)
        self._auto_mode = auto_mode
        self._text = ""

    def take(self, text: str, *, trigger: bool = False, flush: bool = False) -> str:
        """Add text, and return the text to speak now, which may be empty.

        `trigger` (`try_trigger_generation`) waits for 50 characters instead of the schedule.
        """
        # A space after a space is the documented way to keep a connection alive, and is no text.
        if text.strip() or self._text[-1:].strip():
            self._text = (self._text + text).lstrip()
        if flush or self._auto_mode:
            return self._take_characters(len(self._text))
        least = min(self._schedule[0], SHORTEST_CHUNK) if trigger else self._schedule[0]
        if len(self._text) < least:
            return ""
        return self._take_characters(_end_of_last_word(self._text) or len(self._text))

    def _take_characters(self, count: int) -> str:
        spoken, self._text = self._text[:count], self._text[count:]
        if not spoken.strip():
            return ""
        if len(self._schedule) > 1:
            self._schedule.pop(0)
        return spoken


def _end_of_last_word(text: str) -> int:
    """Return the position after the last white space, 0 if there is none."""
    return next((at for at in range(len(text), 0, -1) if text[at - 1].isspace()), 0)


DEFAULT_CONTEXT = "default"
"""Id of the context of messages without one."""


@dataclass(slots=True)
class SessionContext:
    """Context of a session: its buffered text, its speed, and the seconds of audio sent so far."""

    name: str | None
    buffer: TextBuffer
    voice: str
    voices: tuple[str, ...] = ()  # that a dialogue may use
    speed: float = 1.0
    audio_end: float = 0.0  # seconds
    texts: asyncio.Queue[tuple[str, str] | None] = field(default_factory=asyncio.Queue)  # text, voice; None is the end


class WebSocketSession:
    """Session of one websocket connection."""

    def __init__(
        self,
        vendor: SimulatedVendor,
        socket: web.WebSocketResponse,
        connection: WebSocketConnection,
        entry: LedgerEntry,
        action: FaultAction | None,
    ) -> None:
        self._vendor = vendor
        self._socket = socket
        self._connection = connection
        self._entry = entry
        self._action = action
        self._contexts: dict[str | None, SessionContext] = {}
        self._draining = 0  # contexts that were closed, and have audio to send
        # The event loop keeps only weak references to tasks.
        self._work: set[asyncio.Task[None]] = set()
        self._speakers: list[asyncio.Task[None]] = []
        # Texts and ends of contexts that are queued and will be sent without further messages. While there are any, a
        # silent client is not inactive, and one that leaves has missed something.
        self._pending = 0
        self._over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def run(
        self, form: SocketEndpoint, voice: str | None, call: SocketParameters, *, authenticated: bool
    ) -> Ending:
        """Run until everything is sent or the client leaves. The caller closes the websocket.

        `voice` is None for a dialogue, whose contexts name their voices. `authenticated` is whether the client has
        given its key already. Raises RequestRejectedError for what the vendor would close with 1008.
        """
        if isinstance(self._action, IdleTimeout):
            raise _inactivity_error(call)
        self._voice, self._call, self._authenticated = voice, call, authenticated
        handle: Callable[[str], bool]
        if voice is None:
            handle = partial(self._handle_dialogue, form)
        else:
            handle = self._handle_single if form is SocketEndpoint.SINGLE else self._handle_multi
        self._start(partial(self._receive, handle))
        try:
            # An open dialogue occupies a concurrent request, the other websockets only what they generate.
            async with self._vendor.request_limit.slot() if voice is None else nullcontext():
                return await self._over
        finally:
            await self._stop()

    async def _receive(self, handle: Callable[[str], bool]) -> None:
        """Handle the client's messages. After its last one only its leaving counts."""
        finished = False
        async for frame in self._frames():
            if not finished and handle(frame):
                finished = True
                self._start(self._finish)
        self._end(Ending.CLIENT_LEFT if self._pending else Ending.COMPLETED)

    async def _finish(self) -> None:
        """End the session when everything is sent."""
        await asyncio.gather(*self._speakers)
        self._end(Ending.COMPLETED)

    async def _frames(self) -> AsyncIterator[str]:
        """Yield the client's messages until it leaves. Raises RequestRejectedError for silence and binary messages."""
        while True:
            try:
                frame = await self._socket.receive(self._call.inactivity_timeout)
            except TimeoutError:
                if self._pending:
                    continue
                raise _inactivity_error(self._call) from None
            match frame.type:
                case WSMsgType.TEXT:
                    yield frame.data
                case WSMsgType.BINARY:
                    raise _invalid_message()
                case _:
                    return

    def _authenticate(self, key: str | None) -> None:
        if not self._authenticated:
            self._vendor.elevenlabs.check_socket_key(key)
            self._authenticated = True

    def _handle_single(self, frame: str) -> bool:
        """Handle a message, and return whether it was the last one."""
        message = _parse_message(frame)
        self._authenticate(message.api_key)
        if message.text is None:
            raise _invalid_message("text: Field required")
        context = self._contexts.get(None)
        if context is None:
            context = self._new_context(None, message)
        self._buffer_text(context, message, flush=message.flush or not message.text)
        if message.text:
            return False
        self._close(context)
        return True

    def _handle_multi(self, frame: str) -> bool:
        message = _parse_message(frame)
        self._authenticate(message.api_key)
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
                return False  # an empty text only keeps contexts alive
            context = self._new_context(name, message)
        elif message.voice_settings is not None:
            text = f"Voice settings can only be given in the first message of a context, and {name} has begun."
            raise RequestRejectedError(Rejection("invalid_voice_settings", text))
        self._buffer_text(context, message, flush=message.flush)
        return False

    def _handle_dialogue(self, form: SocketEndpoint, frame: str) -> bool:
        try:
            message = parse_dialogue_message(frame)
        except RequestValidationError as error:
            raise _invalid_message(str(error)) from error
        self._authenticate(message.api_key)
        if message.close_socket:
            for each in list(self._contexts.values()):
                self._close_dialogue(each)
            return True
        if form is SocketEndpoint.MULTI and message.context_id is None:
            raise _invalid_message("context_id: Field required")
        name = message.context_id if form is SocketEndpoint.MULTI else None
        context = self._contexts.get(name)
        if context is None:
            if message.close_context or message.keep_alive:
                return False
            context = self._new_dialogue(name, message)
        elif message.voices or message.voice_settings is not None:
            raise _invalid_message("voices and voice_settings: only in the first message of a context")
        self._take_lines(context, message)
        if message.close_context:
            self._close_dialogue(context)
        return False

    def _new_dialogue(self, name: str | None, message: DialogueMessage) -> SessionContext:
        voices = tuple(map(str, message.voices or ()))
        if not 1 <= len(voices) <= MAX_VOICES:
            raise _invalid_message(f"voices: 1 to {MAX_VOICES} in the first message of a context")
        for voice in voices:
            self._vendor.elevenlabs.check_voice(voice)
        self._entry.voice = voices[0]
        return self._new_context(name, ClientMessage(voice_settings=message.voice_settings), voices)

    def _take_lines(self, context: SessionContext, message: DialogueMessage) -> None:
        for text, voice, new_turn in message.inputs:
            if voice not in context.voices:
                raise _invalid_message(f"voice_id: {voice} is not among the voices of the context")
            if voice != context.voice or new_turn:
                self._buffer_text(context, ClientMessage(""), flush=True)
                context.voice = voice
            self._buffer_text(context, ClientMessage(text), flush=False)
        if message.flush:
            self._buffer_text(context, ClientMessage(""), flush=True)

    def _close_dialogue(self, context: SessionContext) -> None:
        """End a context of a dialogue, which speaks the rest of its text first."""
        self._buffer_text(context, ClientMessage(""), flush=True)
        self._close(context)

    def _new_context(self, name: str | None, message: ClientMessage, voices: tuple[str, ...] = ()) -> SessionContext:
        if len(self._contexts) + self._draining >= MAX_CONTEXTS:
            text = f"Maximum simultaneous contexts exceeded ({MAX_CONTEXTS})"
            raise RequestRejectedError(Rejection("max_contexts_exceeded", text, status=400))
        schedule = message.chunk_length_schedule or DEFAULT_SCHEDULE
        speed = validate_voice_settings(message.voice_settings or {})
        buffer = TextBuffer(schedule, auto_mode=self._call.auto_mode)
        context = SessionContext(name, buffer, self._voice or voices[0], voices, speed)
        self._contexts[name] = context
        self._speakers.append(self._start(partial(self._speak_context, context)))
        return context

    def _buffer_text(self, context: SessionContext, message: ClientMessage, *, flush: bool) -> None:
        text = context.buffer.take(message.text or "", trigger=message.try_trigger_generation, flush=flush)
        if text:
            self._enqueue(context, (text, context.voice))

    def _close(self, context: SessionContext) -> None:
        """Finish a context with the text that was flushed. Its name can be used again at once.

        Until its audio is sent, it counts as a context: https://github.com/livekit/agents-js/issues/1985.
        """
        if self._contexts.get(context.name) is context:
            del self._contexts[context.name]
            self._draining += 1
            self._enqueue(context, None)

    def _enqueue(self, context: SessionContext, text: tuple[str, str] | None) -> None:
        self._pending += 1
        context.texts.put_nowait(text)

    async def _speak_context(self, context: SessionContext) -> None:
        """Send the audio of a context's texts in order, then its end."""
        spoken = True
        while spoken and (text := await self._next_text(context)) is not None:
            spoken = await self._speak(context, *text)
            self._pending -= 1
        if self._contexts.get(context.name) is not context:
            self._draining -= 1
        await self._connection.final(FinalMessage(context.name))
        if spoken:
            self._pending -= 1
        else:
            self._abort(context)

    async def _next_text(self, context: SessionContext) -> tuple[str, str] | None:
        """Return the next text of a context, and its voice; None at its end."""
        return await context.texts.get()

    def _abort(self, context: SessionContext) -> None:
        """End a context early: its queued texts are dropped, and a session with a single context ends."""
        if self._contexts.get(context.name) is context:
            del self._contexts[context.name]
        self._pending -= context.texts.qsize()
        if context.name is None:
            self._end(Ending.COMPLETED)

    async def _speak(self, context: SessionContext, text: str, voice: str) -> bool:
        """Send the audio of a text. Returns False if the context has to end instead."""
        if isinstance(self._action, FinalWithoutAudio):
            return False
        async with nullcontext() if self._voice is None else self._vendor.request_limit.slot():
            try:
                self._vendor.credit.charge(len(text))
            # Without credit the single websocket reports the error, and the multi-context one only ends the context.
            except RequestRejectedError:
                if context.name is None:
                    raise
                return False
            self._entry.characters += len(text)
            self._vendor.ledger.charge(self._entry, len(text))
            async with aclosing(self._vendor.voice.speak(self._order(context, text, voice), self._action)) as pieces:
                await self._send(context, pieces)
        return True

    async def _send(self, context: SessionContext, pieces: AsyncIterator[EncodedAudio]) -> None:
        began = asyncio.get_running_loop().time()
        before = audio_end = 0.0
        async for piece in pieces:
            before, audio_end = audio_end, piece.audio_end
            due = began + self._vendor.settings.real_time_factor * audio_end
            await sleep_or_hang(due - asyncio.get_running_loop().time())
            # Neither voice spells out numbers, so the normalized alignment is that of the text as it was sent.
            times = self._times(piece.alignment, context.audio_end, before)
            await self._connection.sound(AudioMessage(piece.data, times, times, context.name), audio_end - before)
        context.audio_end += audio_end

    def _times(self, alignment: Alignment | None, offset: float, before: float) -> Alignment | None:
        if alignment is None:
            return None
        absolute = isinstance(self._action, AbsoluteTimes) or self._vendor.settings.socket_times == "context"
        shift = offset if absolute else -before
        return Alignment.joined([(shift, alignment)])

    def _order(self, context: SessionContext, text: str, voice: str) -> SynthesisOrder:
        call = self._call
        format = AudioFormat.parse(call.output_format)
        shape = ResponseShape.TIMED_STREAM
        return SynthesisOrder(
            self._entry.endpoint, text, voice, call.model_id, format, shape, call.seed or 0, context.speed
        )

    def _start(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guard(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """End the session with the error of any of its tasks."""
        try:
            await work()
        except SessionEnded as over:
            self._end(over.ending)
        except Exception as error:
            if not self._over.done():
                self._over.set_exception(error)

    def _end(self, ending: Ending) -> None:
        # Recorded at once: the client may be gone before the tasks are stopped.
        self._vendor.ledger.end(self._entry, ending)
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
