"""An HTTP listener with small ASGI applications, and a client that sends raw bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from steadyvoice.gateway.http import ClientDisconnectedError, Receive, Response, Scope, Send, read_body
from steadyvoice.gateway.http_server.listener import HTTPListener, Neighbours
from steadyvoice.service.config_file import ServerConfig

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Scenario = Callable[[], Coroutine[Any, Any, None]]
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


def head(*headers: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    """Return a request's head."""
    return b"\r\n".join([line, b"host: localhost", *headers, b"", b""])


class RawClient:
    """Client that sends and receives raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.port: int = writer.get_extra_info("sockname")[1]

    async def send(self, data: bytes) -> None:
        """Send data; a closed connection is no error."""
        with suppress(OSError):
            self._writer.write(data)
            await self._writer.drain()

    async def read_until(self, until: bytes) -> bytes:
        return await self._reader.readuntil(until)

    async def read_response(self) -> tuple[int, dict[str, str], bytes]:
        """Read one response with a content length."""
        status, headers = await self.read_head()
        return status, headers, await self._reader.readexactly(int(headers["content-length"]))

    async def read_head(self) -> tuple[int, dict[str, str]]:
        """Read the head of a response."""
        line, *rest = (await self.read_until(b"\r\n\r\n")).decode().strip().split("\r\n")
        return int(line.split()[1]), {name: value for name, _, value in (each.partition(": ") for each in rest)}

    async def read_all(self) -> bytes:
        """Read until the end, and close the connection. Raises ConnectionResetError for a reset."""
        received = await self._reader.read()
        self.disconnect()
        return received

    def disconnect(self) -> None:
        self._writer.close()

    def half_close(self) -> None:
        self._writer.write_eof()


class RawListener:
    """Listener with the clients that were connected to it."""

    def __init__(self, listener: HTTPListener) -> None:
        self.listener = listener
        self._clients: list[RawClient] = []

    async def connect(self, request: bytes = b"", *, small_window: bool = False) -> RawClient:
        """Connect, and send bytes."""
        ours = socket.socket()
        ours.setblocking(False)
        if small_window:  # what is not read soon shows on the other side
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            await asyncio.get_running_loop().sock_connect(ours, ("127.0.0.1", self.listener.port))
        except OSError:
            ours.close()
            raise
        # asyncio reads ahead up to its limit, so the limit has to be as small as the window.
        client = RawClient(*await asyncio.open_connection(sock=ours, limit=4096 if small_window else 2**20))
        self._clients.append(client)
        if request:
            await client.send(request)
        return client

    async def wait_until_closed(self) -> None:
        """Wait until a connection was open and all are closed."""
        while not self.listener.traffic.connections:  # noqa: ASYNC110 - only closed connections are signalled
            await asyncio.sleep(0)
        await self.listener.wait_until_empty()

    def disconnect(self) -> None:
        for client in self._clients:
            client.disconnect()


@asynccontextmanager
async def listening(
    app: Application, *, neighbours: Neighbours | None = None, **server: Any
) -> AsyncIterator[RawListener]:
    """Serve an application on a free port."""
    # Bound here and not by its number, so that no other process can take the port in between.
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    listener = HTTPListener(app, ServerConfig(**{"shutdown_timeout": 5, **server}), neighbours=neighbours)
    await listener.open(bound)
    line = RawListener(listener)
    try:
        yield line
    finally:
        line.disconnect()
        await listener.close(5)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request's method, path and body."""
    with suppress(ClientDisconnectedError):
        body = await read_body(receive, max_bytes=2**20, timeout=10)
        response = f"{scope['method']} {scope['path']} ".encode() + body
        await Response(body=response, content_type="text/plain")(scope, receive, send)


async def refuse_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse without reading."""
    await Response(401, b"no", content_type="text/plain")(scope, receive, send)


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """Send without end, until the client has left."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    gone = asyncio.ensure_future(_gone(receive))
    while not gone.done():
        await send({"type": "http.response.body", "body": b"x" * 16384, "more_body": True})
        await asyncio.sleep(0)


async def long_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Finish a response of 20 MB before the client has read it; a `Response` would wait for the client."""
    body = bytes(20_000_000)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
