"""How it ends: idle connections at once, answers with their last byte, and whoever takes too long is counted."""

from __future__ import annotations

import asyncio

from steadyvoice.gateway.http import Receive, Response, Scope, Send

from ..conftest import Run
from ..raw_http import GET, RawListener, echo, endless, head, listening


class Patient:
    """Answers in two halves, the second when it is let."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await self.go.wait()
        await send({"type": "http.response.body", "body": b"whole"})


def test_who_is_idle_goes_and_who_is_spoken_to_hears_the_end(run: Run) -> None:
    async def story() -> None:
        app = Patient()
        async with listening(app) as line:
            idle = [await line.call(said) for said in (b"", b"GET / HT")]
            told = await line.call(GET)
            waiting = await line.call(GET + head(line=b"GET /next HTTP/1.1"))
            for client in (told, waiting):
                await client.head()
            closing = asyncio.create_task(line.listener.close(30))
            for client in idle:
                assert await client.end() == b""
            assert not await is_open(line)
            app.go.set()
            assert (await told.end()).endswith(b"5\r\nwhole\r\n0\r\n\r\n")
            assert (await waiting.end()).count(b"whole") == 2, "a request that was in is answered"
            assert await closing == 0

    run(story())


def test_who_takes_too_long_is_cut_and_counted(run: Run) -> None:
    async def story() -> None:
        app = Patient()
        async with listening(app) as line:
            slow = [await line.call(GET) for _ in range(3)]
            for client in slow:
                await client.head()
            assert await line.listener.close(0.05) == 3
            for client in slow:
                assert b"0\r\n\r\n" not in await client.end()

    run(story())


def test_who_has_not_read_the_end_is_counted_too(run: Run) -> None:
    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(body=bytes(20_000_000))(scope, receive, send)
        sent.set()

    sent = asyncio.Event()

    async def story() -> None:
        async with listening(long) as line:
            await line.call(GET, small_window=True)
            await sent.wait()
            assert await line.listener.close(0.05) == 1

    run(story())


def test_hurry_cuts_it_short(run: Run) -> None:
    async def story() -> None:
        async with listening(endless) as line:
            client = await line.call(GET)
            await client.head()
            hurry = asyncio.Event()
            closing = asyncio.create_task(line.listener.close(3600, hurry))
            hurry.set()
            assert await closing == 1

    run(story())


def test_closing_twice_is_closing_once(run: Run) -> None:
    async def story() -> None:
        async with listening(echo) as line:
            assert [await line.listener.close(1), await line.listener.close(1)] == [0, 0]

    run(story())


async def is_open(line: RawListener) -> bool:
    try:
        (await line.call()).hang_up()
    except ConnectionRefusedError:
        return False
    return True
