"""Callers that cost little: each sends one request over a socket, and notes when it hears the first and the last byte.

`python -m proxy.callers '{"port": 9, "path": "/", "body": {}, "count": 500, "within": 1.0}'` prints what they saw.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import Any, cast

import httptools
import uvloop

PATIENCE = 90.0  # seconds for a stream


@dataclass(slots=True)
class Heard:
    """Answer to a request. Times in seconds since it was sent."""

    status: int = 0
    first: float | None = None
    last: float | None = None
    size: int = 0

    @property
    def whole(self) -> bool:
        """Whether all of the audio came."""
        return self.status == 200 and self.last is not None and self.size > 30_000


class Caller(asyncio.Protocol):
    """Connection with one request."""

    def __init__(self, request: bytes) -> None:
        self.heard = Heard()
        self.ended = asyncio.get_running_loop().create_future()
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._clock = time.perf_counter  # uvloop's own counts whole milliseconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._begun = self._clock()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        if self.heard.first is None:
            self.heard.first = self._clock() - self._begun
        self.heard.size += len(data)

    def on_message_complete(self) -> None:
        self.heard.status = self._parser.get_status_code()
        self.heard.last = self._clock() - self._begun
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def call(port: int, request: bytes, after: float) -> Heard:
    """Make one call after so many seconds."""
    await asyncio.sleep(after)
    try:
        _, caller = await asyncio.get_running_loop().create_connection(lambda: Caller(request), "127.0.0.1", port)
    except OSError:
        return Heard()
    await asyncio.wait([caller.ended], timeout=PATIENCE)
    return caller.heard


async def calls(port: int, path: str, body: Any, count: int, within: float) -> list[Heard]:
    """Make so many, which begin evenly within so many seconds."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nxi-api-key: k\r\n"
    request = f"{head}Authorization: Bearer k\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    # Evenly, not at random: every gateway gets the same moments.
    return await asyncio.gather(*(call(port, request, within * index / count) for index in range(count)))


def main() -> None:
    """Do what is asked, and print first bytes (seconds, sorted) and how many were whole."""
    heard = uvloop.run(calls(**json.loads(sys.argv[1])))
    first = sorted(each.first for each in heard if each.first is not None)
    print(json.dumps({"first": first, "whole": sum(each.whole for each in heard), "count": len(heard)}))


if __name__ == "__main__":
    main()
