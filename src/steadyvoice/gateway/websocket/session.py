"""Session of one websocket: its contexts, which speak by turns of one conversation, and its client's messages.

A message of the client acts at once and never waits. Each context has a task that reads its turns' events and sends
them, and that waits while the client does not read.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Generic, Protocol

from steadyvoice.gateway.http import ClientDisconnectedError
from steadyvoice.gateway.http_server.websocket import NORMAL, SERVICE_RESTART
from steadyvoice.gateway.websocket.client_context import ClientContext, Message, SessionServices, SocketAPI
from steadyvoice.gateway.websocket.turn_messages import error_message
from steadyvoice.speech.errors import TTSBadRequestError, TTSBusyError, TTSError
from steadyvoice.wire.elevenlabs.websocket import ErrorMessage, FieldSpelling, encode_message
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


class SpeechSession(ABC, Generic[Message]):
    """Session of a websocket, and the handler of its messages.

    `authenticated`: a valid key has come with the upgrade; otherwise one has to come within `patience` seconds.
    """

    def __init__(
        self,
        socket: SocketOutput,
        services: SessionServices,
        api: SocketAPI[Message],
        *,
        inactivity_timeout: float,
        authenticated: bool,
        patience: float,
    ) -> None:
        self._socket, self._services, self._api = socket, services, api
        self._inactivity_timeout = inactivity_timeout
        self._authenticated, self._patience = authenticated, patience
        self._loop = asyncio.get_running_loop()
        self._began = self._active_at = self._loop.time()
        self._contexts: dict[str | None, ClientContext[Message]] = {}  # that take text
        self._speaking: set[ClientContext[Message]] = set()  # all that have not ended
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
            await asyncio.gather(*(context.aclose() for context in left))
            for context in left:
                context.finish(complete=False)

    # ---------------------------------------------------------------- calls of the websocket

    def receive(self, message: str) -> None:
        """Handle a message of the client."""
        if self._deaf:
            return
        self._active_at = self._loop.time()
        try:
            parsed = self._api.parse(message)
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
        """End a session that is idle, whose client does not send its key, or that was to end once nothing is spoken."""
        idle = self._inactivity_timeout
        self._close_if_done()
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
    def _handle(self, message: Message) -> None:
        """Handle a message of an authenticated client."""

    def _open(self, name: str | None, first: Message) -> ClientContext[Message] | None:
        """Open a context; None, with an error message to the client, if that is not possible."""
        try:
            if len(self._speaking) >= MAX_OPEN_CONTEXTS:
                raise TTSBusyError(f"too many contexts: the limit is {MAX_OPEN_CONTEXTS} at once; close some")
            context = self._api.new_context(name, first)
        except RequestValidationError as error:
            self._fail(name, TTSBadRequestError(str(error)))
            return None
        except TTSError as error:
            self._fail(name, error)
            return None
        self._contexts[name] = context
        self._speaking.add(context)
        self._start(self._speak(context))
        return context

    def _push(self, context: ClientContext[Message], message: Message) -> None:
        context.push(message)
        if context.problem:
            self._close(context)
            self._note_failed(context.name)

    def _close(self, context: ClientContext[Message]) -> None:
        """Finish what was sent. The name can be used again at once."""
        if self._contexts.get(context.name) is context:
            del self._contexts[context.name]
        context.close()

    # ---------------------------------------------------------------- speech

    async def _speak(self, context: ClientContext[Message]) -> None:
        """Send the audio of a context, and its end."""
        problem: TTSError | None = None
        try:
            await context.speak(self._send)
        except TTSError as error:
            problem = error
        await self._send_end(context, problem or context.problem)
        self._speaking.discard(context)
        context.finish(complete=True)
        self._close_if_done()

    async def _send(self, message: str) -> None:
        await self._socket.send(message)
        self._active_at = self._loop.time()

    async def _send_end(self, context: ClientContext[Message], problem: Exception | None) -> None:
        """Send what ends a context."""
        name = context.name
        if problem is None:
            await self._socket.send(self._api.final(name))
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
        if self._close_code is not None and not any(context.is_busy for context in self._speaking):
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


class MultiContextSession(SpeechSession[Message]):
    """Session of `multi-stream-input`: contexts by name."""

    def _handle(self, message: Message) -> None:
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
        if context is None and self._api.opens_context(message):
            context = self._open(name, message)
        if context is None:
            return
        self._push(context, message)
        if message.close_context and not context.closed:
            self._close(context)

    async def _send_error(self, error: Exception, name: str | None) -> None:
        for message in self._api.errors(error, name or _DEFAULT_CONTEXT):
            await self._socket.send(message)


class SingleContextSession(SpeechSession[Message]):
    """Session of `stream-input`: one context, whose end closes the websocket."""

    def _handle(self, message: Message) -> None:
        context = self._contexts.get(None)
        if context is None and (self._api.opens_context(message) or self._api.ends_text(message)):
            context = self._open(None, message)
        if context is None:
            return
        self._push(context, message)
        if self._api.ends_text(message) or context.closed:
            self._finish()

    async def _send_error(self, error: Exception, name: str | None) -> None:
        await self._send_refusal(error_message(error))
