"""Output of a connection: write buffering, chunked audio, and responses to HTTP/1.0 clients.

HTTP/1.0 has no chunked encoding: a stream ends when its connection does, and a broken one looks the same. So that no
client takes half an utterance for the whole, a response is buffered until it is complete and sent with its length.
Resetting the connection instead would not do: aiohttp, for one, takes a reset for the end as well. Server-sent events
are not buffered, because their last event marks the end. A response too large to buffer is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from steadyvoice.gateway.http import ClientDisconnectedError, Message

_FLUSH_BYTES = 64 * 1024  # bytes, which are not held for others to go along

MAX_UNSENT_BYTES = 1024 * 1024
"""Bytes that a transport may hold unsent when more is written: beyond, the client is dropped.

An answer waits when its transport says so, at 64 KiB, and one part of it may go beyond. This holds where a transport
never says so, as asyncio's `writelines()` in 3.12.0 to 3.12.8, 3.13.0 and 3.13.1 (CVE-2024-12254): a client that did
not read filled the memory.
"""


class BufferedOutput:
    """What an answer sees of its connection: it says that it is done, and the connection decides how to end.

    What is written within one turn of the event loop goes out as one: a short answer in one packet, not in three.
    """

    __slots__ = ("_loop", "_pending", "_size", "_transport", "close", "is_closing")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, close: Callable[[], None]
    ) -> None:
        self._transport, self._loop = transport, loop
        self.is_closing, self.close = transport.is_closing, close
        self._pending: list[bytes] = []
        self._size = 0  # of these

    def write(self, data: bytes) -> None:
        """Send it; when that is over, which the answer hears of a moment later, send nothing: uvloop would raise."""
        if self.is_closing():
            return
        if not self._pending:
            self._loop.call_soon(self.flush)
        self._pending.append(data)
        self._size += len(data)
        if self._size > _FLUSH_BYTES:  # the transport must know, for it tells when to wait
            self.flush()

    def write_at_once(self, parts: Iterable[bytes]) -> None:
        """Send what is pending, and these behind it, without waiting for more."""
        self._pending += parts
        self.flush()

    def disconnect(self) -> None:
        """Forget the connection, which is lost: it holds this, and would be held by it."""
        self.close = _nothing

    def flush(self) -> None:
        """Let it go."""
        if self._pending and not self.is_closing():
            if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                self._transport.abort()
            else:
                self._transport.write(b"".join(self._pending))  # `writelines()` does not always pause the writer
        self._pending, self._size = [], 0


def _nothing() -> None: ...


class ChunkWriter:
    """An outlet for an answer in HTTP's chunks that has begun."""

    __slots__ = ("_cycle", "_line")

    def __init__(self, cycle: Any, line: BufferedOutput) -> None:
        self._cycle, self._line = cycle, line

    def open(self) -> bool:
        """Whether the client reads on, as far as one knows."""
        cycle = self._cycle
        return not (cycle.flow.write_paused or cycle.disconnected or cycle.response_complete)

    def write(self, data: bytes) -> None:
        """Send it as a chunk."""
        self._line.write_at_once((b"%x\r\n" % len(data), data, b"\r\n"))


class HTTP10Response:
    """The `send` of an answer to HTTP/1.0. At most `most` bytes are held; ClientGoneError ends what needs more."""

    def __init__(self, cycle: Any, most: int) -> None:
        self._cycle, self._most = cycle, most
        self._start: Message | None = None  # of what is held
        self._held = BytesIO()
        self._events = False

    async def __call__(self, message: Message) -> None:
        """Send a part of the answer, or keep it."""
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._start is None:
            await self._go_on(message)
        else:
            self._held.write(message.get("body", b""))
            if self._held.tell() > self._most:
                await self._refuse(self._start)
            if not message.get("more_body", False):
                await self._send_held(self._start)

    async def _begin(self, message: Message) -> None:
        told = dict(message["headers"])
        self._events = told.get(b"content-type", b"").startswith(b"text/event-stream")
        bodiless = message["status"] in (204, 304) or self._cycle.scope["method"] == "HEAD"
        if not (self._events or bodiless or b"content-length" in told):
            self._start = message
            return
        if self._events:
            self._cycle.chunked_encoding = False
        await self._cycle.send(message)

    async def _go_on(self, message: Message) -> None:
        if self._events:  # of which nobody knows the length: at least one byte more than this, if more is to come
            self._cycle.expected_content_length = len(message.get("body", b"")) + message.get("more_body", False)
        await self._cycle.send(message)

    async def _send_held(self, start: Message) -> None:
        length = (b"content-length", str(self._held.tell()).encode())
        await self._cycle.send({**start, "headers": [*start["headers"], length]})
        await self._cycle.send({"type": "http.response.body", "body": self._held.getvalue()})

    async def _refuse(self, start: Message) -> None:
        self._held = BytesIO()
        body = (
            f"this answer has more than {self._most} bytes, which cannot be sent as they are made over HTTP/1.0: "
            "use HTTP/1.1, a smaller format, or split the text\n"
        ).encode()
        ours = [(name, value) for name, value in start["headers"] if name in (b"x-request-id", b"request-id")]
        told = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *ours]
        await self._cycle.send({**start, "status": 413, "headers": told})
        await self._cycle.send({"type": "http.response.body", "body": body})
        raise ClientDisconnectedError
