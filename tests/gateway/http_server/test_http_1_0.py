"""HTTP/1.0 knows no chunks: a stream ends when its connection does, and a broken one ends with an error."""

from __future__ import annotations

import asyncio

import aiohttp

from steadyvoice.audio.word_tones import words_in
from steadyvoice.gateway.http import Receive, Scope, Send
from steadyvoice.simulator import Fault
from steadyvoice.simulator.fault_injection import actions

from ..conftest import Run
from ..raw_http import head, listening
from ..running_gateway import ELEVENLABS, TEXT, elevenlabs_body, running_gateway

OLD = aiohttp.HttpVersion10
STREAM = f"{ELEVENLABS}/stream?output_format=pcm_16000"


async def piecemeal(scope: Scope, receive: Receive, send: Send) -> None:
    kind = b"text/event-stream" if scope["path"] == "/events" else b"audio/mpeg"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for piece in (b"one ", b"two ", b"three"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if scope["path"] != "/half":
        await send({"type": "http.response.body", "body": b"."})


def test_a_stream_is_held_until_its_length_is_known(run: Run) -> None:
    async def story() -> None:
        async with listening(piecemeal) as line:
            client = await line.call(head(b"connection: keep-alive", line=b"GET /whole HTTP/1.0"))
            status, headers, body = await client.answer()
            assert (status, headers["connection"], body) == (200, "close", b"one two three.")
            assert "transfer-encoding" not in headers
            assert await client.end() == b""

    run(story())


def test_a_stream_that_breaks_is_an_error(run: Run) -> None:
    async def story() -> None:
        async with listening(piecemeal) as line:
            client = await line.call(head(line=b"GET /half HTTP/1.0"))
            assert (await client.answer())[0] == 500

    run(story())


def test_a_stream_that_a_shutdown_cuts_is_an_error_too(run: Run) -> None:
    async def story() -> None:
        begun = asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await piecemeal({**scope, "path": "/half"}, receive, send)
            begun.set()
            await asyncio.Event().wait()

        async with listening(slow) as line:
            client = await line.call(head(line=b"GET / HTTP/1.0"))
            await begun.wait()
            assert await line.listener.close(0.05) == 1
            assert (await client.answer())[0] == 503

    run(story())


def test_events_come_as_they_happen_and_a_question_about_the_head_has_no_body(run: Run) -> None:
    async def story() -> None:
        async with listening(piecemeal) as line:
            events = await line.call(head(line=b"GET /events HTTP/1.0"))
            assert (await events.head())[1]["connection"] == "close"
            assert await events.end() == b"one two three."
            about = await line.call(head(line=b"HEAD /whole HTTP/1.0"))
            assert (await about.head())[0] == 200
            assert await about.end() == b""

    run(story())


async def test_an_old_client_hears_a_stream_and_never_half_of_it_as_the_whole() -> None:
    async with running_gateway(on_midstream="error") as at, aiohttp.ClientSession(version=OLD) as old:
        answer = await old.post(at.gateway.url + STREAM, json=elevenlabs_body())
        assert words_in(await answer.read(), "pcm_16000") == TEXT.split()
        at.sim.faults.set(Fault(actions.Cut(after=1.0), endpoint="text-to-speech*"))
        answer = await old.post(at.gateway.url + STREAM, json=elevenlabs_body())
        assert answer.status == 500
