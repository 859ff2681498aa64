"""Messages of one turn to a websocket's client: audio with the times of its characters, the end, and errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from steadyvoice.gateway.dialects.base import http_error
from steadyvoice.gateway.dialects.elevenlabs import error_code
from steadyvoice.service.conversation.events import Audio, Switched, TurnEvent, Words
from steadyvoice.speech.alignment import Alignment, Word
from steadyvoice.wire.elevenlabs.websocket import (
    AudioMessage,
    ErrorMessage,
    FieldSpelling,
    FinalMessage,
    ServerMessage,
    encode_message,
)

MAX_AUDIO_BYTES = 256 * 1024
"""Audio of one message. In base64, with its times, it is far below the 1 MiB at which `websockets` refuses one."""


@dataclass(slots=True)
class TimedCharacters:
    """Characters of a message with their times, in milliseconds from the beginning of the turn's audio."""

    characters: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def add(self, character: str, start: int, end: int) -> None:
        """Add a character."""
        self.characters.append(character)
        self.starts.append(start)
        self.ends.append(end)

    def from_origin(self, origin: int) -> Alignment:
        """Return the alignment with times from `origin` on."""
        starts, ends = ([(each - origin) / 1000 for each in times] for times in (self.starts, self.ends))
        return Alignment(tuple(self.characters), tuple(starts), tuple(ends))


class CharacterTimes:
    """Times of the characters of a turn, by message.

    Clients split words at blanks, and Pipecat completes a word with the blank after it: so there is one behind every
    word, unless the text goes on without. With `absolute`, times count from the beginning of the context; otherwise
    those of each message count from the end of the characters before. LiveKit, which asks for `sync_alignment`, adds
    nothing to the times it gets; Pipecat, which does not, adds up what each message spans. That the parameter decides
    is inferred from these two clients, and was not seen at the vendor.
    """

    def __init__(self, *, absolute: bool) -> None:
        self._absolute = absolute
        self._at = 0  # characters of the text that were sent or left out
        self._end = 0  # milliseconds, of the last character
        self._follows_blank = True

    def of(self, words: Sequence[Word], text: str) -> Alignment | None:
        """Return the alignment of the next words of a turn, whose text is `text` so far; None for no words."""
        if not words:
            return None
        times, origin = TimedCharacters(), 0 if self._absolute else self._end
        for word in words:
            self._add(word, text, times)
        return times.from_origin(origin)

    def _add(self, word: Word, text: str, times: TimedCharacters) -> None:
        start = max(self._end, round(word.start * 1000))
        stop = max(start, round(word.stop * 1000))
        is_repeated = word.begin < self._at
        if not self._follows_blank and (is_repeated or any(map(str.isspace, text[self._at : word.begin]))):
            times.add(" ", self._end, start)
        length = max(1, len(word.text))
        for number, character in enumerate(word.text):
            times.add(
                character, start + (stop - start) * number // length, start + (stop - start) * (number + 1) // length
            )
        after = text[word.end : word.end + 1]
        self._follows_blank = not after or after.isspace()
        if self._follows_blank:
            times.add(" ", stop, stop)
        self._at, self._end = word.end, stop


class TurnMessages:
    """Encoder of one turn's messages. `context_id` is None on a websocket with a single context."""

    def __init__(self, context_id: str | None, *, absolute: bool, spelling: FieldSpelling = FieldSpelling.BOTH) -> None:
        self._context_id, self._spelling = context_id, spelling
        self._times = CharacterTimes(absolute=absolute)
        self._words: list[Word] = []

    def encode(self, event: TurnEvent, text: str) -> Iterator[str]:
        """Yield the messages of an event.

        Words are sent with the audio in which they begin. Where their times are estimated, they are known long before,
        and are not spoken if their provider breaks off.
        """
        match event:
            case Words(words):
                self._words += words
            case Switched(begin=begin):
                self._words = [word for word in self._words if word.begin < begin]
            case Audio(data, at, seconds):
                begun = [word for word in self._words if word.start < at + seconds]
                self._words = self._words[len(begun) :]
                yield from self._audio(data, begun, text)

    def rest(self, text: str) -> Iterator[str]:
        """Yield the words that were not followed by audio."""
        if self._words:
            yield from self._audio(b"", self._words, text)

    def final(self) -> str:
        """Return the message that ends the context."""
        return self._encoded(FinalMessage(self._context_id))

    def error(self, error: Exception) -> str:
        """Return the message that ends the context with an error."""
        return self._encoded(error_message(error, self._context_id))

    def _audio(self, data: bytes, words: Sequence[Word], text: str) -> Iterator[str]:
        alignment = self._times.of(words, text)
        first, rest = data[:MAX_AUDIO_BYTES], data[MAX_AUDIO_BYTES:]
        yield self._encoded(AudioMessage(first, alignment, alignment, self._context_id))
        for begin in range(0, len(rest), MAX_AUDIO_BYTES):
            yield self._encoded(AudioMessage(rest[begin : begin + MAX_AUDIO_BYTES], context_id=self._context_id))

    def _encoded(self, message: ServerMessage) -> str:
        return encode_message(message, self._spelling)


def error_message(error: Exception, context_id: str | None = None) -> ErrorMessage:
    """Return the message about an exception: the end of a context, or of the connection if it is about none."""
    answer = http_error(error)
    return ErrorMessage(error_code(answer), answer.message, context_id=context_id, final=context_id is not None)
