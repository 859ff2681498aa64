"""Contexts of text-to-dialogue's websockets: lines of several voices in one audio.

Consecutive lines of one voice are one turn of the conversation. The turns of a context are spoken one after the other:
a provider that breaks off is replaced at the next word, and each voice has its own substitute.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence

from steadyvoice.gateway.websocket.client_context import (
    ClientContext,
    Sender,
    SessionServices,
    SocketAPI,
    TurnReporter,
    send_turn,
)
from steadyvoice.gateway.websocket.turn_messages import DialogueTimes, TurnMessages, error_message
from steadyvoice.service.conversation.events import Flushed, TurnEvent
from steadyvoice.service.conversation.turn import AsyncTurn
from steadyvoice.speech.errors import TTSBadRequestError, TTSError, TTSTextTooLongError
from steadyvoice.wire.elevenlabs.dialogue import (
    MAX_VOICES,
    DialogueLine,
    DialogueMessage,
    encode_turn_end,
    parse_dialogue_message,
)
from steadyvoice.wire.elevenlabs.websocket import FieldSpelling, FinalMessage, SocketParameters, encode_message

SPELLING = FieldSpelling.SNAKE


class DialogueMessages(TurnMessages):
    """Encoder of the messages of a context. `timed`: the client has asked for alignments."""

    def __init__(self, name: str | None, *, timed: bool) -> None:
        self._dialogue_times = DialogueTimes()
        super().__init__(name, self._dialogue_times if timed else None, SPELLING)

    def begin_turn(self) -> None:
        """Begin the next turn of the context."""
        self._dialogue_times.begin_turn()

    def encode(self, event: TurnEvent, text: str) -> Iterator[str]:
        """Yield the messages of an event, with those that all audio of what was flushed has been sent."""
        if isinstance(event, Flushed):
            yield from self.rest(text)
            yield encode_turn_end(self._context_id)
        else:
            yield from super().encode(event, text)


class VoiceTurn:
    """Consecutive lines of one voice. Its text waits until the parts before are spoken."""

    def __init__(self, voice: str) -> None:
        self.voice = voice
        self.waiting = 0
        """Characters of text that wait."""
        self._turn: AsyncTurn | None = None
        self._texts: list[str] = []
        self._flushed = self._ended = False

    def push(self, text: str) -> None:
        """Add text. Raises TTSTextTooLongError."""
        if self._turn:
            self._turn.push(text)
        else:
            self._texts.append(text)
            self.waiting += len(text)

    def flush(self) -> None:
        """Speak what there is without waiting for more."""
        self._flushed = True
        if self._turn:
            self._turn.flush()

    def end(self) -> None:
        """Speak all text, then end."""
        self._ended = True
        if self._turn:
            self._turn.end()

    def begin(self, turn: AsyncTurn) -> None:
        """Hand the text to a turn. Raises TTSTextTooLongError."""
        texts, self._texts, self.waiting = self._texts, [], 0
        self._turn = turn
        for text in texts:
            turn.push(text)
        if self._flushed:
            turn.flush()
        if self._ended:
            turn.end()


class DialogueContext(ClientContext[DialogueMessage]):
    """Context of a dialogue. `first` is the message that opened it, with its voices and settings."""

    def __init__(
        self, name: str | None, first: DialogueMessage, services: SessionServices, messages: DialogueMessages
    ) -> None:
        super().__init__(name)
        self._first, self._services, self._messages = first, services, messages
        self._voices = frozenset(first.voices or ())
        self._parts: deque[VoiceTurn] = deque()  # that are not spoken yet
        self._last: VoiceTurn | None = None  # that takes the lines of its voice
        self._speaking: tuple[AsyncTurn, TurnReporter] | None = None
        self._changed = asyncio.Event()

    @property
    def is_busy(self) -> bool:
        """True if lines are spoken, or are to be. Pipecat keeps a context open that never gets any."""
        return bool(self.closed or self._speaking or self._parts)

    def push(self, message: DialogueMessage) -> None:
        """Take the lines of a message, and its flush."""
        try:
            self._take_lines(message)
        except TTSError as error:
            self.problem = error
            self.close()
            return
        if message.flush and self._last:
            self._last.flush()

    async def speak(self, send: Sender) -> None:
        """Send the audio of one part after the other."""
        while (part := await self._next_part()) is not None:
            turn = self._services.open_turn(self._first, part.voice)
            record = self._services.record(turn)
            self._speaking = turn, record
            part.begin(turn)
            self._messages.begin_turn()
            await send_turn(turn, self._messages, record, send)
            await send(encode_turn_end(self.name))
            self.finish(complete=True)

    def close(self) -> None:
        """Finish what was sent."""
        self.closed = True
        self._end_part()
        self._changed.set()

    async def aclose(self) -> None:
        """Interrupt the part that is spoken, and drop the others."""
        self._parts.clear()
        if self._speaking:
            turn, _ = self._speaking
            await turn.aclose()

    def finish(self, *, complete: bool) -> None:
        """Record the part that is spoken."""
        if self._speaking:
            _, record = self._speaking
            self._speaking = None
            record.finish(complete=complete)

    def _take_lines(self, message: DialogueMessage) -> None:
        """Add the lines of a message. Raises TTSBadRequestError and TTSTextTooLongError."""
        settings = (message.voices, message.voice_settings, message.pronunciation_dictionary_locators)
        if message is not self._first and any(each is not None for each in settings):
            raise TTSBadRequestError("voices and voice_settings: only in the first message of a context")
        for line in message.inputs:
            if line.voice_id not in self._voices:
                raise TTSBadRequestError(f"voice_id: {line.voice_id} is not among the voices of the context")
            self._add(line)

    def _add(self, line: DialogueLine) -> None:
        part = self._last
        if part and (line.new_turn or part.voice != line.voice_id):
            self._end_part()
            part = None
        if part is None:
            if not line.text.strip():
                return
            part = self._last = VoiceTurn(line.voice_id)
            self._parts.append(part)
            self._changed.set()
        part.push(line.text)
        limit = self._services.max_text_characters
        if sum(each.waiting for each in self._parts) > limit:
            raise TTSTextTooLongError(f"text of the context too long: the limit is {limit} characters")

    def _end_part(self) -> None:
        if self._last:
            self._last.end()
            self._last = None

    async def _next_part(self) -> VoiceTurn | None:
        """Wait for the next part; None once the context is closed and all are spoken."""
        while not self._parts:
            if self.closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._parts.popleft()


class DialogueAPI(SocketAPI[DialogueMessage]):
    """Messages of text-to-dialogue's websockets."""

    def __init__(self, services: SessionServices, call: SocketParameters) -> None:
        self._services, self._call = services, call

    def parse(self, message: str) -> DialogueMessage:
        """Parse a message of the client."""
        return parse_dialogue_message(message)

    def opens_context(self, message: DialogueMessage) -> bool:
        """Return whether it names voices. Text for a context without voices is an error."""
        return message.voices is not None or any(line.text.strip() for line in message.inputs)

    def new_context(self, name: str | None, first: DialogueMessage) -> DialogueContext:
        """Return a context, which opens a turn once there is text."""
        voices = first.voices or ()
        if not 1 <= len(voices) <= MAX_VOICES or not all(isinstance(voice, str) and voice for voice in voices):
            raise TTSBadRequestError(f"voices: 1 to {MAX_VOICES} ids in the first message of a context")
        for voice in voices:
            self._services.validate(first, voice)
        messages = DialogueMessages(name, timed=self._call.sync_alignment)
        return DialogueContext(name, first, self._services, messages)

    def ends_text(self, message: DialogueMessage) -> bool:
        """Return whether it closes the websocket."""
        return message.close_socket

    def final(self, name: str | None) -> str:
        """Return the message that ends a context."""
        return encode_message(FinalMessage(name), SPELLING)

    def errors(self, error: Exception, name: str) -> Sequence[str]:
        """Return an error and an end: Pipecat reports the one and waits for the other, LiveKit ignores the second."""
        return [encode_message(error_message(error, name), SPELLING), self.final(name)]
