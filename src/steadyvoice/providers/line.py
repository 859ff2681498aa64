"""One HTTP/1.1 connection to a vendor: a request goes out, an answer comes in, and the next request may follow.

It is what a stream costs: hundreds of them at once, each of dozens of chunks. So there is nothing between the socket
and whoever reads but httptools' parser.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from steadyvoice.providers.provider import Pour

READ_BUFFER = 64 * 1024
"""Bytes. A slow listener stops the vendor's stream after about twice this, instead of filling memory."""

_LONGEST_HEAD = 32 * 1024  # bytes; nobody's status line and headers are longer

_PACKED = ("gzip", "x-gzip", "deflate")


class GarbledError(Exception):
    """What came is not HTTP as we know it."""


class Line(asyncio.Protocol):
    """One connection. `ask`, then `read` until `over`, then perhaps again; nothing is ever sent twice.

    Both raise GarbledError and OSError. `hung_up` is told when the connection is gone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, hung_up: Callable[[Line], None]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}  # by lower-case name
        self.over = True  # nothing is asked, or the answer has come to its end
        self.received = 0  # bytes of the answer
        self.idle_since = 0.0
        self._loop, self._hung_up = loop, hung_up
        self._parser = httptools.HttpResponseParser(self)
        self._parts: deque[bytes] = deque()
        self._size = 0  # of these
        self._head = 0  # bytes of the head
        self._answered = self._interim = self._paused = self._gone = False
        self._kept = True
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._unpacker: _Unpacker | None = None
        self._pour: Pour | None = None  # of whoever waits
        self._spilt: Exception | None = None  # what that has raised
        self._transport: asyncio.Transport

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self.over and self._kept and not self._gone and not self._transport.is_closing()

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for the head of its answer."""
        self._begin()
        self._transport.write(request)
        while not self._answered and self._error is None:
            await self._change()
        if self._error and not (self._answered and (self.over or isinstance(self._error, OSError))):
            raise self._error
        if self.headers.get("content-encoding", "").lower() in _PACKED:
            self._unpacker = _Unpacker()

    async def read(self, pour: Pour | None = None) -> bytes:
        """The next bytes of the body, b"" at its end.

        What comes meanwhile goes to `pour` as long as it takes it: nobody has to be woken for each piece of a stream.
        """
        while (data := self.take()) is None:
            self._pour = pour
            try:
                await self._change()
            finally:
                self._pour = None
            if error := self._spilt:
                self._spilt = None
                raise error
        return data

    def take(self) -> bytes | None:
        """The same, if there is anything to be told without a wait; else None."""
        while self._parts or self.over or self._error:
            data = self._taken()
            if not data and not self.over and self._error:
                raise self._error
            if self._unpacker is None:
                return data
            if (plain := self._unpacker.feed(data)) or not data:
                return plain
        return None

    def hang_up(self) -> None:
        """Break the connection off."""
        self._kept = False
        if self.over:
            self._transport.close()
        else:
            self._transport.abort()

    # ---------------------------------------------------------------- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        if self.over:  # nobody asked
            self.hang_up()
            return
        self.received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            said = error.__context__ or error  # where a callback of ours complains
            self._fail(GarbledError(str(said) or "another protocol"))
        if self._size > READ_BUFFER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if self._pour is None or not self._poured(self._pour):
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._gone = True
        if not self.over:
            if self._answered and error is None and self._lasts_until_the_end:
                self.over = True
            else:
                self._error = self._error or error or ConnectionError("the server closed the connection")
        self._wake()
        self._hung_up(self)

    # ---------------------------------------------------------------- what the parser tells

    def on_message_begin(self) -> None:
        if self.over:
            raise GarbledError("more than was asked for")

    def on_status(self, said: bytes) -> None:
        self._measure(len(said))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._measure(len(name) + len(value) + 4)
        self.headers[name.decode("latin-1").lower()] = value.decode("utf-8", "surrogateescape")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._interim = 100 <= self.status < 200
        if self._interim:
            self.headers = {}
        else:
            self._answered = True

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        if not self._interim:
            self._kept = self._parser.should_keep_alive()
            self.over = True

    # ---------------------------------------------------------------- inside

    @property
    def _lasts_until_the_end(self) -> bool:
        """Whether the connection's end is the body's: nothing else tells how long it is."""
        return "content-length" not in self.headers and "transfer-encoding" not in self.headers

    def _measure(self, length: int) -> None:
        self._head += length
        if self._head > _LONGEST_HEAD:
            raise GarbledError("endless headers")

    def _begin(self) -> None:
        self.status, self.headers, self.received, self._head = 0, {}, 0, 0
        self.over = self._answered = False
        self._unpacker = self._spilt = None
        self._parts.clear()
        self._size = 0
        self._read_on()  # whoever left the answer before unread has left reading paused
        if self._gone:
            self._error = ConnectionError("the server closed the connection")

    async def _change(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _poured(self, pour: Pour) -> bool:
        """Whether all that came has gone where it belongs, and there is nothing else to be told."""
        if self._unpacker or self._error or self._spilt:
            return False
        if not self._parts:
            return not self.over
        data = self._taken()
        try:
            if not pour(data):
                self.on_body(data)  # back to where it was
                return False
        except Exception as error:
            self._spilt = error
        return not (self.over or self._spilt)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self.hang_up()

    def _taken(self) -> bytes:
        parts = self._parts
        if len(parts) == 1:
            data = parts.popleft()
        else:
            data = b"".join(parts)
            parts.clear()
        self._size = 0
        self._read_on()
        return data

    def _read_on(self) -> None:
        if self._paused and not self._gone:
            self._paused = False
            self._transport.resume_reading()


class _Unpacker:
    """Unpacks a body that came packed, though nobody asked for that. Raises ConnectionError when it cannot."""

    def __init__(self) -> None:
        self._unpacking = zlib.decompressobj(47)  # whichever of the two headers it has
        self._fed = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, b"" at the end."""
        if not data and self._fed and not self._unpacking.eof:
            raise ConnectionError("what is packed ends too early")
        self._fed = True
        try:
            return self._unpacking.decompress(data)
        except zlib.error as error:
            raise ConnectionError(f"what is packed cannot be unpacked: {error}") from error
