"""Lines out of a stream of bytes, wherever the network cut it."""

from __future__ import annotations

from steadyvoice.speech.errors import TTSNotAudioError

LONGEST_LINE = 4 * 1024 * 1024
"""Bytes. A line is held until it ends: this is half a minute of the largest format, in base64 with its times."""


class Lines:
    """Gathers bytes into lines. `limit` is the largest size of one, in bytes; beyond it is TTSNotAudioError."""

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self._begun = bytearray()
        self._limit = limit

    @property
    def held(self) -> int:
        """Bytes of the line that has not ended."""
        return len(self._begun)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are now complete, blank ones left out."""
        first, *others = data.split(b"\n")
        self._keep(first)
        if not others:
            return []
        lines = [bytes(self._begun), *others[:-1]]
        self._begun.clear()
        self._keep(others[-1])
        return [line for line in lines if line and not line.isspace()]

    def rest(self) -> bytes:
        """What came after the last line break: half a line if the stream was cut."""
        return bytes(self._begun).strip()

    def _keep(self, piece: bytes) -> None:
        if len(self._begun) + len(piece) > self._limit:
            raise TTSNotAudioError(f"a line of more than {self._limit} bytes, where a short piece of audio belongs")
        self._begun += piece
