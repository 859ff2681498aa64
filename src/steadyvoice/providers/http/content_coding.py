"""Content codings of answers (RFC 9110, 8.4): packed bodies are unpacked in bounded steps, unknown codings refused.

Requests ask for none (`Accept-Encoding: identity`); servers and proxies that pack all the same use gzip or deflate.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from steadyvoice.providers.base import ByteSink
from steadyvoice.providers.cooperative_scheduling import CHUNK_SIZE, WorkBudget
from steadyvoice.providers.http.transport import HTTPResponse
from steadyvoice.wire.error_response import single_line

# Packed bytes that zlib is given at once: few, for it copies those that it has not used after each step, and very few
# at the beginning of a member, for members may be short.
_FIRST_SLICE, _LARGEST_SLICE = 32, 4 * 1024

_GZIP = ("gzip", "x-gzip")
_IDENTITY = ("", "identity")
_DECODED_BY_PARSER = ("", "identity", "chunked")


class UnsupportedCodingError(Exception):
    """Raised for a body in a coding that was not asked for and cannot be unpacked."""


def decompressor_for(headers: Mapping[str, str]) -> Decompressor | None:
    """Return what unpacks a body with these headers (lower-case names), None if it is not packed.

    Raises UnknownCodingError. Several codings on top of each other are refused, too: no speech server sends them.
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
    raise AssertionError  # the cases above are all there are


class Decompressor:
    """Unpacks gzip, all members of it, or deflate, with zlib's wrapping (RFC 9110) or without it (as some send it).

    `feed` it, `take` until nothing comes, and `end` it. What is cut off, damaged, or followed by something else raises
    ConnectionError: a part of an answer must never pass for the whole.
    """

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._data, self._at = b"", 0  # fed; and how much of it zlib has been given
        self._member = zlib.decompressobj(31) if gzip else None
        self._slice = _FIRST_SLICE
        self._full = False  # zlib may hold more than it was allowed to give
        self._begun = False

    def feed(self, data: bytes) -> None:
        """Add packed bytes. What was added before has to be taken first."""
        self._data, self._at = (self._data[self._at :] + data if self._at < len(self._data) else data), 0

    def take(self) -> bytes:
        """Unpack at most PIECE bytes. b"": all that was fed is used up."""
        try:
            while (piece := self._next_input()) is not None:
                if plain := self._unpacked(*piece):
                    return plain
        except zlib.error as error:
            raise ConnectionError(f"the packed body cannot be unpacked: {error}") from error
        return b""

    def end(self) -> None:
        """Check that the last member is whole."""
        if (self._begun or self._data) and not (self._member and self._member.eof):
            raise ConnectionError("the packed body ends too early")

    def _next_input(self) -> tuple[zlib._Decompress, bytes] | None:
        """Return zlib's object and the next bytes for it, or None when more have to be fed."""
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
                raise ConnectionError("the packed body is followed by something else")
            # Some servers end a member with each flush.
            member = self._member = zlib.decompressobj(31)
        self._at += len(piece)
        self._slice = min(2 * self._slice, _LARGEST_SLICE)
        return member, piece

    def _unpacked(self, member: zlib._Decompress, piece: bytes) -> bytes:
        self._begun = True
        plain = member.decompress(piece, CHUNK_SIZE)
        self._full = len(plain) == CHUNK_SIZE and not member.eof
        if member.eof:
            self._at -= len(member.unused_data)
            self._slice = _FIRST_SLICE
        return plain

    def _deflate(self) -> zlib._Decompress | None:
        """Tell by its first two bytes whether a deflate stream is wrapped (RFC 1950, 2.2)."""
        if len(self._data) < 2:
            return None
        wrapped = self._data[0] & 0x0F == 8 and int.from_bytes(self._data[:2], "big") % 31 == 0
        self._member = zlib.decompressobj(15 if wrapped else -15)
        return self._member


class DecompressedResponse:
    """An answer whose body is unpacked as it is read."""

    __slots__ = ("_answer", "_budget", "_ended", "_unpacker", "headers", "status")

    def __init__(self, answer: HTTPResponse, unpacker: Decompressor) -> None:
        self.status, self.headers = answer.status, answer.headers
        self._answer, self._unpacker = answer, unpacker
        self._budget = WorkBudget()
        self._ended = False

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """Return the next unpacked bytes, b"" at the end. Nothing goes to `sink`. Raises OSError."""
        while (data := self.read_nowait()) is None:
            if self._budget.exhausted:
                await self._budget.yield_to_loop()
            else:
                self._add(await self._answer.read())
        return data

    def read_nowait(self) -> bytes | None:
        """Return the same if it takes no wait, else None."""
        while not self._budget.exhausted:
            if plain := self._unpacker.take():
                self._budget.spend(len(plain))
                return plain
            if self._ended:
                return b""
            packed = self._answer.read_nowait()
            if packed is None:
                return None
            self._add(packed)
        return None

    def close(self) -> None:
        """Close the answer."""
        self._answer.close()

    def _add(self, packed: bytes) -> None:
        self._budget.spend(len(packed))
        if packed:
            self._unpacker.feed(packed)
        else:
            self._unpacker.end()
            self._ended = True


def _header_tokens(headers: Mapping[str, str], name: str) -> list[str]:
    return [token.strip().lower() for token in headers.get(name, "").split(",")]
