"""Lines of JSON out of a stream of bytes, wherever the network cut it."""

from __future__ import annotations

import base64
import json
import re

from steadyvoice.speech.errors import TTSNotAudioError

MAX_LINE_BYTES = 4 * 1024 * 1024
"""Bytes. A line is held until it ends: this is half a minute of the largest format, in base64 with its times."""

STREAMED_LINE_BYTES = 64 * 1024
"""Bytes of a line that has not ended, from which on its audio is unpacked as it comes."""

MAX_SKELETON_BYTES = 192 * 1024
"""Bytes of one object besides its audio: three thousand characters and their times, twice. They are parsed in one go,
and nothing else runs meanwhile.
"""

_AUDIO = re.compile(rb'"audio_base64"\s{0,9}:\s{0,9}"')
_MAX_KEY_BYTES = 40  # bytes that this may match
_MAX_ESCAPE_BYTES = 6  # bytes of the longest escape in a JSON string, such as \u002b


class StreamedLine:
    """One JSON object with much audio in base64, which is unpacked as it comes. Raises TTSNotAudioError.

    `audio` is what was unpacked so far, `skeleton` the object without it.
    """

    def __init__(self, begun: bytes, limit: int) -> None:
        self.audio: list[bytes] = []
        self.size = 0
        """Bytes of the line so far."""
        self._limit = limit
        self._skeleton = bytearray()
        self._found = self._unpacked = False  # the audio, and its end
        self._rest = b""  # of the base64, not yet unpacked
        if self.feed(begun) is not None:
            raise ValueError("a line that has ended already")

    @property
    def skeleton(self) -> bytes:
        """The object without its audio; none, unless the audio has come to its end."""
        return b"" if self._found and not self._unpacked else bytes(self._skeleton).strip()

    def feed(self, data: bytes) -> bytes | None:
        """Take what came. Gives what lies behind the end of the line, None while it goes on."""
        end = data.find(b"\n")
        self._take(data if end < 0 else data[:end])
        return None if end < 0 else data[end + 1 :]

    def _take(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._limit:
            raise TTSNotAudioError(f"a line of more than {self._limit} bytes, where a short piece of audio belongs")
        if not self._found:
            seen = max(0, len(self._skeleton) - _MAX_KEY_BYTES)
            self._skeleton += data
            found = _AUDIO.search(self._skeleton, seen)
            data = b""
            if found:
                self._found = True
                data = bytes(self._skeleton[found.end() :])
                del self._skeleton[found.end() :]
        if self._found and not self._unpacked and data:
            data = self._unpack(data)
        self._skeleton += data
        if len(self._skeleton) > MAX_SKELETON_BYTES:
            raise TTSNotAudioError(
                f"a line with more than {MAX_SKELETON_BYTES} bytes besides its audio, where times belong"
            )

    def _unpack(self, data: bytes) -> bytes:
        """Unpack the base64 in this, and give what lies behind it."""
        end = data.find(b'"')
        text, behind = (data, b"") if end < 0 else (data[:end], data[end:])
        text, self._rest = self._rest + text, b""
        self._unpacked = end >= 0
        if b"\\" in text:
            text = self._unescaped(text)
        if not self._unpacked:
            whole = len(text) // 4 * 4
            text, self._rest = text[:whole], text[whole:] + self._rest
        try:
            if text:
                self.audio.append(base64.b64decode(text, validate=True))
        except ValueError as error:
            raise TTSNotAudioError("audio in a line of the answer is not base64") from error
        return behind

    def _unescaped(self, text: bytes) -> bytes:
        """Read what a careful writer of JSON has escaped, and leave an escape that is not wholly here for later."""
        cut = text.rfind(b"\\", -_MAX_ESCAPE_BYTES + 1)
        if not self._unpacked and cut >= 0:
            text, self._rest = text[:cut], text[cut:]
        try:
            return str(json.loads(b'"%s"' % text)).encode("ascii")
        except ValueError as error:
            raise TTSNotAudioError("audio in a line of the answer is not base64") from error


class JSONLineReader:
    """Gathers bytes into lines. `limit` is the largest size of one, in bytes; beyond it is TTSNotAudioError.

    The audio of a line of more than `long` bytes is unpacked as it comes: such a line is a StreamedLine.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES, long: int = STREAMED_LINE_BYTES) -> None:
        self._begun = bytearray()
        self._long: StreamedLine | None = None
        self._limit, self._longest_short = limit, long

    @property
    def held(self) -> int:
        """Bytes of the line that has not ended."""
        return self._long.size if self._long else len(self._begun)

    def feed(self, data: bytes) -> list[bytes | StreamedLine]:
        """Return the lines that are now complete, blank ones left out."""
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
        """What came after the last line break: half a line if the stream was cut."""
        return self._long or bytes(self._begun).strip()

    def _keep(self, piece: bytes) -> None:
        if len(self._begun) + len(piece) > self._limit:
            raise TTSNotAudioError(f"a line of more than {self._limit} bytes, where a short piece of audio belongs")
        self._begun += piece
