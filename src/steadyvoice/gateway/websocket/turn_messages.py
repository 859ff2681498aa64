"""Messages of one turn to a websocket's client: audio with the times of its characters, the end, and errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from steadyvoice.gateway.dialects.base import http_error
from steadyvoice.gateway.dialects.elevenlabs import error_code
from steadyvoice.service.conversation.events import Audio, Switched, TurnEvent, Words
from steadyvoice.speech.alignment import Alignment, Word
from steadyvoice.wire.elevenlabs.websocket import (
    AudioMessage,
    ErrorMessage,
    FieldSpelling,
    ServerMessage,
    encode_message,
)

MAX_AUDIO_BYTES = 256 * 1024
"""Audio of one message. In base64, with its times, it is far below the 1 MiB at which `websockets` refuses one."""


class TimedCharacter(NamedTuple):
    """Character with its times, in milliseconds from the beginning of the turn's audio."""

    character: str
    start: int
    end: int

    def not_before(self, time: int) -> TimedCharacter:
        """Return the character with no time before this one."""
        return TimedCharacter(self.character, max(time, self.start), max(time, self.end))


class WordCharacters:
    """Characters of a turn's words, one after the other, with their times.

    Clients split words at blanks, and Pipecat completes a word with the blank after it: so there is one behind every
    word, unless the text goes on without.
    """

    def __init__(self) -> None:
        self._at = 0  # characters of the text that were yielded or left out
        self._follows_blank = True
        self.end = 0
        """Milliseconds from the beginning of the turn, of the last word's end."""

    def of(self, word: Word, text: str) -> Iterator[TimedCharacter]:
        """Yield the characters of the next word of a turn, whose text is `text` so far, and the blanks around it."""
        start = max(self.end, round(word.start * 1000))
        stop = max(start, round(word.stop * 1000))
        is_repeated = word.begin < self._at
        if not self._follows_blank and (is_repeated or any(map(str.isspace, text[self._at : word.begin]))):
            yield TimedCharacter(" ", self.end, start)
        length, span = max(1, len(word.text)), stop - start
        for number, character in enumerate(word.text):
            yield TimedCharacter(character, start + span * number // length, start + span * (number + 1) // length)
        after = text[word.end : word.end + 1]
        self._follows_blank = not after or after.isspace()
        if self._follows_blank:
            yield TimedCharacter(" ", stop, stop)
        self._at, self.end = word.end, stop

    def break_off(self, begin: int, end: int, last: str) -> bool:
        """Return whether the last word belongs to the text from `begin` on, and is spoken again.

        Only characters up to `last` were sent of it, and it ended at `end`.
        """
        if self._at <= begin:
            return False
        self._follows_blank, self.end = last == " ", min(self.end, end)
        return True


class MessageTimes(ABC):
    """Times of the characters of a turn, by message."""

    @abstractmethod
    def of(self, words: Sequence[Word], text: str, audio: Audio | None = None) -> Alignment | None:
        """Return the alignment of the next message: of `words`, which begin in its audio, or follow the last audio.

        `text` is that of the turn so far. None: the message has no characters.
        """

    def switched(self, begin: int) -> None:  # noqa: B027 - most have nothing to forget
        """Note that another voice speaks the text from this offset on."""


class CharacterTimes(MessageTimes):
    """Times of the characters of text-to-speech.

    With `absolute`, times count from the beginning of the context; otherwise those of each message count from the end
    of the characters before. LiveKit, which asks for `sync_alignment`, adds nothing to the times it gets; Pipecat,
    which does not, adds up what each message spans. That the parameter decides is inferred from these two clients, and
    was not seen at the vendor.
    """

    def __init__(self, *, absolute: bool) -> None:
        self._absolute, self._characters = absolute, WordCharacters()

    def of(self, words: Sequence[Word], text: str, audio: Audio | None = None) -> Alignment | None:
        """Return the alignment of words, those of their last ones included that are spoken later."""
        origin = 0 if self._absolute else self._characters.end
        characters = [character for word in words for character in self._characters.of(word, text)]
        return _alignment(characters, origin) if characters else None


class DialogueTimes(MessageTimes):
    """Times of the characters of a dialogue's context: within the audio of their own message, which they fill.

    LiveKit adds the length of the audio of all messages before, Pipecat what their alignments span: so the last
    character of a message lasts to the end of its audio, and of that of messages before it that have no characters. A
    word that goes on in the next message is divided.
    """

    def __init__(self) -> None:
        self._characters = WordCharacters()
        self._waiting: deque[TimedCharacter] = deque()
        self._last = " "  # character that was sent
        self._audio_end = self._uncounted = 0  # milliseconds of the turn, and of audio that no alignment has spanned

    def begin_turn(self) -> None:
        """Begin the next turn of the context, whose times count from 0 again."""
        self._characters, self._audio_end = WordCharacters(), 0

    def switched(self, begin: int) -> None:
        """Forget the rest of a word that the voice before did not finish."""
        if self._characters.break_off(begin, self._audio_end, self._last):
            self._waiting.clear()

    def of(self, words: Sequence[Word], text: str, audio: Audio | None = None) -> Alignment | None:
        """Return the alignment of the characters that begin in the audio; of all that are left, if there is none."""
        for word in words:
            self._waiting += self._characters.of(word, text)
        begin = self._audio_end
        end = begin if audio is None else round((audio.at + audio.seconds) * 1000)
        self._audio_end = end
        self._uncounted += end - begin
        characters = []
        while self._waiting and (audio is None or self._waiting[0].start < end):
            characters.append(self._waiting.popleft().not_before(begin))
        if not characters:
            return None
        last = characters[-1]
        characters[-1] = last._replace(end=max(last.start, begin + self._uncounted))
        self._uncounted, self._last = 0, last.character
        return _alignment(characters, begin)


def _alignment(characters: Sequence[TimedCharacter], origin: int) -> Alignment:
    """Return the alignment with times from `origin` on."""
    starts = tuple([(each.start - origin) / 1000 for each in characters])
    ends = tuple([(each.end - origin) / 1000 for each in characters])
    return Alignment(tuple([each.character for each in characters]), starts, ends)


class TurnMessages:
    """Encoder of one turn's messages. `context_id` is None on a websocket with a single context, `times` for none."""

    def __init__(
        self, context_id: str | None, times: MessageTimes | None, spelling: FieldSpelling = FieldSpelling.BOTH
    ) -> None:
        self._context_id, self._times, self._spelling = context_id, times, spelling
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
                if self._times:
                    self._times.switched(begin)
            case Audio(data, at, seconds):
                begun = [word for word in self._words if word.start < at + seconds]
                self._words = self._words[len(begun) :]
                alignment = self._times.of(begun, text, event) if self._times else None
                yield from self._audio(data, alignment)

    def rest(self, text: str) -> Iterator[str]:
        """Yield the characters that were not followed by audio."""
        words, self._words = self._words, []
        if self._times and (alignment := self._times.of(words, text)):
            yield from self._audio(b"", alignment)

    def _audio(self, data: bytes, alignment: Alignment | None) -> Iterator[str]:
        # The dialogue's second alignment is unused by the vendor, and has another name.
        normalized = None if self._spelling is FieldSpelling.SNAKE else alignment
        first, rest = data[:MAX_AUDIO_BYTES], data[MAX_AUDIO_BYTES:]
        yield self._encoded(AudioMessage(first, alignment, normalized, self._context_id))
        for begin in range(0, len(rest), MAX_AUDIO_BYTES):
            yield self._encoded(AudioMessage(rest[begin : begin + MAX_AUDIO_BYTES], context_id=self._context_id))

    def _encoded(self, message: ServerMessage) -> str:
        return encode_message(message, self._spelling)


def error_message(error: Exception, context_id: str | None = None, *, final: bool = False) -> ErrorMessage:
    """Return the message about an exception; `final`: it ends its context. Without one, it ends the connection."""
    answer = http_error(error)
    return ErrorMessage(error_code(answer), answer.message, context_id=context_id, final=final)
