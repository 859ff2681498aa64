"""JSON lines (NDJSON) in a stream of bytes, with the base64 audio of long lines decoded as it arrives."""

from __future__ import annotations

import base64
import json
import re

from steadyvoice.speech.errors import TTSNotAudioError

MAX_LINE_BYTES = 4 * 1024 * 1024
"""Bytes. A line is buffered until it ends: this is half a minute of the largest format, in base64 with timestamps."""

STREAMED_LINE_BYTES = 64 * 1024
"""Bytes of an incomplete line above which its audio is decoded as it arrives."""

MAX_SKELETON_BYTES = 192 * 1024
"""Bytes of one object besides its audio: three thousand characters and their timestamps, twice.

They are parsed at once, which blocks the event loop.
"""

_AUDIO = re.compile(rb'"audio_base64"\s{0,9}:\s{0,9}"')
_MAX_KEY_BYTES = 40  # that `_AUDIO` may match
_MAX_ESCAPE_BYTES = 6  # of an escape in a JSON string, such as \u002b


# Parsing a complete line of 4 MiB at once blocked the event loop for all other streams. So the base64 of a long line
# is decoded in pieces, and only the small rest is parsed as JSON.
class StreamedLine:
    """JSON object with much audio in base64, which is decoded as it arrives. Raises TTSNotAudioError.

    `audio` is the audio so far, `skeleton` the object without it.
    """

    def __init__(self, begun: bytes, limit: int) -> None:
        self.audio: list[bytes] = []
        self.size = 0
        """Bytes of the line so far."""
        self._limit = limit
        self._skeleton = bytearray()
        self._found = self._unpacked = False  # whether the beginning and the end of the audio were found
        self._rest = b""  # of the base64, not decoded yet
        if self.feed(begun) is not None:
            raise ValueError("the line has ended already")

    @property
    def skeleton(self) -> bytes:
        """Object without its audio; empty until the audio is complete."""
        return b"" if self._found and not self._unpacked else bytes(self._skeleton).strip()

    def feed(self, data: bytes) -> bytes | None:
        """Add data. Return the data behind the end of the line, None while the line continues."""
        end = data.find(b"\n")
        self._take(data if end < 0 else data[:end])
        return None if end < 0 else data[end + 1 :]

    def _take(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._limit:
            raise TTSNotAudioError(f"a line of the response is longer than {self._limit} bytes")
        if not self._found:
            # The key may be split between two reads, so the end of what was searched is searched again.
            start = max(0, len(self._skeleton) - _MAX_KEY_BYTES)
            self._skeleton += data
            found = _AUDIO.search(self._skeleton, start)
            data = b""
            if found:
                self._found = True
                data = bytes(self._skeleton[found.end() :])
                del self._skeleton[found.end() :]
        if self._found and not self._unpacked and data:
            data = self._unpack(data)
        self._skeleton += data
        if len(self._skeleton) > MAX_SKELETON_BYTES:
            raise TTSNotAudioError(f"a line of the response has more than {MAX_SKELETON_BYTES} bytes besides its audio")

    def _unpack(self, data: bytes) -> bytes:
        """Decode the base64 in the data, and return the data behind it."""
        end = data.find(b'"')
        text, behind = (data, b"") if end < 0 else (data[:end], data[end:])
        text, self._rest = self._rest + text, b""
        self._unpacked = end >= 0
        if b"\\" in text:
            text = self._unescaped(text)
        if not self._unpacked:
            complete = len(text) // 4 * 4
            text, self._rest = text[:complete], text[complete:] + self._rest
        try:
            if text:
                self.audio.append(base64.b64decode(text, validate=True))
        except ValueError as error:
            raise TTSNotAudioError("audio in a line of the response is not base64") from error
        return behind

    def _unescaped(self, text: bytes) -> bytes:
        """Resolve escapes, which some JSON encoders write for "+" and "/"; an incomplete escape is kept for later."""
        cut = text.rfind(b"\\", -_MAX_ESCAPE_BYTES + 1)
        if not self._unpacked and cut >= 0:
            text, self._rest = text[:cut], text[cut:]
        try:
            return str(json.loads(b'"%s"' % text)).encode("ascii")
        except ValueError as error:
            raise TTSNotAudioError("audio in a line of the response is not base64") from error


def split_lines(lines: bytes) -> list[bytes]:
    """Return the lines in a piece, without blank ones."""
    return list(filter(bytes.strip, lines.split(b"\n")))


class JSONLineReader:
    """Splitter of a stream of bytes into lines. Raises TTSNotAudioError for a line of more than `limit` bytes.

    A line of more than `long` bytes is returned as a StreamedLine, whose audio is decoded as it arrives.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES, long: int = STREAMED_LINE_BYTES) -> None:
        self._begun = bytearray()
        self._long: StreamedLine | None = None
        self._limit, self._longest_short = limit, long
        self.held = 0
        """Bytes of the incomplete line."""

    def feed(self, data: bytes) -> list[bytes | StreamedLine]:
        """Add data, and return the lines that are now complete, without blank ones."""
        lines = self.feed_short(data)
        if lines is not None:
            return [*split_lines(lines)]
        ended = self._split(data)
        self.held = self._long.size if self._long else len(self._begun)
        return ended

    def feed_short(self, data: bytes) -> bytes | None:
        """Add data, and return the lines that are now complete, in one piece; None, and adds nothing, if one is long.

        None as well if no line is complete.
        """
        end, begun = data.rfind(b"\n") + 1, self._begun
        left = len(data) - end
        if self._long or not end or len(begun) + end > self._limit or left > self._longest_short:
            return None
        lines = bytes(begun) + data[:end]
        begun[:] = data[end:]
        self.held = left
        return lines

    def _split(self, data: bytes) -> list[bytes | StreamedLine]:
        ended: list[bytes | StreamedLine] = []
        if self._long:
            behind = self._long.feed(data)
            if behind is None:
                return ended
            ended.append(self._long)
            self._long, data = None, behind
        first, *others = data.split(b"\n")
        self._keep(first)
        if others:
            lines = [bytes(self._begun), *others[:-1]]
            self._begun.clear()
            self._keep(others[-1])
            ended += [line for line in lines if line and not line.isspace()]
        if len(self._begun) > self._longest_short:
            self._long = StreamedLine(bytes(self._begun), self._limit)
            self._begun.clear()
        return ended

    def rest(self) -> bytes | StreamedLine:
        """Return the data behind the last line break: a part of a line if the stream was cut."""
        return self._long or bytes(self._begun).strip()

    def _keep(self, piece: bytes) -> None:
        if len(self._begun) + len(piece) > self._limit:
            raise TTSNotAudioError(f"a line of the response is longer than {self._limit} bytes")
        self._begun += piece
