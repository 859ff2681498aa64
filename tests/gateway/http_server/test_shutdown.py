"""Graceful shutdown: idle connections close, responses are completed, cut ones are counted."""

from __future__ import annotations

import asyncio

import pytest

from steadyvoice.gateway.http import Receive, Response, Scope, Send

from ..conftest import Run
from ..raw_http import GET, RawListener, echo, endless, head, listening, long_at_once


class Patient:
    """Answers in two halves, the second when it is let."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await self.go.wait()
        await send({"type": "http.response.body", "body": b"whole"})


def test_idle_connections_close_and_running_responses_are_completed(run: Run) -> None:
    async def scenario() -> None:
        app = Patient()
        async with listening(app) as line:
            idle = [await line.connect(request) for request in (b"", b"GET / HT")]
            answered = await line.connect(GET)
            waiting = await line.connect(GET + head(line=b"GET /next HTTP/1.1"))
            for client in (answered, waiting):
                await client.read_head()
            closing = asyncio.create_task(line.listener.close(30))
            for client in idle:
                assert await client.read_all() == b""
            assert not await is_open(line)
            app.go.set()
            assert (await answered.read_all()).endswith(b"5\r\nwhole\r\n0\r\n\r\n")
            assert (await waiting.read_all()).count(b"whole") == 2, "a request that was in is answered"
            assert await closing == 0

    run(scenario())


def test_responses_beyond_the_timeout_are_cut_and_counted(run: Run) -> None:
    async def scenario() -> None:
        app = Patient()
        async with listening(app) as line:
            slow = [await line.connect(GET) for _ in range(3)]
            for client in slow:
                await client.read_head()
            assert await line.listener.close(0.05) == 3
            for client in slow:
                assert b"0\r\n\r\n" not in await client.read_all()

    run(scenario())


@pytest.mark.slow
def test_unread_responses_are_counted_as_cut(run: Run) -> None:
    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await long_at_once(scope, receive, send)
        sent.set()

    sent = asyncio.Event()

    async def scenario() -> None:
        async with listening(long) as line:
            await line.connect(GET, small_window=True)
            await sent.wait()
            assert await line.listener.close(0.05) == 1

    run(scenario())


@pytest.mark.slow
def test_responses_that_wait_for_their_client_are_counted_as_cut(run: Run) -> None:
    async def scenario() -> None:
        async with listening(Response(body=bytes(20_000_000))) as line:
            client = await line.connect(GET, small_window=True)
            await client.read_head()
            async with asyncio.timeout(5):
                assert await line.listener.close(0.05) == 1
                assert line.listener.traffic.requests == 0
                await line.listener.wait_until_empty()

    run(scenario())


def test_hurry_cuts_the_shutdown_short(run: Run) -> None:
    async def scenario() -> None:
        async with listening(endless) as line:
            client = await line.connect(GET)
            await client.read_head()
            hurry = asyncio.Event()
            closing = asyncio.create_task(line.listener.close(3600, hurry))
            hurry.set()
            assert await closing == 1

    run(scenario())


def test_closing_twice_has_no_effect(run: Run) -> None:
    async def scenario() -> None:
        async with listening(echo) as line:
            assert [await line.listener.close(1), await line.listener.close(1)] == [0, 0]

    run(scenario())


async def is_open(line: RawListener) -> bool:
    try:
        (await line.connect()).disconnect()
    except ConnectionRefusedError:
        return False
    return True
