"""TCP relay that counts the bytes that a vendor sends, headers included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class ByteCountingRelay:
    """Address of the relay, and the bytes that came through it from the vendor so far."""

    url: str = ""
    bytes: int = 0


@asynccontextmanager
async def byte_counting_relay(vendor: str) -> AsyncIterator[ByteCountingRelay]:
    """Run a relay to the vendor at a URL."""
    target, counted = urlsplit(vendor), ByteCountingRelay()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        responses, requests = await asyncio.open_connection(target.hostname, target.port)

        async def count() -> None:
            while data := await responses.read(65_536):
                counted.bytes += len(data)
                writer.write(data)
                # Back-pressure reaches the vendor as without the relay.
                await writer.drain()

        counting = asyncio.create_task(count())
        try:
            while data := await reader.read(65_536):
                requests.write(data)
        finally:
            requests.close()
            await asyncio.wait([counting])
            writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    counted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield counted
