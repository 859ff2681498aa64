"""Hostile clients at the websockets: the gateway refuses them, serves on, and holds no more memory than it may."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from steadyvoice.gateway.http_server.websocket import MAX_MESSAGE_BYTES
from steadyvoice.gateway.websocket.session import MAX_OPEN_CONTEXTS
from steadyvoice.simulator.fault_injection import actions
from tests.gateway.running_gateway import RunningGateway, running_gateway
from tests.gateway.websocket.clients import LIVEKIT, MULTI, PIPECAT, livekit_client, livekit_turn, pipecat_client
from tests.gateway.websocket.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, raw_socket

HOSTILE = {
    "too large a message": (frame(b"x", announced=MAX_MESSAGE_BYTES + 1), 1009),
    "an endless one in fragments": (
        frame(b"x" * 600_000, last=False) + frame(b"x" * 600_000, CONTINUATION, last=False), 1009
    ),
    "binary": (frame(b"\x00\x01", BINARY), 1008),
    "no UTF-8": (frame(b'{"text": "\xff\xfe"}'), 1007),
    "no JSON": (frame(b"hello"), 1008),
    "nested JSON": (frame(b"[" * 100_000), 1008),
    "half of a surrogate pair": (frame(b'{"text": "\\ud800", "context_id": "a"}'), 1008),
    "a field of another type": (frame(b'{"text": 7}'), 1008),
    "too long a name of a context": (frame(json.dumps({"text": "a", "context_id": "c" * 1000}).encode()), 1008),
    "compressed without an agreement": (frame(b"\xaa\x02\x00", reserved=4), 1002),
    "a fragment that continues nothing": (frame(b"x", CONTINUATION), 1002),
    "an unknown opcode": (frame(b"", 5), 1002),
    "an unmasked frame": (b"\x81\x02{}", 1002),
    "too long a ping": (frame(b"x" * 126, PING), 1002),
    "an invalid close code": (frame(b"\x00\x01", CLOSE), 1002),
}  # fmt: skip


async def still_speaks(gateway: RunningGateway) -> None:
    async with livekit_client(gateway.url) as client:
        await client.send(*livekit_turn("a"))
        await client.until_final("a")
        assert client.contexts["a"].error is None


async def test_hostile_frames_close_their_own_socket_with_a_code() -> None:
    async with running_gateway() as gateway:
        for what, (data, code) in HOSTILE.items():
            async with raw_socket(gateway.url, MULTI + LIVEKIT) as socket:
                await socket.send(data)
                assert await socket.close_code() == code, what
        await still_speaks(gateway)
        assert gateway.context.traffic().requests == 0


async def test_frames_that_come_before_the_answer_to_the_upgrade_count() -> None:
    early = b"".join(frame(message.encode()) for message in livekit_turn("a"))
    async with running_gateway() as gateway, raw_socket(gateway.url, MULTI + LIVEKIT, early=early) as socket:
        messages: list[dict[str, Any]] = []
        while not messages or not messages[-1].get("isFinal"):
            messages.append(json.loads((await socket.receive()).data))
        assert any(message.get("audio") for message in messages)


async def test_message_in_tiny_fragments_with_pings_between_is_one_message() -> None:
    turn = livekit_turn("a")
    async with running_gateway() as gateway, raw_socket(gateway.url, MULTI + LIVEKIT) as socket:
        for message in turn:
            first, *rest = message.encode()
            await socket.send(frame(bytes([first]), last=False), frame(b"?", PING))
            await socket.send(*(frame(bytes([byte]), CONTINUATION, last=False) for byte in rest))
            await socket.send(frame(b"", CONTINUATION))
        opcodes: list[int] = []
        last: dict[str, Any] = {}
        while not last.get("isFinal"):
            received = await socket.receive()
            opcodes.append(received.opcode)
            last = json.loads(received.data) if received.opcode == TEXT else last
        assert opcodes.count(PONG) == len(turn)


async def test_contexts_without_end_are_refused_one_by_one() -> None:
    async with running_gateway() as gateway, pipecat_client(gateway.url) as client:
        names = [f"context-{number}" for number in range(MAX_OPEN_CONTEXTS + 3)]
        await client.send(*(json.dumps({"text": " ", "context_id": name}) for name in names))
        refused = names[MAX_OPEN_CONTEXTS:]
        await client.until_final(*refused)
        assert all(client.contexts[name].error for name in refused)
        await client.send(*(json.dumps({"close_context": True, "context_id": name}) for name in names))
        await client.until_final(*names)
        await client.send(*livekit_turn("next"))
        await client.until_final("next")
        assert client.contexts["next"].error is None


async def test_more_sockets_than_allowed_are_refused_and_http_is_served() -> None:
    async with running_gateway(server={"max_connections": 6}) as gateway:
        async with livekit_client(gateway.url), livekit_client(gateway.url), livekit_client(gateway.url):
            with pytest.raises(InvalidStatus) as refused:
                await livekit_client(gateway.url).__aenter__()
            assert refused.value.response.status_code == 503
            assert (await gateway.fetch("GET", "/healthz")).status == 200
        await still_speaks(gateway)


async def test_text_beyond_the_limit_ends_its_context_with_an_error() -> None:
    async with (
        running_gateway(server={"max_text_characters": 40}) as gateway,
        pipecat_client(gateway.url) as client,
    ):
        await client.send(*(json.dumps({"text": "Twenty characters. ", "context_id": "a"}) for _ in range(5)))
        await client.until_final("a")
        heard = client.contexts["a"]
        assert heard.error
        assert heard.error["error"] == "max_character_limit_exceeded"
        assert heard.spoken == ["Twenty", "characters."] * 2


@pytest.mark.slow
async def test_client_that_does_not_read_stalls_only_itself_and_is_disconnected() -> None:
    text = "Good morning, this is a test of many words. " * 400
    async with running_gateway(server={"write_timeout": 1.0}) as gateway:
        uri = gateway.url.replace("http", "ws") + MULTI + PIPECAT
        async with connect(uri, max_queue=1, ping_interval=None) as slow:
            await slow.send(json.dumps({"text": text, "context_id": "a"}))
            await slow.send(json.dumps({"context_id": "a", "close_context": True}))
            await still_speaks(gateway)
            request, account = await gateway.next_call()
            while request.complete:
                request, account = await gateway.next_call()
            assert account.outcome == "interrupted"
            assert request.bytes_sent < 8 * 1024 * 1024


async def test_client_that_vanishes_interrupts_its_turns() -> None:
    async with running_gateway() as gateway, raw_socket(gateway.url, MULTI + PIPECAT) as socket:
        gateway.sim.faults.set(actions.Stall(after=0.5, seconds=60))
        await socket.send(*(frame(message.encode()) for message in livekit_turn("a")))
        await socket.receive()
        socket.writer.transport.abort()
        request, account = await gateway.next_call()
        assert (account.outcome, request.complete) == ("interrupted", False)
        assert gateway.context.traffic().connections == 0
