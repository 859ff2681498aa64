"""Content codings of responses (RFC 9110, 8.4): decompression of gzip and deflate in bounded steps.

Requests ask for no compression (`Accept-Encoding: identity`); servers and proxies that compress all the same use gzip
or deflate. Any other coding is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from steadyvoice.providers.base import CHUNK_SIZE, ByteSink, WorkBudget
from steadyvoice.providers.http.transport import HTTPResponse
from steadyvoice.wire.error_response import single_line

# Compressed bytes that zlib gets at once: few, because it copies the unused ones after each step, and very few at the
# beginning of a gzip member, because members may be short.
_FIRST_SLICE, _LARGEST_SLICE = 32, 4 * 1024

_GZIP = ("gzip", "x-gzip")
_IDENTITY = ("", "identity")
_DECODED_BY_PARSER = ("", "identity", "chunked")


class UnsupportedCodingError(Exception):
    """Raised for a body in a coding that was not requested and is not supported."""


def decompressor_for(headers: Mapping[str, str]) -> Decompressor | None:
    """Return the decompressor for a body with these headers (lower-case names), None if it is not compressed.

    Raises UnsupportedCodingError, also for several codings on top of each other: no speech server sends them.
    """
    transfer = [each for each in _header_tokens(headers, "transfer-encoding") if each not in _DECODED_BY_PARSER]
    codings = [each for each in _header_tokens(headers, "content-encoding") if each not in _IDENTITY]
    if transfer or len(codings) > 1:
        raise UnsupportedCodingError(single_line(", ".join(codings + transfer), 60))
    match codings:
        case []:
            return None
        case [coding] if coding in _GZIP:
            return Decompressor(gzip=True)
        case ["deflate"]:
            return Decompressor(gzip=False)
        case [coding]:
            raise UnsupportedCodingError(single_line(coding, 60))
    raise AssertionError  # the cases above are exhaustive


class Decompressor:
    """Decompressor of gzip, with any number of members, or of deflate, with zlib's wrapping or without.

    Call `feed`, then `take` until it returns nothing, and `end` at the end. A truncated or damaged body, or one that is
    followed by other bytes, raises ConnectionError: a part of a response must never pass for the whole.
    """

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._data, self._at = b"", 0  # the bytes fed, and the number of them that zlib has got
        self._member = zlib.decompressobj(31) if gzip else None
        self._slice = _FIRST_SLICE
        self._full = False  # the last output was of the maximum size: zlib may hold more
        self._begun = False

    def feed(self, data: bytes) -> None:
        """Add compressed bytes. The output of those before has to be taken first."""
        self._data, self._at = (self._data[self._at :] + data if self._at < len(self._data) else data), 0

    def take(self) -> bytes:
        """Return at most CHUNK_SIZE decompressed bytes; b"" once all compressed bytes are used up."""
        try:
            while (piece := self._next_input()) is not None:
                if plain := self._decompress(*piece):
                    return plain
        except zlib.error as error:
            raise ConnectionError(f"compressed body is damaged: {error}") from error
        return b""

    def end(self) -> None:
        """Check that the last member is complete. Raises ConnectionError."""
        if (self._begun or self._data) and not (self._member and self._member.eof):
            raise ConnectionError("compressed body ends too early")

    def _next_input(self) -> tuple[zlib._Decompress, bytes] | None:
        """Return zlib's object and the next bytes for it; None when more have to be fed."""
        member = self._member or self._deflate()
        if member is None:
            return None
        if not member.eof and (member.unconsumed_tail or self._full):
            return member, member.unconsumed_tail
        piece = self._data[self._at : self._at + self._slice]
        if not piece:
            self._data, self._at = b"", 0
            return None
        if member.eof:
            if not self._gzip:
                raise ConnectionError("compressed body is followed by other bytes")
            # Some servers end a gzip member with each flush, so the next one begins here.
            member = self._member = zlib.decompressobj(31)
        self._at += len(piece)
        self._slice = min(2 * self._slice, _LARGEST_SLICE)
        return member, piece

    def _decompress(self, member: zlib._Decompress, piece: bytes) -> bytes:
        self._begun = True
        # A gzip of zeros, decompressed at once, was hundreds of megabytes within one iteration of the event loop.
        plain = member.decompress(piece, CHUNK_SIZE)
        self._full = len(plain) == CHUNK_SIZE and not member.eof
        if member.eof:
            self._at -= len(member.unused_data)
            self._slice = _FIRST_SLICE
        return plain

    def _deflate(self) -> zlib._Decompress | None:
        """Return zlib's object for deflate; None until two bytes have come."""
        # "deflate" is zlib's format (RFC 9110, 8.4.1.2), but some servers send the bare stream. The first two bytes
        # show which one it is (RFC 1950, 2.2).
        if len(self._data) < 2:
            return None
        wrapped = self._data[0] & 0x0F == 8 and int.from_bytes(self._data[:2], "big") % 31 == 0
        self._member = zlib.decompressobj(15 if wrapped else -15)
        return self._member


class DecompressedResponse:
    """Response whose body is decompressed as it is read."""

    __slots__ = ("_budget", "_decompressor", "_ended", "_response", "headers", "status")

    def __init__(self, response: HTTPResponse, decompressor: Decompressor) -> None:
        self.status, self.headers = response.status, response.headers
        self._response, self._decompressor = response, decompressor
        self._budget = WorkBudget()
        self._ended = False

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """Return the next decompressed bytes, b"" at the end. `sink` is not used. Raises OSError."""
        while (data := self.read_nowait()) is None:
            if self._budget.exhausted:
                await self._budget.yield_to_loop()
            else:
                self._add(await self._response.read())
        return data

    def read_nowait(self) -> bytes | None:
        """Return the next decompressed bytes, b"" at the end, or None if that needs a wait or a turn of the loop."""
        while not self._budget.exhausted:
            if plain := self._decompressor.take():
                self._budget.spend(len(plain))
                return plain
            if self._ended:
                return b""
            compressed = self._response.read_nowait()
            if compressed is None:
                return None
            self._add(compressed)
        return None

    def close(self) -> None:
        """Abandon the rest of the response."""
        self._response.close()

    def _add(self, compressed: bytes) -> None:
        self._budget.spend(len(compressed))
        if compressed:
            self._decompressor.feed(compressed)
        else:
            self._decompressor.end()
            self._ended = True


def _header_tokens(headers: Mapping[str, str], name: str) -> list[str]:
    return [token.strip().lower() for token in headers.get(name, "").split(",")]
