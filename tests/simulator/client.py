"""HTTP client that reads the socket itself, so that no library hides how an answer really ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

GEORGE = "JBFqnCBsd6RMkjVDRZzb"
TEXT = "The quick brown fox jumps over the lazy dog, twice."
WORDS = TEXT.split()

WHOLE = f"/v1/text-to-speech/{GEORGE}?output_format=pcm_8000"
STREAM = f"/v1/text-to-speech/{GEORGE}/stream?output_format=pcm_8000"
TIMED = f"/v1/text-to-speech/{GEORGE}/with-timestamps?output_format=pcm_8000"
TIMED_STREAM = f"/v1/text-to-speech/{GEORGE}/stream/with-timestamps?output_format=pcm_8000"
OPENAI = "/v1/audio/speech"

SILENT_ITERATIONS = 500
"""Iterations of the event loop after which a silent server is taken to hang.

Everything that can run has run by then, however slow the machine.
"""


async def until(condition: Callable[[], bool]) -> None:
    """Run other tasks until a condition is true; the test's own timeout ends a wait in vain."""
    while not condition():  # noqa: ASYNC110  there is no event to wait for
        await asyncio.sleep(0)


class End(Enum):
    """End of a connection."""

    CLOSED = "closed"
    RESET = "reset"
    LEFT = "left"  # by us


@dataclass(frozen=True)
class RawAnswer:
    """Answer as read from the socket. `body` joins the chunks; `terminated` is whether its framing was complete."""

    status: int
    headers: dict[str, str]
    body: bytes
    chunks: list[bytes]
    terminated: bool
    end: End

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


NOTHING = RawAnswer(0, {}, b"", [], False, End.LEFT)


@dataclass
class Client:
    """Client that sends one request per connection."""

    url: str
    headers: dict[str, str] = field(default_factory=lambda: {"xi-api-key": "any", "authorization": "Bearer any"})

    async def speak(
        self, path: str = STREAM, text: str = TEXT, *, fault: str | None = None, leave: bool = False, **more: Any
    ) -> RawAnswer:
        """Request speech. With `leave`, close the connection when the server falls silent or has sent a megabyte."""
        if path == OPENAI:
            body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": text, "response_format": "pcm", **more}
        else:
            body = {"text": text, **more}
        return await self.ask("POST", path, json.dumps(body).encode(), fault=fault, leave=leave)

    async def get(self, path: str, **more: Any) -> RawAnswer:
        return await self.ask("GET", path, **more)

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, fault: str | None = None, leave: bool = False
    ) -> RawAnswer:
        address = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**24)
        try:
            # The server closes the connection after the response, so its end can be read from the socket.
            headers = {"connection": "close", "host": address.netloc, "content-length": str(len(body)), **self.headers}
            if fault is not None:
                headers["x-sim-fault"] = fault
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            return _parse(*await _all(reader, leave))
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def _all(reader: asyncio.StreamReader, leave: bool) -> tuple[bytes, End]:
    data = bytearray()
    while True:
        try:
            more = await (_read_unless_silent(reader) if leave else reader.read(65536))
        except TimeoutError:
            return bytes(data), End.LEFT
        except ConnectionResetError:
            return bytes(data), End.RESET
        if not more:
            return bytes(data), End.CLOSED
        data += more
        if leave and len(data) > 1_000_000:
            return bytes(data), End.LEFT


async def _read_unless_silent(reader: asyncio.StreamReader) -> bytes:
    reading = asyncio.create_task(reader.read(65536))
    # Counted, not timed: a slow machine runs the same iterations, only later.
    for _ in range(SILENT_ITERATIONS):
        await asyncio.sleep(0)
        if reading.done():
            return await reading
    reading.cancel()
    raise TimeoutError


def _parse(data: bytes, end: End) -> RawAnswer:
    head, behind, rest = data.partition(b"\r\n\r\n")
    if not behind:
        return RawAnswer(0, {}, b"", [], False, end)
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if headers.get("transfer-encoding") == "chunked":
        chunks, terminated = _chunks(rest)
    else:
        chunks = [rest]
        # Without a length, only the closing of the connection ends a body, which a cut looks like.
        terminated = len(rest) == int(headers.get("content-length", -1))
    return RawAnswer(int(first.split()[1]), headers, b"".join(chunks), chunks, terminated, end)


def _chunks(rest: bytes) -> tuple[list[bytes], bool]:
    chunks: list[bytes] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        count = int(size, 16)
        if count == 0:
            return chunks, rest == b"\r\n"
        chunks.append(rest[:count])
        rest = rest[count + 2 :]
    return chunks, False
