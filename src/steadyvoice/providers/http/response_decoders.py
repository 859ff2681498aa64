"""Decoders of responses that pack their audio: JSON lines, server-sent events, one JSON document; times of words."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from steadyvoice.providers.base import CHUNK_SIZE, AudioChunk
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSCutError, TTSError, TTSNotAudioError
from steadyvoice.wire.error_response import body_excerpt, redact, single_line
from steadyvoice.wire.json_lines import JSONLineReader

MAX_MESSAGE = 256 * 1024
"""Bytes of one line or event, which is parsed in one step of the event loop: two seconds of the largest format."""

MAX_RESPONSE = 24 * 1024 * 1024
"""Bytes of a response that is one document: six minutes of the largest format in base64."""

_MAX_BEFORE = 16 * 1024  # bytes before the audio of a document that is decoded as it comes

MessageParser = Callable[[bytes], AudioChunk | None]
"""Function of one message that returns its chunk, None for a message without audio and times. Raises TTSError; any
ValueError, TypeError, KeyError or IndexError means that the message is not what the vendor sends.
"""

_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)


class _MessageDecoder:
    """Common part: parsing of a message, and the error behind the chunks that were returned last.

    - `parse`: function that returns the chunk of a message, None if it has no audio.
    - `provider`: name of the provider, for errors.
    - `api_key`: secret that is removed from errors.
    - `data`: bytes of the response.
    """

    def __init__(self, parse: MessageParser, *, provider: str, api_key: str | None = None) -> None:
        self.error: TTSError | None = None
        self._parse, self._provider, self._api_key = parse, provider, api_key

    def _chunk(self, message: bytes) -> AudioChunk | None:
        """Return the chunk of a message. Raises TTSError."""
        try:
            chunk = self._parse(message)
        except TTSError:
            raise
        except KeyError as error:
            key = single_line(redact(repr(error.args[0] if error.args else ""), self._api_key), 60)
            raise self._malformed(f"a message of the response has no {key} (KeyError)", message) from error
        except _MALFORMED as error:
            problem = f"a message of the response is not as expected ({type(error).__name__})"
            raise self._malformed(problem, message) from error
        if chunk is not None and not isinstance(chunk, AudioChunk):
            problem = f"parse returned {type(chunk).__name__} for a message; it has to return an AudioChunk, or None"
            raise self._malformed(problem, message)
        return chunk

    def _malformed(self, problem: str, message: bytes) -> TTSNotAudioError:
        return TTSNotAudioError(problem, provider=self._provider, body=body_excerpt(message, self._api_key))


class LineAudioDecoder(_MessageDecoder):
    """Decoder of a response of JSON lines, or of server-sent events with one line of data each.

    With `events`, only lines that begin with "data:" are messages: names, comments and pauses between events are not.
    A message of more than `max_message` bytes ends the response: other calls wait while one is parsed.
    """

    def __init__(
        self,
        parse: MessageParser,
        *,
        provider: str,
        api_key: str | None = None,
        events: bool = False,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        super().__init__(parse, provider=provider, api_key=api_key)
        self._events = events
        self._lines = JSONLineReader(limit=max_message, long=max_message)

    @property
    def is_between_chunks(self) -> bool:
        """True if the response may end here: no part of a line is held."""
        return not self._lines.rest()

    def feed(self, data: bytes) -> Sequence[AudioChunk]:
        """Add the next bytes of the response, and return the chunks of the lines that they complete."""
        try:
            lines = self._lines.feed(data)
        except TTSError as error:
            self.error = error
            return ()
        return self._chunks([line for line in lines if isinstance(line, bytes)])

    def finish(self) -> Sequence[AudioChunk]:
        """End the response, and return the chunk of a last line without a line break."""
        rest = self._lines.rest()
        return self._chunks([rest]) if rest and isinstance(rest, bytes) else ()

    def _chunks(self, lines: Sequence[bytes]) -> Sequence[AudioChunk]:
        chunks = []
        try:
            for line in lines:
                message = self._message(line)
                if message and (chunk := self._chunk(message)):
                    chunks.append(chunk)
        except TTSError as error:
            self.error = error
        return chunks

    def _message(self, line: bytes) -> bytes:
        line = line.strip()
        if not self._events:
            return line
        return line[5:].strip() if line.startswith(b"data:") else b""


class DocumentAudioDecoder(_MessageDecoder):
    """Decoder of a response that is one JSON document. Its audio comes in pieces, behind the end of the response.

    The document is parsed in one step, in which all other calls wait: some milliseconds for each MiB.
    `Base64FieldDecoder` has no such step.
    """

    # A thread would not spare them that: Python's JSON and base64 keep the interpreter's lock from the first byte to
    # the last. Of 24 MiB, parsed in 0.3 to 0.4 s, the event loop stood for 0.1 to 0.4 s beside a thread as well.

    def __init__(self, parse: MessageParser, *, provider: str, api_key: str | None = None) -> None:
        super().__init__(parse, provider=provider, api_key=api_key)
        self._document = bytearray()

    @property
    def is_between_chunks(self) -> bool:
        """True if the response may end here: nothing of the document is held."""
        return not self._document

    def feed(self, data: bytes) -> Sequence[AudioChunk]:
        """Add the next bytes of the response."""
        self._document += data
        if len(self._document) > MAX_RESPONSE:
            self._document.clear()
            message = f"response is larger than {MAX_RESPONSE >> 20} MiB; a smaller max_characters makes it shorter"
            self.error = TTSNotAudioError(message, provider=self._provider)
        return ()

    def finish(self) -> Sequence[AudioChunk]:
        """End the response, and return its audio, the times with the first piece."""
        document = bytes(self._document)
        self._document.clear()
        try:
            chunk = self._chunk(document)
        except TTSError as error:
            self.error = error
            return ()
        if chunk is None:
            return ()
        pieces = [chunk.data[place : place + CHUNK_SIZE] for place in range(0, len(chunk.data), CHUNK_SIZE)] or [b""]
        return [AudioChunk(pieces[0], chunk.alignment, chunk.normalized), *map(AudioChunk, pieces[1:])]


class Base64FieldDecoder:
    """Decoder of a response that is one JSON document, whose audio in base64 is passed on as it comes.

    `field` is the name of the field with the audio, a string without escapes. Nothing else of the document matters.

    - `provider`: name of the provider, for errors.
    - `data`: bytes of the response.
    """

    def __init__(self, field: str, *, provider: str) -> None:
        self.error: TTSError | None = None
        self._opening = re.compile(rb'"%b"\s*:\s*"' % re.escape(field.encode()))
        self._field, self._provider = field, provider
        self._held = b""  # the beginning of the document, then what is no whole group of four
        self._state = _FieldState.BEFORE

    @property
    def is_between_chunks(self) -> bool:
        """True if the response may end here: the whole field has come."""
        return self._state is _FieldState.BEHIND

    def feed(self, data: bytes) -> Sequence[AudioChunk]:
        """Add the next bytes of the response, and return their audio."""
        if self._state is _FieldState.BEHIND:
            return ()
        text = self._held + data
        if self._state is _FieldState.BEFORE:
            found = self._opening.search(text)
            if found is None:
                self._held = text
                if len(text) > _MAX_BEFORE:
                    self._fail(f"no field {self._field!r} in the first {_MAX_BEFORE >> 10} KiB of the response")
                return ()
            text, self._state = text[found.end() :], _FieldState.WITHIN
        end = text.find(b'"')
        if end >= 0:
            text, self._state = text[:end], _FieldState.BEHIND
        whole = len(text) if end >= 0 else len(text) // 4 * 4
        self._held = text[whole:]
        try:
            audio = base64.b64decode(text[:whole], validate=True)
        except ValueError:
            self._fail(f"field {self._field!r} of the response is not base64")
            return ()
        return [AudioChunk(audio)] if audio else ()

    def finish(self) -> Sequence[AudioChunk]:
        """End the response."""
        if self._state is _FieldState.BEFORE:
            self.error = TTSNotAudioError(
                f"response without a field {self._field!r}", provider=self._provider, body=body_excerpt(self._held)
            )
        elif self._state is _FieldState.WITHIN:
            self.error = TTSCutError("response ends in the middle of its audio", provider=self._provider)
        return ()

    def _fail(self, message: str) -> None:
        self._held, self._state = b"", _FieldState.BEHIND
        self.error = TTSNotAudioError(message, provider=self._provider)


class _FieldState(Enum):
    BEFORE = "before"
    WITHIN = "within"
    BEHIND = "behind"


def align_words(words: Iterable[str], starts: Iterable[float], ends: Iterable[float]) -> Alignment | None:
    """Return the alignment of words, each with a blank behind it; None without any.

    Times are in seconds from the beginning of the response's audio. The words of a response may come in several
    messages. Raises ValueError for as many times as there are not words, and for those that are not finite numbers.

    - `words`: words in order.
    - `starts`: second at which each word begins.
    - `ends`: second at which each word ends.
    """
    spelled = [word.strip() for word in words]
    begins, stops = list(map(float, starts)), list(map(float, ends))
    if not len(spelled) == len(begins) == len(stops):
        raise ValueError(f"{len(spelled)} words, {len(begins)} starts and {len(stops)} ends")
    # A blank is an entry of its own: behind the last word of the text, and between words that are written without
    # blanks, it is the only one that the text does not have. It lasts until the next word begins, if that is known.
    nexts = [*begins[1:], *stops[-1:]]
    return (
        Alignment(
            tuple(part for word in spelled for part in (word, " ")),
            tuple(
                time
                for begin, stop, after in zip(begins, stops, nexts, strict=True)
                for time in (begin, min(stop, after))
            ),
            tuple(time for stop, after in zip(stops, nexts, strict=True) for time in (stop, max(stop, after))),
        )
        if spelled
        else None
    )
