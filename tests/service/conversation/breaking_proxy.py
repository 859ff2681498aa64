"""TCP proxy before a vendor, whose connections break after so many of the vendor's bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Break:
    """Break of a connection after so many bytes from the vendor: a reset, an end without a close frame, or silence."""

    manner: Literal["reset", "end", "silence"]
    after: int


class _Connection:
    """Connection of a client, and the vendor's behind it."""

    def __init__(self, host: str, port: int, planned: Break | None, *, takes_websockets: bool) -> None:
        self._host, self._port, self._break = host, port, planned
        self._takes_websockets = takes_websockets

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward both ways until the connection ends or breaks."""
        to_vendor: asyncio.StreamWriter | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if not self._takes_websockets and b"upgrade: websocket" in head.lower():
                writer.write(_NOT_FOUND)
                writer.close()
                await writer.wait_closed()
                return
            from_vendor, to_vendor = await asyncio.open_connection(self._host, self._port)
            to_vendor.write(head)
            asking = asyncio.create_task(self._forward(reader, to_vendor))
            try:
                await self._answer(from_vendor, writer, asking)
            finally:
                asking.cancel()
                await asyncio.wait([asking])
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for each in (to_vendor, writer):
                if each:
                    each.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asking: asyncio.Task[None]
    ) -> None:
        left = self._break.after if self._break else None
        while data := await reader.read(65_536):
            if left is not None and len(data) >= left:
                writer.write(data[:left])
                await self._end(writer, asking)
                return
            left = None if left is None else left - len(data)
            writer.write(data)
            await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def _end(self, writer: asyncio.StreamWriter, asking: asyncio.Task[None]) -> None:
        assert self._break
        if self._break.manner == "silence":
            await asking  # until the client leaves
        elif self._break.manner == "end":
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def breaking_proxy(url: str, breaks: list[Break | None], *, takes_websockets: bool = True) -> AsyncIterator[str]:
    """Run a proxy before a vendor, and yield its URL. The first connection gets the first break, and so on.

    Without `takes_websockets` it answers upgrades with 404, as a server without the endpoint.
    """
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 80
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        running.add(task)
        try:
            planned = breaks.pop(0) if breaks else None
            await _Connection(host, port, planned, takes_websockets=takes_websockets).run(reader, writer)
        except asyncio.CancelledError:
            pass  # by the end of this proxy
        finally:
            running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1")
    try:
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        if running:
            await asyncio.wait(list(running))
        await server.wait_closed()
