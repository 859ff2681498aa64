"""Vendor on a real socket that sends exactly the bytes of a test, response by response."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from steadyvoice.providers.base import Accepted, AudioChunk, Provider
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest


class ConnectionAction(Enum):
    """Action of a vendor other than sending bytes."""

    HANG = "hang"  # nothing more, until the client leaves
    CLOSE = "close"  # hang up politely
    RESET = "reset"  # hang up with a TCP reset


Step = bytes | ConnectionAction | Iterator[bytes] | asyncio.Event
"""Bytes, an action, a series of bytes, or an event to wait for."""


@dataclass(frozen=True)
class ReceivedRequest:
    """Request as the vendor received it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ScriptedVendor:
    """Vendor that sends the first response to the first request, and so on, and hangs after the last."""

    answers: list[tuple[Step, ...]] = field(default_factory=list)
    requests: list[ReceivedRequest] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    request_received: asyncio.Event = field(default_factory=asyncio.Event)
    client_left: asyncio.Event = field(default_factory=asyncio.Event)

    def enqueue(self, *answer: Step) -> None:
        self.answers.append(answer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._answer_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.client_left.set()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length.group(1)) if length else 0)
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        self.requests.append(ReceivedRequest(method, target, headers, body))
        self.request_received.set()
        for step in self.answers.pop(0) if self.answers else (ConnectionAction.HANG,):
            if step is ConnectionAction.CLOSE:
                return False
            if step is ConnectionAction.RESET:
                # With a linger time of zero, closing sends a reset instead of a FIN.
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                return False
            if step is ConnectionAction.HANG:
                # Returns when the client closes its side, which a test can wait for with `client_left`.
                await reader.read()
                return False
            if isinstance(step, asyncio.Event):
                await step.wait()
                continue
            for piece in [step] if isinstance(step, bytes) else step:
                writer.write(piece)
                await writer.drain()
        return True


@asynccontextmanager
async def scripted_vendor() -> AsyncIterator[ScriptedVendor]:
    vendor = ScriptedVendor()
    async with tcp_server(vendor.serve) as port:
        vendor.url = f"http://127.0.0.1:{port}"
        yield vendor


@asynccontextmanager
async def tcp_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serve on a free port of this machine, and clean up at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        await serve(reader, writer)

    server = await asyncio.start_server(tracked, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        # Since Python 3.12, `wait_closed()` waits for open connections, and a hanging vendor has some.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def http_response(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return a complete response with a true Content-Length, unless `content_length` overrides it."""
    fields = {"content-length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    return _head(status, fields) + body


def audio_response(body: bytes = b"speech", **headers: str) -> bytes:
    """Return a success with audio."""
    return http_response(200, body, **{"content_type": "audio/mpeg", **headers})


def error_response(status: int, document: Any, **headers: str) -> bytes:
    """Return an error in JSON."""
    return http_response(status, json.dumps(document).encode(), content_type="application/json", **headers)


def chunked_response(*chunks: bytes, end: bool = True, **headers: Any) -> bytes:
    """Return a success in chunks, with or without the last one."""
    fields = {"content-type": "audio/mpeg", "transfer-encoding": "chunked"}
    fields |= {name.replace("_", "-"): str(value) for name, value in headers.items()}
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return _head(200, fields) + pieces + (b"0\r\n\r\n" if end else b"")


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass
class CollectedEvents:
    """Events of one request."""

    accepted: list[Accepted] = field(default_factory=list)
    data: bytes = b""
    alignments: list[Alignment] = field(default_factory=list)


async def collect_events(
    provider: Provider, request: SpeechRequest, *, into: CollectedEvents | None = None
) -> CollectedEvents:
    """Collect the events of a request to its end. With `into`, those before an error are kept."""
    result = CollectedEvents() if into is None else into
    offer = provider.offer(request)
    async with aclosing(provider.speak(request, offer, connection_timeout=5.0)) as events:
        async for event in events:
            if isinstance(event, AudioChunk):
                assert event.data or event.alignment
                result.data += event.data
                result.alignments += [event.alignment] if event.alignment else []
            else:
                assert not result.data, "the vendor's yes comes first"
                result.accepted.append(event)
    return result


def speech_request(text: str = "Hello", format: str = "mp3_44100_128", **fields: Any) -> SpeechRequest:
    """Return a speech request."""
    return SpeechRequest(text, AudioFormat.parse(format), **fields)
