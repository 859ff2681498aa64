"""Responses that end their connection while the client still sends: they are read, and what they cost is bounded."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from steadyvoice.gateway.http import Receive, Scope, Send
from steadyvoice.gateway.http_server.connections import ConnectionCounts, ConnectionLimits

from ..conftest import Run
from ..raw_http import GET, Application, RawListener, echo, endless, head, listening, refuse_at_once

POST = b"POST / HTTP/1.1"
LARGE = 3_000_000  # more than both sockets hold: it is sent only while the server reads
UPGRADE = [b"upgrade: websocket", b"connection: upgrade", b"sec-websocket-key: bm9uZQ==", b"sec-websocket-version: 13"]


async def begun_and_broken(scope: Scope, receive: Receive, send: Send) -> None:
    """Break off a response while the body of its request is on its way."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


@pytest.mark.parametrize(
    ("app", "beginning", "status"),
    [
        (refuse_at_once, head(b"content-length: %d" % LARGE, line=POST), 401),
        (refuse_at_once, head(b"content-length: 10", b"connection: close", line=POST), 401),
        (refuse_at_once, head(*UPGRADE), 401),
        (begun_and_broken, head(b"content-length: %d" % LARGE, line=POST), 200),
        (echo, head(b"connection: close"), 200),
        (echo, head(line=b"POST / HTTP/1.0"), 200),
        (echo, head(b"x: " + b"y" * 40_000), 431),
        (echo, head(b"no colon"), 400),
        (echo, head(b"transfer-encoding: chunked", line=POST) + b"zz\r\n", 400),
        (echo, b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n", 405),
        (echo, head(b"transfer-encoding: chunked", line=POST) + b"1\r\nx\r\n" * 200_000, 413),
    ],
)
def test_client_that_sends_a_large_body_before_it_reads_gets_the_response(
    run: Run, app: Application, beginning: bytes, status: int
) -> None:
    async def scenario() -> None:
        async with listening(app, max_body_bytes=1000) as line:
            assert (await sent_before_reading(line, beginning + bytes(LARGE))).split()[1] == b"%d" % status

    run(scenario())


def test_connection_that_is_refused_at_the_limit_takes_no_place_and_is_answered(run: Run) -> None:
    async def scenario() -> None:
        async with listening(endless, max_connections=1) as line:
            busy = await line.connect(GET)
            await busy.read_head()
            request = head(b"content-length: %d" % LARGE, line=POST) + bytes(LARGE)
            assert b" 503 " in await sent_before_reading(line, request)
            # None of these is closed by its client.
            refused = [await line.connect(GET) for _ in range(ConnectionLimits().lingering + 40)]
            assert {(await each.read_response())[0] for each in refused} == {503}
            assert line.listener.traffic.connections <= 1 + ConnectionLimits().lingering
            for oldest in refused[:40]:
                assert await oldest.read_all() == b""
            busy.disconnect()
            while line.listener.traffic.requests:  # noqa: ASYNC110 - the end of a request is not signalled
                await asyncio.sleep(0)
            assert (await (await line.connect(GET)).read_head())[0] == 200

    run(scenario())


@pytest.mark.parametrize("part", [b"x", bytes(2**20)])
def test_client_that_never_ends_is_cut_off(run: Run, part: bytes) -> None:
    async def scenario() -> None:
        async with listening(refuse_at_once, body_timeout=0.2 if len(part) == 1 else 60) as line:
            client = await opened(line)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, head(b"transfer-encoding: chunked", line=POST))
            with pytest.raises(ConnectionError):
                await send_endlessly(client, part)
            client.close()
            await line.listener.wait_until_empty()

    run(scenario())


def test_held_connection_whose_request_has_arrived_is_refused_with_a_response(run: Run) -> None:
    async def scenario() -> None:
        async with listening_beside_a_full_worker() as (line, asked, answer):
            busy = await line.connect(GET)
            await busy.read_head()
            newcomer = await line.connect(GET)  # held, while the other worker is asked to close a connection
            await asked.wait()
            await asyncio.sleep(0)
            answer.set_result(0)
            assert (await newcomer.read_response())[0] == 503
            assert line.listener.traffic.requests == 1, "the refused request has not begun"

    run(scenario())


async def opened(line: RawListener) -> socket.socket:
    """Connect a socket on which every reset is an error."""
    client = socket.socket()
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", line.listener.port))
    return client


async def sent_before_reading(line: RawListener, data: bytes) -> bytes:
    """Send all data, then return all that has come."""
    loop = asyncio.get_running_loop()
    client = await opened(line)
    await loop.sock_sendall(client, data)
    received = b""
    while part := await loop.sock_recv(client, 2**16):
        received += part
    client.close()
    return received


async def send_endlessly(client: socket.socket, part: bytes) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(client, part)
        await asyncio.sleep(0)


class OneNeighbour:
    """Second of two workers, with one idle connection. It answers when it is let."""

    def __init__(self, file: int) -> None:
        self.counts = ConnectionCounts(file, 1, 2)
        ConnectionCounts(file, 2, 2).note_idle(1)
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self.asked, self.answer = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def ask(self, worker: int, question: str, argument: Any) -> Any:
        self.asked.set()
        return await self.answer


@asynccontextmanager
async def listening_beside_a_full_worker() -> AsyncIterator[tuple[RawListener, asyncio.Event, asyncio.Future[int]]]:
    with tempfile.TemporaryFile() as file:
        os.truncate(file.fileno(), ConnectionCounts.size(2))
        neighbour = OneNeighbour(file.fileno())
        async with listening(endless, neighbours=neighbour, max_connections=1) as line:
            yield line, neighbour.asked, neighbour.answer
