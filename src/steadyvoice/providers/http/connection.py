"""One HTTP/1.1 connection to a vendor: a request goes out, an answer comes in, and the next request may follow.

It is what a stream costs: hundreds of them at once, each of dozens of chunks. So there is nothing between the socket
and whoever reads but httptools' parser.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from copy import copy
from typing import cast

import httptools

from steadyvoice.providers.base import ByteSink
from steadyvoice.providers.cooperative_scheduling import CHUNK_SIZE

READ_BUFFER = 64 * 1024
"""Bytes that are read at once, and that may lie unread before reading pauses: a slow listener stops the vendor's stream
after about twice this, instead of filling memory, and one turn of the event loop copies no more than that.
"""

_MAX_HEAD = 32 * 1024
"""Bytes. No server's status line and headers are longer, interim answers included; nor is what may come between two
parts of a body, such as chunk extensions and trailers. The parser keeps a header's value until its end: without a limit
on what it is fed, an endless one would fill memory.
"""

_LIST_HEADERS = ("content-encoding", "transfer-encoding")
"""Headers whose repetition adds to what they said before (RFC 9110, 5.3); of others the last one counts."""


class MalformedResponseError(Exception):
    """What came is not HTTP as we know it."""


class HTTPConnection(asyncio.BufferedProtocol):
    """One connection. `ask`, then `read` until `over`, then perhaps again; nothing is ever sent twice.

    Both raise GarbledError and OSError. `hung_up` is told when the connection is gone. `buffer` is what the socket is
    read into, for an instant: connections of one event loop may share it where reading is synchronous.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hung_up: Callable[[HTTPConnection], None],
        buffer: bytearray | None = None,
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}  # by lower-case name
        self.over = True  # nothing is asked, or the answer has come to its end
        self.received = 0  # bytes of the answer
        self.idle_since = 0.0
        self.sock: socket.socket  # what it runs over
        self._loop, self._hung_up = loop, hung_up
        self._buffer = memoryview(buffer or bytearray(READ_BUFFER))
        self._parser = httptools.HttpResponseParser(self)
        self._parts: deque[bytes | memoryview] = deque()
        self._size = 0  # of these
        self._head = 0  # bytes of the head, as they came
        self._unproductive = 0  # bytes since the last ones of the body
        self._answered = self._interim = self._paused = self._gone = False
        self._kept = True
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._sink: ByteSink | None = None  # of whoever waits
        self._sink_error: Exception | None = None  # what that has raised
        self._transport: asyncio.Transport

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self.over and self._kept and not self._gone and not self._transport.is_closing()

    async def request(self, request: bytes) -> None:
        """Send a request and wait for the head of its answer."""
        self._begin()
        self._transport.write(request)
        while not self._answered and self._error is None:
            await self._change()
        begun = self.over or self._parts or isinstance(self._error, OSError)  # what came is handed on first
        if self._error and not (self._answered and begun):
            raise copy(self._error)

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """The next bytes of the body, b"" at its end.

        What comes meanwhile goes to `sink` as long as it takes it: nobody has to be woken for each piece of a stream.
        """
        while (data := self.read_nowait()) is None:
            self._sink = sink
            try:
                await self._change()
            finally:
                self._sink = None
            if error := self._sink_error:
                self._sink_error = None
                raise error
        return data

    def read_nowait(self) -> bytes | None:
        """The same, if there is anything to be told without a wait; else None. At most PIECE bytes."""
        if self._parts:
            return self._taken()
        if self.over:
            return b""
        if self._error:
            raise copy(self._error)  # the traceback of what is kept would keep the frames of every reader
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

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.over:  # nobody asked
            self.hang_up()
            return
        self.received += nbytes
        try:
            self._feed(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            said = error.__context__ or error  # where a callback of ours complains
            self._fail(MalformedResponseError(str(said) or "another protocol"))
        if self._sink is None or not self._delivered(self._sink):
            self._wake()
        # libuv goes on reading in the same turn for as long as the buffer comes back full.
        if (nbytes == len(self._buffer) or self._size > READ_BUFFER) and not (self._paused or self._error):
            self._paused = True
            self._transport.pause_reading()
            self._loop.call_soon(self._read_on)

    def connection_lost(self, error: Exception | None) -> None:
        self._gone = True
        if not self.over:
            if self._answered and error is None and self._lasts_until_the_end:
                self.over = True
            else:
                self._error = self._error or error or ConnectionError("the server closed the connection")
        self._wake()
        self._hung_up(self)
        del self._parser  # it holds this connection's methods

    # ---------------------------------------------------------------- what the parser tells

    def on_message_begin(self) -> None:
        if self.over:
            raise MalformedResponseError("more than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answered:
            return  # a trailer: what it says comes too late
        key, told = name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape")
        if key in _LIST_HEADERS and key in self.headers:
            told = f"{self.headers[key]}, {told}"
        self.headers[key] = told

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
        self._unproductive = 0

    def on_message_complete(self) -> None:
        if not self._interim:
            self._kept = self._parser.should_keep_alive()
            self.over = True

    # ---------------------------------------------------------------- inside

    @property
    def _lasts_until_the_end(self) -> bool:
        """Whether the connection's end is the body's: nothing else tells how long it is."""
        return "content-length" not in self.headers and "transfer-encoding" not in self.headers

    def _feed(self, data: memoryview) -> None:
        """Have the parser read this, and refuse a head, or what is neither head nor body, that has no end."""
        while data and not self._answered:
            piece = data[: _MAX_HEAD - self._head]
            self._head += len(piece)
            self._parser.feed_data(piece)
            if self._head >= _MAX_HEAD and not self._answered:
                raise MalformedResponseError("endless headers")
            data = data[len(piece) :]
        if data:
            self._unproductive += len(data)
            self._parser.feed_data(data)
            if self._unproductive > _MAX_HEAD:
                raise MalformedResponseError("endless chunk extensions or trailers")

    def _begin(self) -> None:
        self.status, self.headers, self.received = 0, {}, 0
        self._head = self._unproductive = 0
        self.over = self._answered = False
        self._sink_error = None
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

    def _delivered(self, sink: ByteSink) -> bool:
        """Whether all that came has gone where it belongs, and there is nothing else to be told."""
        if self._error or self._sink_error:
            return False
        if not self._parts:
            return not self.over
        if self._size > CHUNK_SIZE:  # whoever waits takes it in pieces, between which the loop turns
            return False
        data = self._taken()
        try:
            if not sink(data):
                self._parts.append(data)  # back to where it was
                self._size += len(data)
                return False
        except Exception as error:
            self._sink_error = error
        return not (self.over or self._sink_error)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self.hang_up()

    def _taken(self) -> bytes:
        """Take the next bytes of the body, at most PIECE."""
        parts = self._parts
        if self._size <= CHUNK_SIZE:
            data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
            parts.clear()
        else:
            data = self._piece()
        self._size -= len(data)
        if self._paused:
            self._read_on()
        return data

    def _piece(self) -> bytes:
        parts, taken, left = self._parts, [], CHUNK_SIZE
        while left and parts:
            part = parts.popleft()
            if len(part) > left:
                parts.appendleft(memoryview(part)[left:])
                part = memoryview(part)[:left]
            taken.append(part)
            left -= len(part)
        return b"".join(taken)

    def _read_on(self) -> None:
        """Read on if there is room, and the connection."""
        if self._paused and self._size <= READ_BUFFER and not self._gone:
            self._paused = False
            self._transport.resume_reading()
