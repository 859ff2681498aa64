"""Session of one websocket: its contexts, each a turn of one conversation, and what their client's messages do.

A message of the client acts at once and never waits. Each context has a task that reads its turn's events and sends
them, and that waits while the client does not read.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from steadyvoice.gateway.http import ClientDisconnectedError
from steadyvoice.gateway.http_server.websocket import NORMAL, SERVICE_RESTART
from steadyvoice.gateway.websocket.turn_messages import TurnMessages, error_message
from steadyvoice.service.conversation.events import Audio
from steadyvoice.service.conversation.turn import AsyncTurn
from steadyvoice.speech.errors import TTSBadRequestError, TTSBusyError, TTSError
from steadyvoice.wire.elevenlabs.websocket import (
    ClientMessage,
    ErrorMessage,
    FieldSpelling,
    SocketParameters,
    encode_message,
    parse_message,
)
from steadyvoice.wire.request_validation import RequestValidationError

MAX_OPEN_CONTEXTS = 16
"""Contexts of one websocket at once, those that finish what was sent included. The vendor has five."""

_DEFAULT_CONTEXT = "default"
_MAX_NAME = 200  # characters of a context's id, which is sent back with every message
_MAX_FAILED = 64  # contexts that have failed, and whose client may still send text
_MALFORMED = "Could not parse input message, make sure it is a json and follows the schema outlined in protocol."


class SocketOutput(Protocol):
    """Websocket as its session sends to it."""

    async def send(self, message: str) -> None:
        """Send a message; wait while the client does not read. Raises ClientDisconnectedError."""
        ...

    def close(self, code: int, reason: str = "") -> None:
        """Close with a close frame."""
        ...


class TurnReporter(Protocol):
    """Record of one turn, for metrics and logs."""

    def add_audio(self, size: int) -> None:
        """Note that so many bytes of audio were sent."""
        ...

    def finish(self, *, complete: bool) -> None:
        """Note that the turn has ended, and whether its client was sent the end."""
        ...


class SessionServices(Protocol):
    """Functions of the endpoint that its sessions need."""

    def authorizes(self, key: str | None) -> bool:
        """Whether a key that came with a message is valid."""
        ...

    def open_turn(self, first: ClientMessage) -> AsyncTurn:
        """Open a turn, with the settings of a context's first message. Raises RequestValidationError and TTSError."""
        ...

    def record(self, turn: AsyncTurn) -> TurnReporter:
        """Return the record of a turn that begins."""
        ...


@dataclass(slots=True, eq=False)
class Context:
    """Context of the client, and its turn. `name` is None on a websocket with a single context."""

    name: str | None
    turn: AsyncTurn
    record: TurnReporter
    messages: TurnMessages
    closed: bool = False  # by the client: what was sent is still spoken
    problem: TTSError | None = None  # with its text, which is reported at its end
    last_text: str = ""

    def push(self, message: ClientMessage, *, is_phrase: bool) -> None:
        """Push the text of a message, and flush if it says so.

        A phrase is spoken at once, and ends a word; in `auto_mode`, every message is one. Pipecat sends sentences
        without a blank between them.
        """
        text = message.text or ""
        if is_phrase and text and self.last_text and not (self.last_text[-1].isspace() or text[0].isspace()):
            text = f" {text}"
        self.last_text = text or self.last_text
        try:
            if text:
                self.turn.push(text)
        except TTSError as error:  # too long: what was pushed before is spoken
            self.problem = error
            self.close()
            return
        if message.flush or (is_phrase and text.strip()):
            self.turn.flush()

    def close(self) -> None:
        """Finish what was sent."""
        self.closed = True
        self.turn.end()


