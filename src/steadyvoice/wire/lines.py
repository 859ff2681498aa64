"""Lines out of a stream of bytes, wherever the network cut it."""

from __future__ import annotations

from steadyvoice.speech.errors import TTSNotAudioError


class Lines:
    """Gathers bytes into lines. `limit` is the largest size of one, in bytes; beyond it is TTSNotAudioError."""

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are now complete, blank ones left out."""
        first, *others = data.split(b"\n")
        self._keep(first)
        lines = []
        for piece in others:
            lines.append(b"".join(self._pieces))
            self._pieces, self._size = [], 0
            self._keep(piece)
        return [line for line in lines if line.strip()]

    def rest(self) -> bytes:
        """What came after the last line break: half a line if the stream was cut."""
        return b"".join(self._pieces).strip()

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise TTSNotAudioError(f"a line of more than {self._limit} bytes, where a short piece of audio belongs")
        self._pieces.append(piece)
