"""HTTP/1.1 connection to a vendor: an asyncio protocol around httptools' parser.

Hundreds of streams run at once, each of dozens of chunks, so there is nothing between the socket and the reader but the
parser: 120 µs of CPU a request, where aiohttp's client takes 386 µs (docs/decisions/0022).
"""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from collections.abc import Callable
from copy import copy
from functools import lru_cache
from itertools import islice, repeat
from typing import Protocol, cast

import httptools

from steadyvoice.providers.base import CHUNK_SIZE, ByteSink

READ_BUFFER = 64 * 1024
"""Bytes that are read at once, and that may be buffered before reading pauses.

A slow consumer stops the vendor's stream after about twice this, instead of filling memory, and one iteration of the
event loop copies no more than that.
"""

_MAX_HEAD = 32 * 1024
"""Maximum bytes of status line and headers, interim responses included, and of chunk extensions and trailers.

The parser keeps a header's value until its end: without a limit, an endless one would fill memory.
"""

_LIST_HEADERS = ("content-encoding", "transfer-encoding")
"""Headers that are joined when they are repeated (RFC 9110, 5.3); of others the last one counts."""


class MalformedResponseError(ConnectionError):
    """Raised when a server does not send valid HTTP/1.1. To a reader of the body it is a broken connection."""


class ResponseObserver(Protocol):
    """Observer of a response, called where otherwise a waiting task would be woken."""

    def response_changed(self) -> None:
        """Handle what came: a head, bytes of the body, the end, or an error. Must not raise."""
        ...


class ReadBuffer:
    """Buffer that sockets are read into, for an instant: connections of one event loop may share it."""

    __slots__ = ("data", "get", "view")

    def __init__(self) -> None:
        self.data = bytearray(READ_BUFFER)
        self.view = memoryview(self.data)
        # A dictionary's method gives the buffer for any size hint, without a Python call for each read.
        self.get: Callable[[int], memoryview] = defaultdict[int, memoryview](repeat(self.view).__next__).__getitem__


class _QuickParser:
    """Parser of usual responses, without a Python call for any part of them.

    Its callbacks are methods of lists and dictionaries. They cannot decide anything: what they have noted is inspected
    after the first read, and a response that is not usual is read again by the connection's own callbacks.
    """

    __slots__ = ("feed", "headers", "new", "on_body", "on_header", "on_message_begin", "on_message_complete", "open")

    def __init__(self, parts: list[bytes | memoryview]) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.open = [True]  # empty once the response is complete
        self.new = [True]  # empty once it has begun: a second response is an error
        self.on_header, self.on_body = self.headers.__setitem__, parts.append
        self.on_message_begin, self.on_message_complete = self.new.pop, self.open.pop
        self.feed = httptools.HttpResponseParser(self).feed_data


