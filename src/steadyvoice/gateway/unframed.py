"""Answers to HTTP/1.0, which knows no chunks: there a stream ends when its connection does, and a broken one alike.

So that nobody takes half an utterance for the whole, it is held until it is complete, and its length told. To reset the
connection would not do: aiohttp, for one, takes that for the end as well. Events go out as they come: the last one of
them says that it is the last. An answer that is too large to be held is refused instead.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from steadyvoice.gateway.reply import ClientGoneError, Message


class Unframed:
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
        raise ClientGoneError
