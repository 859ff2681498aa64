"""Contexts of a websocket's client: what every API's have in common, and those of text-to-speech, each one turn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from steadyvoice.gateway.websocket.turn_messages import CharacterTimes, TurnMessages, error_message
from steadyvoice.service.conversation.events import Audio
from steadyvoice.service.conversation.turn import AsyncTurn
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire.elevenlabs.websocket import (
    ClientMessage,
    FieldSpelling,
    FinalMessage,
    SocketParameters,
    encode_message,
    parse_message,
)


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

    @property
    def max_text_characters(self) -> int:
        """Most characters of a context that wait to be spoken."""
        ...

    def authorizes(self, key: str | None) -> bool:
        """Return whether a key that came with a message is valid."""
        ...

    def validate(self, first: ContextSettings, voice: str | None = None) -> None:
        """Validate the settings of a context's first message. Raises RequestValidationError and TTSError."""
        ...

    def open_turn(self, first: ContextSettings, voice: str | None = None) -> AsyncTurn:
        """Open a turn with these settings and this voice, or that of the path. Raises as `validate` does."""
        ...

    def record(self, turn: AsyncTurn) -> TurnReporter:
        """Return the record of a turn that begins."""
        ...


class ContextSettings(Protocol):
    """Settings of a context, in its first message."""

    @property
    def voice_settings(self) -> Mapping[str, Any] | None: ...

    @property
    def pronunciation_dictionary_locators(self) -> Sequence[Any] | None: ...


class SessionMessage(Protocol):
    """Fields of a client's message that every API has."""

    @property
    def context_id(self) -> str | None: ...

    @property
    def close_context(self) -> bool: ...

    @property
    def close_socket(self) -> bool: ...

    @property
    def api_key(self) -> str | None: ...


Message = TypeVar("Message", bound=SessionMessage)
Sender = Callable[[str], Coroutine[Any, Any, None]]


class ClientContext(ABC, Generic[Message]):
    """Context of the client. `name` is None on a websocket with a single context."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.closed = False
        """Whether the client has closed it. What was sent is still spoken."""
        self.problem: TTSError | None = None
        """Error in its text, which is reported at its end: what was pushed before is spoken."""

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """True if something is left to speak, or may be."""

    @abstractmethod
    def push(self, message: Message) -> None:
        """Take text and flush of a message. An error closes the context, as its `problem`."""

    @abstractmethod
    async def speak(self, send: Sender) -> None:
        """Send all audio, until the context is closed. Raises TTSError and ClientDisconnectedError."""

    @abstractmethod
    def close(self) -> None:
        """Finish what was sent."""

    @abstractmethod
    async def aclose(self) -> None:
        """Interrupt it."""

    @abstractmethod
    def finish(self, *, complete: bool) -> None:
        """Record its last turn, and whether the client was sent the end."""


class SocketAPI(ABC, Generic[Message]):
    """Messages of one API of websockets, and its contexts."""

    @abstractmethod
    def parse(self, message: str) -> Message:
        """Parse a message of the client. Raises RequestValidationError."""

    @abstractmethod
    def opens_context(self, message: Message) -> bool:
        """Return whether a message opens the context it names. Others for a context that is not open are ignored."""

    @abstractmethod
    def new_context(self, name: str | None, first: Message) -> ClientContext[Message]:
        """Return the context that a message opens. Raises RequestValidationError and TTSError."""

    @abstractmethod
    def ends_text(self, message: Message) -> bool:
        """Return whether a message is the last one on a websocket with a single context."""

    @abstractmethod
    def final(self, name: str | None) -> str:
        """Return the message that ends a context."""

    @abstractmethod
    def errors(self, error: Exception, name: str) -> Sequence[str]:
        """Return the messages that end a context with an error."""


class TurnContext(ClientContext[ClientMessage]):
    """Context of text-to-speech: one turn.

    With `auto_mode`, every message is a phrase, which is spoken at once and ends a word: Pipecat sends sentences
    without a blank between them.
    """

    def __init__(
        self, name: str | None, turn: AsyncTurn, record: TurnReporter, messages: TurnMessages, *, auto_mode: bool
    ) -> None:
        super().__init__(name)
        self._turn, self._record, self._messages, self._auto_mode = turn, record, messages, auto_mode
        self._last_text = ""

    @property
    def is_busy(self) -> bool:
        """True until it has ended: its text may go on at any moment."""
        return True

    def push(self, message: ClientMessage) -> None:
        """Push the text of a message, and flush if it says so."""
        text = message.text or ""
        is_phrase = self._auto_mode and bool(text.strip())
        if self._auto_mode and text and self._last_text and not (self._last_text[-1].isspace() or text[0].isspace()):
            text = f" {text}"
        self._last_text = text or self._last_text
        try:
            if text:
                self._turn.push(text)
        except TTSError as error:  # too long
            self.problem = error
            self.close()
            return
        if message.flush or is_phrase:
            self._turn.flush()

    async def speak(self, send: Sender) -> None:
        """Send the events of the turn."""
        await send_turn(self._turn, self._messages, self._record, send)

    def close(self) -> None:
        """Finish what was sent."""
        self.closed = True
        self._turn.end()

    async def aclose(self) -> None:
        """Interrupt the turn."""
        await self._turn.aclose()

    def finish(self, *, complete: bool) -> None:
        """Record the turn."""
        self._record.finish(complete=complete)


async def send_turn(turn: AsyncTurn, messages: TurnMessages, record: TurnReporter, send: Sender) -> None:
    """Send the events of a turn to its end. Raises TTSError and ClientDisconnectedError."""
    async for event in turn:
        for message in messages.encode(event, turn.text):
            await send(message)
        if isinstance(event, Audio):
            record.add_audio(len(event.data))
    for message in messages.rest(turn.text):
        await send(message)


class SpeechAPI(SocketAPI[ClientMessage]):
    """Messages of text-to-speech's websockets."""

    def __init__(self, services: SessionServices, call: SocketParameters) -> None:
        self._services, self._call = services, call

    def parse(self, message: str) -> ClientMessage:
        """Parse a message of the client."""
        return parse_message(message)

    def opens_context(self, message: ClientMessage) -> bool:
        """Return whether it has text. An empty text keeps the connection open."""
        return bool(message.text) and not message.close_context

    def new_context(self, name: str | None, first: ClientMessage) -> TurnContext:
        """Return a context with its turn."""
        turn = self._services.open_turn(first)
        messages = TurnMessages(name, CharacterTimes(absolute=self._call.sync_alignment))
        return TurnContext(name, turn, self._services.record(turn), messages, auto_mode=self._call.auto_mode)

    def ends_text(self, message: ClientMessage) -> bool:
        """Return whether its text is empty."""
        return message.text == ""

    def final(self, name: str | None) -> str:
        """Return the message that ends a context."""
        return encode_message(FinalMessage(name), FieldSpelling.BOTH)

    def errors(self, error: Exception, name: str) -> Sequence[str]:
        """Return one message, because Pipecat ignores errors, and LiveKit what comes after one."""
        return [encode_message(error_message(error, name, final=True), FieldSpelling.BOTH)]
