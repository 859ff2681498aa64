"""Output of a connection: write buffering, chunked audio, and responses to HTTP/1.0 clients.

HTTP/1.0 has no chunked encoding: a stream ends when its connection does, and a broken one looks the same. So that no
client takes half an utterance for the whole, a response is buffered until it is complete and sent with its length.
Resetting the connection instead would not do: aiohttp, for one, takes a reset for the end as well. Server-sent events
are not buffered, because their last event marks the end. A response too large to buffer is refused.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from steadyvoice.gateway.http import ClientDisconnectedError, Message

_FLUSH_BYTES = 64 * 1024  # pending bytes that are sent without waiting for the end of the turn

_MAX_PARTS = 1_000  # of one write: POSIX systems take 1,024

MAX_UNSENT_BYTES = 1024 * 1024
"""Bytes that a transport may hold unsent when more is written: beyond, the connection is aborted.

Normally a response waits when its transport pauses it, at 64 KiB. The limit holds where a transport never does, as
asyncio's `writelines()` in 3.12.0 to 3.12.8, 3.13.0 and 3.13.1 (CVE-2024-12254): a client that did not read filled the
memory.
"""


class BufferedOutput:
    """Transport that responses write to; closing it leaves the connection to decide how to end.

    Everything written within one turn of the event loop is sent at once: a short response in one packet, not three.
    """

    __slots__ = ("_descriptor", "_loop", "_pending", "_size", "_transport", "close", "is_closing")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, close: Callable[[], None]
    ) -> None:
        self._transport, self._loop = transport, loop
        self.is_closing, self.close = transport.is_closing, close
        self._pending: list[bytes] = []
        self._size = 0  # of the pending bytes
        # uvloop writes after its turn, by a turn of its own with another look for events. To write a chunk here
        # instead saves that. asyncio's own loops do so.
        is_uvloop = type(transport).__module__ == "uvloop.loop"
        deferred = is_uvloop and transport.get_extra_info("sslcontext") is None
        self._descriptor: int | None = transport.get_extra_info("socket").fileno() if deferred else None

    def write(self, data: bytes) -> None:
        """Send data at the end of this turn; drop it when the connection is closing, where uvloop would raise."""
        if self.is_closing():
            return
        if not self._pending:
            self._loop.call_soon(self.flush)
        self._pending.append(data)
        self._size += len(data)
        # The transport pauses the response by its own buffer, so it must get large data at once.
        if self._size > _FLUSH_BYTES:
            self.flush()

    def write_at_once(self, parts: Sequence[bytes]) -> None:
        """Send what is pending and these parts, without waiting for more."""
        if self._pending or self.is_closing() or (unsent := self._transport.get_write_buffer_size()) > MAX_UNSENT_BYTES:
            self._pending += parts
            self.flush()
            return
        if self._descriptor is None or unsent or len(parts) > _MAX_PARTS:
            self._transport.write(b"".join(parts))
            return
        try:
            sent = os.writev(self._descriptor, parts)  # without a copy of all of them
        except OSError:  # the socket is full, or the client has left: the transport notes it
            sent = 0
        if sent < sum(map(len, parts)):
            self._transport.write(b"".join(parts)[sent:])

    def disconnect(self) -> None:
        """Release the lost connection, which refers to this object and would be kept alive by it."""
        self.close = _nothing

    def flush(self) -> None:
        """Send what is pending, or abort the connection of a client that does not read."""
        if self._pending and not self.is_closing():
            if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                self._transport.abort()
            else:
                # Joined, because `writelines()` does not always pause the writer (CVE-2024-12254).
                self._transport.write(b"".join(self._pending))
        self._pending, self._size = [], 0


def _nothing() -> None: ...


class ClientFlowControl:
    """Flow control of a client's connection, as uvicorn's, whose event costs 900 bytes for each: made when awaited."""

    __slots__ = ("_transport", "_writable", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = self.write_paused = False
        self._writable: asyncio.Event | None = None  # set once writing is resumed

    async def drain(self) -> None:
        """Wait until writing is not paused."""
        if self.write_paused:
            if self._writable is None:
                self._writable = asyncio.Event()
            await self._writable.wait()

    def pause_reading(self) -> None:
        """Stop reading from the client."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Note that the client does not keep up with reading."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """Wake those that wait for the client."""
        self.write_paused = False
        if self._writable:
            self._writable.set()
            self._writable = None


class ChunkWriter:
    """Audio sink of a response in chunked encoding that has begun."""

    __slots__ = ("_cycle", "_output")

    def __init__(self, cycle: Any, output: BufferedOutput) -> None:
        self._cycle, self._output = cycle, output

    def open(self) -> bool:
        """Return whether the client is still connected and keeps up with reading."""
        cycle = self._cycle
        return not (cycle.flow.write_paused or cycle.disconnected or cycle.response_complete)

    def write(self, data: bytes) -> None:
        """Send data as one chunk, without waiting for more."""
        self._output.write_at_once((b"%x\r\n" % len(data), data, b"\r\n"))


class HTTP10Response:
    """ASGI `send` of a response to HTTP/1.0, buffered until its length is known.

    At most `max_bytes` are buffered; a larger response becomes a 413 and raises ClientDisconnectedError.
    """

    def __init__(self, cycle: Any, max_bytes: int) -> None:
        self._cycle, self._max_bytes = cycle, max_bytes
        self._start: Message | None = None  # of a buffered response
        self._body = BytesIO()
        self._events = False

    async def __call__(self, message: Message) -> None:
        """Send a part of the response, or buffer it."""
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._start is None:
            await self._continue(message)
        else:
            self._body.write(message.get("body", b""))
            if self._body.tell() > self._max_bytes:
                await self._refuse(self._start)
            if not message.get("more_body", False):
                await self._send_buffered(self._start)

    async def _begin(self, message: Message) -> None:
        headers = dict(message["headers"])
        self._events = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        bodiless = message["status"] in (204, 304) or self._cycle.scope["method"] == "HEAD"
        if not (self._events or bodiless or b"content-length" in headers):
            self._start = message
            return
        if self._events:
            self._cycle.chunked_encoding = False
        await self._cycle.send(message)

    async def _continue(self, message: Message) -> None:
        if self._events:
            # The length is unknown. uvicorn checks it, so it is set to at least one byte more while more is to come.
            self._cycle.expected_content_length = len(message.get("body", b"")) + message.get("more_body", False)
        await self._cycle.send(message)

    async def _send_buffered(self, start: Message) -> None:
        length = (b"content-length", str(self._body.tell()).encode())
        await self._cycle.send({**start, "headers": [*start["headers"], length]})
        await self._cycle.send({"type": "http.response.body", "body": self._body.getvalue()})

    async def _refuse(self, start: Message) -> None:
        self._body = BytesIO()
        body = (
            f"response larger than {self._max_bytes} bytes, which cannot be streamed over HTTP/1.0: "
            "use HTTP/1.1, a smaller format, or split the text\n"
        ).encode()
        kept = [(name, value) for name, value in start["headers"] if name in (b"x-request-id", b"request-id")]
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *kept]
        await self._cycle.send({**start, "status": 413, "headers": headers})
        await self._cycle.send({"type": "http.response.body", "body": body})
        raise ClientDisconnectedError
