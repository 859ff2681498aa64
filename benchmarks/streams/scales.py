"""A relay that weighs: how many bytes a vendor really sends, headers and all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Scales:
    """Where to find the relay, and what came through it from the vendor so far."""

    url: str = ""
    bytes: int = 0


@asynccontextmanager
async def scales(vendor: str) -> AsyncIterator[Scales]:
    """Stand between us and the vendor at a URL."""
    place, weighed = urlsplit(vendor), Scales()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(place.hostname, place.port)

        async def weigh() -> None:
            while data := await answers.read(65_536):
                weighed.bytes += len(data)
                writer.write(data)
                await writer.drain()

        weighing = asyncio.create_task(weigh())
        try:
            while data := await reader.read(65_536):
                requests.write(data)
        finally:
            requests.close()
            await asyncio.wait([weighing])
            writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    weighed.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield weighed