class SpeechSession(ABC):
    """Session of a websocket, and the handler of its messages.

    `authenticated`: a valid key has come with the upgrade; otherwise one has to come within `patience` seconds.
    """

    def __init__(
        self,
        socket: SocketOutput,
        services: SessionServices,
        call: SocketParameters,
        *,
        authenticated: bool,
        patience: float,
    ) -> None:
        self._socket, self._services, self._call = socket, services, call
        self._authenticated, self._patience = authenticated, patience
        self._loop = asyncio.get_running_loop()
        self._began = self._active_at = self._loop.time()
        self._contexts: dict[str | None, Context] = {}  # that take text
        self._speaking: set[Context] = set()  # all that have not ended
        self._failed: dict[str | None, None] = {}  # have ended with an error, and were not closed
        self._tasks: set[asyncio.Task[None]] = set()
        self._deaf = False  # no message of the client counts any more
        self._close_code: int | None = None  # to close with once nothing is spoken any more
        self._over: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> None:
        """Wait until the websocket has closed, and end the turns that are open."""
        try:
            await self._over
        finally:
            self._deaf = True
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            left = list(self._speaking)
            await asyncio.gather(*(context.turn.aclose() for context in left))
            for context in left:
                context.record.finish(complete=False)

    # ---------------------------------------------------------------- calls of the websocket

    def receive(self, message: str) -> None:
        """Handle a message of the client."""
        if self._deaf:
            return
        self._active_at = self._loop.time()
        try:
            parsed = parse_message(message)
        except RequestValidationError as error:
            self._refuse("invalid_input_message", f"{_MALFORMED} {error}")
            return
        if not self._authenticated:
            if not self._services.authorizes(parsed.api_key):
                self._refuse("invalid_api_key", "missing or invalid API key: send it as xi-api-key")
                return
            self._authenticated = True
        self._handle(parsed)

    def refuse_binary(self) -> None:
        """End the session because of a binary message."""
        self._refuse("invalid_input_message", f"{_MALFORMED} Binary messages are not supported.")

    def disconnected(self) -> None:
        """End the session, because the client has left or the websocket is closed."""
        self._deaf = True
        if not self._over.done():
            self._over.set_result(None)

    def tick(self, now: float) -> None:
        """End a session that is idle, or whose client does not send its key."""
        idle = self._call.inactivity_timeout
        if self._deaf:
            return
        if not self._authenticated and now - self._began > self._patience:
            self._refuse("invalid_api_key", f"no API key within {self._patience:g} s")
        elif now - self._active_at > idle and not any(context.closed for context in self._speaking):
            self._refuse("input_timeout_exceeded", f"no message within the inactivity_timeout of {idle:g} s")

    def shutdown(self) -> None:
        """Close with the code for a restart, once nothing is spoken any more."""
        self._close_code = SERVICE_RESTART
        self._close_if_done()

    # ---------------------------------------------------------------- messages

    @abstractmethod
    def _handle(self, message: ClientMessage) -> None:
        """Handle a message of an authenticated client."""

    def _open(self, name: str | None, first: ClientMessage) -> Context | None:
        """Open a context; None, with an error message to the client, if that is not possible."""
        try:
            if len(self._speaking) >= MAX_OPEN_CONTEXTS:
                raise TTSBusyError(f"too many contexts: the limit is {MAX_OPEN_CONTEXTS} at once; close some")
            turn = self._services.open_turn(first)
        except RequestValidationError as error:
            self._fail(name, TTSBadRequestError(str(error)))
            return None
        except TTSError as error:
            self._fail(name, error)
            return None
        messages = TurnMessages(name, absolute=self._call.sync_alignment)
        context = Context(name, turn, self._services.record(turn), messages)
        self._contexts[name] = context
        self._speaking.add(context)
        self._start(self._speak(context))
        return context

    def _push(self, context: Context, message: ClientMessage) -> None:
        context.push(message, is_phrase=self._call.auto_mode)
        if context.problem:
            self._close(context)
            self._note_failed(context.name)

    def _close(self, context: Context) -> None:
        """Finish what was sent. The name can be used again at once."""
        if self._contexts.get(context.name) is context:
            del self._contexts[context.name]
        context.close()

    # ---------------------------------------------------------------- speech

    async def _speak(self, context: Context) -> None:
        """Send the events of a turn, and the end of its context."""
        problem: TTSError | None = None
        try:
            await self._send_events(context)
        except TTSError as error:
            problem = error
        await self._send_end(context, problem or context.problem)
        self._speaking.discard(context)
        context.record.finish(complete=True)
        self._close_if_done()

    async def _send_events(self, context: Context) -> None:
        turn, messages, send = context.turn, context.messages, self._socket.send
        async for event in turn:
            for message in messages.encode(event, turn.text):
                await send(message)
            if isinstance(event, Audio):
                context.record.add_audio(len(event.data))
                self._active_at = self._loop.time()
        for message in messages.rest(turn.text):
            await send(message)

    async def _send_end(self, context: Context, problem: Exception | None) -> None:
        """Send the one message that ends a context."""
        name = context.name
        if problem is None:
            await self._socket.send(context.messages.final())
            return
        if self._contexts.get(name) is context:
            del self._contexts[name]
            self._note_failed(name)
        await self._send_error(problem, name)

    @abstractmethod
    async def _send_error(self, error: Exception, name: str | None) -> None:
        """Tell the client that a context has ended with an error."""

    def _fail(self, name: str | None, error: TTSError) -> None:
        """End a context that has not begun."""
        self._note_failed(name)
        self._start(self._send_error(error, name))

    def _note_failed(self, name: str | None) -> None:
        """Remember a context whose client does not know yet that it has failed, so that its text opens no new one."""
        if len(self._failed) >= _MAX_FAILED:
            del self._failed[next(iter(self._failed))]
        self._failed[name] = None

    # ---------------------------------------------------------------- ends

    def _finish(self) -> None:
        """Finish what was sent, then close."""
        self._deaf, self._close_code = True, NORMAL
        for context in list(self._contexts.values()):
            self._close(context)
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._close_code is not None and not self._speaking:
            self._end(self._close_code, "service restart" if self._close_code == SERVICE_RESTART else "")

    def _refuse(self, code: str, text: str) -> None:
        """End the session with an error, as the vendor does."""
        self._deaf = True
        self._start(self._send_refusal(ErrorMessage(code, text)))

    async def _send_refusal(self, error: ErrorMessage) -> None:
        await self._socket.send(encode_message(error, FieldSpelling.BOTH))
        self._end(error.code, error.message)

    def _end(self, code: int, reason: str) -> None:
        self._socket.close(code, reason)
        self.disconnected()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do work, and end the session with an unexpected error, which the endpoint logs."""
        try:
            await work
        except ClientDisconnectedError:
            pass
        except Exception as error:
            if not self._over.done():
                self._over.set_exception(error)


class MultiContextSession(SpeechSession):
    """Session of `multi-stream-input`: contexts by name."""

    def _handle(self, message: ClientMessage) -> None:
        if message.close_socket:
            self._finish()
            return
        name = message.context_id or _DEFAULT_CONTEXT
        if len(name) > _MAX_NAME:
            self._refuse("invalid_input_message", f"context_id: at most {_MAX_NAME} characters")
            return
        if name in self._failed:
            if message.close_context:
                del self._failed[name]
            return
        context = self._contexts.get(name)
        # An empty text keeps the connection open, and opens no context.
        if context is None and message.text and not message.close_context:
            context = self._open(name, message)
        if context is None:
            return
        self._push(context, message)
        if message.close_context and not context.closed:
            self._close(context)

    async def _send_error(self, error: Exception, name: str | None) -> None:
        await self._socket.send(encode_message(error_message(error, name), FieldSpelling.BOTH))


class SingleContextSession(SpeechSession):
    """Session of `stream-input`: one context, whose end closes the websocket."""

    def _handle(self, message: ClientMessage) -> None:
        context = self._contexts.get(None)
        if context is None:
            context = self._open(None, message)
        if context is None:
            return
        self._push(context, message)
        if message.text == "" or context.closed:
            self._finish()

    async def _send_error(self, error: Exception, name: str | None) -> None:
        await self._send_refusal(error_message(error))
