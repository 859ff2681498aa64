"""HTTP/1.0: streams are buffered, and broken ones become errors."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

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


def test_stream_is_buffered_until_its_length_is_known(run: Run) -> None:
    async def scenario() -> None:
        async with listening(piecemeal) as line:
            client = await line.connect(head(b"connection: keep-alive", line=b"GET /whole HTTP/1.0"))
            status, headers, body = await client.read_response()
            assert (status, headers["connection"], body) == (200, "close", b"one two three.")
            assert "transfer-encoding" not in headers
            assert await client.read_all() == b""

    run(scenario())


def test_broken_stream_becomes_an_error(run: Run) -> None:
    async def scenario() -> None:
        async with listening(piecemeal) as line:
            client = await line.connect(head(line=b"GET /half HTTP/1.0"))
            assert (await client.read_response())[0] == 500

    run(scenario())


@pytest.mark.slow
def test_stream_cut_by_a_shutdown_becomes_an_error(run: Run) -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await piecemeal({**scope, "path": "/half"}, receive, send)
            begun.set()
            await asyncio.Event().wait()

        async with listening(slow) as line:
            client = await line.connect(head(line=b"GET / HTTP/1.0"))
            await begun.wait()
            assert await line.listener.close(0.05) == 1
            assert (await client.read_response())[0] == 503

    run(scenario())


def test_events_are_not_buffered_and_head_requests_have_no_body(run: Run) -> None:
    async def scenario() -> None:
        async with listening(piecemeal) as line:
            events = await line.connect(head(line=b"GET /events HTTP/1.0"))
            assert (await events.read_head())[1]["connection"] == "close"
            assert await events.read_all() == b"one two three."
            about = await line.connect(head(line=b"HEAD /whole HTTP/1.0"))
            assert (await about.read_head())[0] == 200
            assert await about.read_all() == b""

    run(scenario())


async def test_http_1_0_client_never_takes_half_a_stream_for_the_whole() -> None:
    async with running_gateway(on_midstream="error") as gateway, aiohttp.ClientSession(version=OLD) as old:
        answer = await old.post(gateway.url + STREAM, json=elevenlabs_body())
        assert words_in(await answer.read(), "pcm_16000") == TEXT.split()
        gateway.sim.faults.set(Fault(actions.Cut(after=1.0), endpoint="text-to-speech*"))
        answer = await old.post(gateway.url + STREAM, json=elevenlabs_body())
        assert answer.status == 500
