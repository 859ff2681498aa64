"""Websocket frames by hand, for clients that do what no library would."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

TEXT, CONTINUATION, BINARY, CLOSE, PING, PONG = 1, 0, 2, 8, 9, 10
_HANDSHAKE = "\r\n".join(
    (
        "GET {path} HTTP/1.1",
        "host: {host}",
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "{more}\r\n",
    )
)


class ReceivedFrame(NamedTuple):
    """Frame as it was received: its payload without the mask, and all of its bytes."""

    opcode: int
    data: bytes
    mask: bytes = b""
    raw: bytes = b""

    @property
    def close_code(self) -> int | None:
        return struct.unpack("!H", self.data[:2])[0] if self.opcode == CLOSE else None


async def read_frame(reader: asyncio.StreamReader) -> ReceivedFrame:
    """Read one frame. Raises IncompleteReadError at the end of the connection."""
    raw = await reader.readexactly(2)
    opcode, size, masked = raw[0] & 0x0F, raw[1] & 0x7F, raw[1] & 0x80
    if size >= 126:
        raw += (wide := await reader.readexactly(2 if size == 126 else 8))
        size = int.from_bytes(wide)
    mask = await reader.readexactly(4) if masked else b""
    payload = await reader.readexactly(size)
    data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if masked else payload
    return ReceivedFrame(opcode, data, mask, raw + mask + payload)


def frame(
    data: bytes,
    opcode: int = TEXT,
    *,
    last: bool = True,
    reserved: int = 0,
    announced: int | None = None,
    mask: bytes = bytes(4),  # of zeros, which changes nothing
) -> bytes:
    """Return a masked frame. `announced` is the length in its header, if it shall not be the true one."""
    size = len(data) if announced is None else announced
    first = (0x80 if last else 0) | (reserved << 4) | opcode
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)) if any(mask) else data
    return head + mask + masked


class RawSocket:
    """Websocket whose frames are written by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))
        await self.writer.drain()

    async def receive(self) -> ReceivedFrame:
        """Read one frame. Raises IncompleteReadError at the end of the connection."""
        return await asyncio.wait_for(read_frame(self.reader), 20)

    async def close_code(self) -> int | None:
        """Read until the connection ends, and return the code of its close frame."""
        code = None
        try:
            while True:
                received = await self.receive()
                code = received.close_code if received.opcode == CLOSE else code
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return code


@asynccontextmanager
async def raw_socket(
    url: str, path: str, *, headers: str = "", early: bytes = b"", status: int = 101
) -> AsyncIterator[RawSocket]:
    """Connect, and upgrade by hand. `early` is sent with the request."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(_HANDSHAKE.format(path=path, host=parts.netloc, more=headers).encode() + early)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.split()[1] == str(status).encode(), head
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.close()