class HTTPConnection(asyncio.BufferedProtocol):
    """Client side of one connection: `request`, then `read` until `complete`, then perhaps the next request.

    With an `observer`, `start` a request and take the `parts` whenever the observer is called. The methods raise
    OSError, MalformedResponseError among them. Nothing is sent twice. `on_closed` is called when the connection is
    gone. Connections may share a `buffer` where reads do not overlap.
    """

    __slots__ = (
        "_buffer", "_disconnected", "_head", "_interim", "_keep_alive", "_loop", "_non_body", "_on_closed", "_parser",
         "_quick", "_quick_parser", "_sink", "_sink_error", "_transport", "_waiter", "complete",
        "error", "get_buffer", "head_received", "headers", "idle_since", "observer", "on_body", "parts", "paused",
        "received", "sock", "status", "unread",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_closed: Callable[[HTTPConnection], None],
        buffer: ReadBuffer | None = None,
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}  # by lower-case name
        self.complete = True  # no request is pending, or the response has come to its end
        self.received = 0  # bytes of the response
        self.idle_since = 0.0
        self.head_received = False
        self.observer: ResponseObserver | None = None
        self.sock: socket.socket
        self._loop, self._on_closed = loop, on_closed
        self._buffer = buffer or ReadBuffer()
        self.get_buffer: Callable[[int], memoryview] = self._buffer.get  # type: ignore[assignment]
        # Of the body, not read yet. A list, because an empty deque is 700 bytes larger.
        self.parts: list[bytes | memoryview] = []
        self._parser: httptools.HttpResponseParser | None = None  # made for the first unusual response
        self._quick_parser: _QuickParser | None = _QuickParser(self.parts)
        self._quick: _QuickParser | None = None  # while it reads a response
        self.unread = 0  # of these parts, in bytes
        self._head = 0  # bytes of the head so far
        self._non_body = 0  # bytes since the last ones of the body
        self._interim = self.paused = self._disconnected = False
        self._keep_alive = True
        self.error: Exception | None = None  # by which the response broke off; what came before can still be read
        self._waiter: asyncio.Future[None] | None = None
        self._sink: ByteSink | None = None  # of the reader that waits
        self._sink_error: Exception | None = None  # raised by the sink, to be raised by the reader
        self._transport: asyncio.Transport

    @property
    def usable(self) -> bool:
        """True if another request may be sent."""
        return self.complete and self._keep_alive and not self._disconnected and not self._transport.is_closing()

    async def request(self, request: bytes) -> None:
        """Send a request and wait for the head of its response."""
        self.start(request)
        await self.wait_for_head()

    def start(self, request: bytes) -> None:
        """Send a request, and do not wait."""
        self.status, self.headers, self.received = 0, {}, 0
        self._head = self._non_body = 0
        self.complete = self.head_received = False
        self._sink_error = self._quick = None
        self.parts.clear()
        self.unread = 0
        if self.paused:
            self.resume_reading()  # it stays paused when the response before was abandoned half-way
        if self._disconnected:
            self.error = ConnectionError("the server closed the connection")
        self._transport.write(request)

    async def wait_for_head(self) -> None:
        """Wait for the head of the response to the request that was sent."""
        while not self.head_received and self.error is None:
            await self._wait()
        # Bytes of the body that came before an error are delivered first.
        begun = self.complete or self.parts or not isinstance(self.error, MalformedResponseError)
        if self.error and not (self.head_received and begun):
            raise copy(self.error)

    async def read(self, sink: ByteSink | None = None) -> bytes:
        """Return the next bytes of the body, b"" at its end.

        Bytes that come during the wait go to `sink` while it takes them, so that no chunk of a stream wakes the task.
        """
        # `read_nowait` and `_wait` are repeated here: as calls they were most of what a chunk costs.
        while not self.parts:
            if self.complete:
                return b""
            if self.error:
                raise copy(self.error)  # see `read_nowait`
            self._sink, self._waiter = sink, self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._sink = self._waiter = None
            if error := self._sink_error:
                self._sink_error = None
                raise error
        return self.take()

    def read_nowait(self) -> bytes | None:
        """Return the next bytes of the body, CHUNK_SIZE at most, b"" at its end; None if that would need a wait."""
        if self.parts:
            return self.take()
        if self.complete:
            return b""
        if self.error:
            raise copy(self.error)  # the traceback of the stored error would keep the frames of every reader alive
        return None

    def close(self) -> None:
        """Close the connection, at once if a response is incomplete."""
        self._keep_alive = False
        if self.complete:
            self._transport.close()
        else:
            self._transport.abort()

    # ---------------------------------------------------------------- callbacks of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass

    def buffer_updated(self, nbytes: int) -> None:
        if self.complete:  # bytes without a request
            self.close()
            return
        parts, quick = self.parts, self._quick
        known = len(parts)
        try:
            if quick is not None:
                quick.feed(self._buffer.view[:nbytes])
                self._non_body = 0 if len(parts) > known else self._non_body + nbytes
            elif self.received or not self._feed_quickly(nbytes):
                self._feed(self._buffer.view[:nbytes], known)
            if self._non_body > _MAX_HEAD:
                raise MalformedResponseError("endless chunk extensions or trailers")
        except (MalformedResponseError, httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(_malformed(error))
        self.received += nbytes
        if quick is not None and not quick.open:
            self.complete = True
        if len(parts) > known:
            self.unread += sum(map(len, islice(parts, known, None)))
        if self.observer is not None:
            self.observer.response_changed()
        # The sink gets the bytes within the read callback: no task is woken for each chunk of a stream.
        elif self._sink is None or not self._deliver(self._sink):
            self._wake()
        # libuv goes on reading in the same iteration of the loop for as long as reads fill the buffer. A pause after a
        # full one lets other connections have their turn.
        if (nbytes == READ_BUFFER or self.unread > READ_BUFFER) and not (self.paused or self.error):
            self.paused = True
            self._transport.pause_reading()
            self._loop.call_soon(self.resume_reading)

    def connection_lost(self, error: Exception | None) -> None:
        self._disconnected = True
        if not self.complete:
            if self.head_received and error is None and self._ends_with_connection:
                self.complete = True
            else:
                self.error = self.error or error or ConnectionError("the server closed the connection")
        self._wake()
        self._on_closed(self)
        self._parser = (
            None  # it refers to this connection's methods: a cycle that only the garbage collector would free
        )

    # ---------------------------------------------------------------- callbacks of the parser

    def on_message_begin(self) -> None:
        if self.complete:
            raise MalformedResponseError("a second response to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head_received:
            return  # a trailer, which comes too late to be used
        key, text = name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape")
        if key in _LIST_HEADERS and key in self.headers:
            text = f"{self.headers[key]}, {text}"
        self.headers[key] = text

    def on_headers_complete(self) -> None:
        assert self._parser is not None  # noqa: S101 - it calls this
        self.status = self._parser.get_status_code()
        self._interim = 100 <= self.status < 200
        if self._interim:
            self.headers = {}
        else:
            self.head_received = True

    def on_message_complete(self) -> None:
        if not self._interim:
            assert self._parser is not None  # noqa: S101 - it calls this
            self._keep_alive = self._parser.should_keep_alive()
            self.complete = True

    # ---------------------------------------------------------------- internal

    @property
    def _ends_with_connection(self) -> bool:
        """True if the end of the connection is the end of the body, which has no declared length."""
        return "content-length" not in self.headers and "transfer-encoding" not in self.headers

    def _feed_quickly(self, size: int) -> bool:
        """Parse the first read of a response that is usual; return False, and parse nothing, if it is not.

        It is a 200 whose whole head has come, without repeated headers: there are as many headers as lines.
        """
        quick, data = self._quick_parser, self._buffer.data
        end = data.find(b"\r\n\r\n", 0, size)
        if quick is None or not (0 < end < _MAX_HEAD and data.startswith(b"HTTP/1.1 200 ")):
            return False
        headers, noted = None, quick.headers
        noted.clear()
        quick.new[:] = quick.open[:] = (True,)
        try:
            quick.feed(self._buffer.view[:size])
            headers = dict(zip(map(_header_name, noted), map(bytes.decode, noted.values()), strict=True))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError):
            pass  # a general parser has to decide
        if headers is None or len(headers) != data.count(b"\n", 0, end):
            self._quick_parser = None  # it has read half of this, and the next response will hardly be another
            self.parts.clear()
            return False
        noted.clear()  # for as long as the response lasts
        self.status, self.headers, self.head_received = 200, headers, True
        self._keep_alive = headers.get("connection", "keep-alive").lower() == "keep-alive"
        self.complete = not quick.open
        self._quick = quick
        return True

    def _feed(self, data: memoryview, known: int) -> None:
        """Feed the general parser, and refuse a head that exceeds the limit."""
        parser = self._parser
        if parser is None:
            # The parser calls this method in C: a body of many small chunks costs no Python call for each.
            self.on_body = self.parts.append
            parser = self._parser = httptools.HttpResponseParser(self)
        while data and not self.head_received:
            piece = data[: _MAX_HEAD - self._head]
            self._head += len(piece)
            parser.feed_data(piece)
            if self._head >= _MAX_HEAD and not self.head_received:
                raise MalformedResponseError("endless headers")
            data = data[len(piece) :]
        if data:
            parser.feed_data(data)
            self._non_body = 0 if len(self.parts) > known else self._non_body + len(data)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _deliver(self, sink: ByteSink) -> bool:
        """Pass the buffered bytes to the sink, and return whether the reader need not be woken."""
        if self.error or self._sink_error:
            return False
        if not self.parts:
            return not self.complete
        if self.unread > CHUNK_SIZE:  # the reader takes it in chunks, between which it yields to the event loop
            return False
        data = self.take()
        try:
            if not sink(data):
                self.parts.append(data)
                self.unread += len(data)
                return False
        except Exception as error:  # asyncio would only log it here; the reader that waits has to get it
            self._sink_error = error
        return not (self.complete or self._sink_error)

    def _wake(self) -> None:
        if self.observer is not None:
            self.observer.response_changed()
        elif self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.close()

    def take(self) -> bytes:
        """Remove and return the next bytes of the body, of which there are some: CHUNK_SIZE at most."""
        parts = self.parts
        if self.unread <= CHUNK_SIZE:
            data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
            parts.clear()
        else:
            data = self._take_chunk()
        self.unread -= len(data)
        if self.paused:
            self.resume_reading()
        return data

    def _take_chunk(self) -> bytes:
        parts, count, left = self.parts, 0, CHUNK_SIZE
        while left > 0 and count < len(parts):
            left -= len(parts[count])
            count += 1
        taken = parts[:count]
        del parts[:count]  # in place, and all at once: the parser adds to this list, and a part may be a single byte
        if left < 0:
            last = memoryview(taken.pop())
            taken.append(last[:left])
            parts.insert(0, last[left:])
        return b"".join(taken)

    def resume_reading(self) -> None:
        """Resume reading if it is paused and the buffer has room."""
        if self.paused and self.unread <= READ_BUFFER and not self._disconnected:
            self.paused = False
            self._transport.resume_reading()


@lru_cache(maxsize=256)
def _header_name(name: bytes) -> str:
    """Return the name of a header in lower case. Kept, because thousands of responses have the same few."""
    return name.decode().lower()


def _malformed(error: Exception) -> MalformedResponseError:
    """Return the error of a response that the parser or one of its callbacks refused."""
    if isinstance(error, MalformedResponseError):
        return error
    cause = error.__context__ or error  # set when a callback raised
    if isinstance(cause, IndexError):  # of _QuickParser
        return MalformedResponseError("a second response to one request")
    return MalformedResponseError(str(cause) or "another protocol")
