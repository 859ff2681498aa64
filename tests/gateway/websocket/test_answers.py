"""Clients with the messages of LiveKit's and Pipecat's services at the gateway: whole answers, an outage, barge-in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import pairwise

import pytest
from websockets.exceptions import ConnectionClosed

from steadyvoice.simulator.fault_injection import actions
from tests.gateway.running_gateway import running_gateway
from tests.gateway.websocket.clients import (
    SENTENCES,
    WORDS,
    Heard,
    SocketClient,
    livekit_client,
    livekit_turn,
    pipecat_client,
    pipecat_turn,
)

Connect = Callable[..., AbstractAsyncContextManager[SocketClient]]
Turn = Callable[..., list[str]]
CLIENTS = pytest.mark.parametrize(
    ("connect", "turn"),
    [(livekit_client, livekit_turn), (pipecat_client, pipecat_turn)],
    ids=["livekit", "pipecat"],
)


def assert_whole(heard: Heard, words: list[str] = WORDS) -> None:
    """Check that every word was spoken and timed once and in order, and that the context has ended once."""
    assert heard.spoken == words
    assert heard.timed == words
    assert all(earlier < later for earlier, later in pairwise(heard.times))
    assert heard.times[-1] < heard.seconds
    assert (heard.finals, heard.error) == (1, None)


@CLIENTS
async def test_several_answers_on_one_socket_are_whole(connect: Connect, turn: Turn) -> None:
    async with running_gateway() as gateway, connect(gateway.url) as client:
        for name in ("first", "second"):
            await client.send(*turn(name))
            await client.until_final(name)
            assert_whole(client.contexts[name])
        await client.send('{"text": ""}', '{"text": "", "context_id": "third"}', '{"close_socket": true}')
        with pytest.raises(ConnectionClosed):
            await client.receive()
        assert client.connection.close_code == 1000
        assert set(client.contexts) == {"first", "second"}
        request, _ = await gateway.next_call()
        assert request.request_id.endswith("/1")


@CLIENTS
async def test_total_outage_ends_each_context_with_one_error_and_the_socket_speaks_again(
    connect: Connect, turn: Turn
) -> None:
    async with running_gateway(only_elevenlabs=True) as gateway, connect(gateway.url) as client:
        gateway.sim.faults.set(actions.Refuse(status=503))
        for name in ("one", "two", "three", "four", "five"):
            await client.send(*turn(name))
            await client.until_final(name)
            heard = client.contexts[name]
            assert heard.error
            assert heard.error["isFinal"] is True
            assert (heard.finals, heard.audio, heard.words) == (1, b"", [])
            assert {"error", "message", "code", "context_id"} <= heard.error.keys()
        gateway.sim.faults.clear()
        gateway.service.reset_circuit_breaker()
        await client.send(*turn("six"))
        await client.until_final("six")
        assert_whole(client.contexts["six"])


async def test_text_for_a_context_that_has_failed_opens_no_other_one() -> None:
    async with running_gateway(only_elevenlabs=True) as gateway, pipecat_client(gateway.url) as client:
        gateway.sim.faults.set(actions.Refuse(status=503))
        *text, flush, close = pipecat_turn("a")
        await client.send(*text)
        await client.until_final("a")
        gateway.sim.faults.clear()
        gateway.service.reset_circuit_breaker()
        await client.send(text[-1], flush, close, *pipecat_turn("b"))
        await client.until_final("b")
        assert_whole(client.contexts["b"])
        assert client.contexts["a"].finals == 1


@CLIENTS
async def test_barge_in_finishes_what_was_sent_and_the_next_answer_is_whole(connect: Connect, turn: Turn) -> None:
    async with running_gateway() as gateway, connect(gateway.url) as client:
        opening, first, *_ = turn("interrupted")
        await client.send(opening, first)
        while not client.contexts.get("interrupted"):
            await client.receive()
        await client.send('{"context_id": "interrupted", "close_context": true}', *turn("next"))
        await client.until_final("interrupted", "next")
        assert_whole(client.contexts["next"])
        assert_whole(client.contexts["interrupted"], SENTENCES[0].split())


async def test_text_token_by_token_is_spoken_without_a_flush() -> None:
    words = [f"{word} " for sentence in SENTENCES for word in sentence.split()]
    async with (
        running_gateway() as gateway,
        pipecat_client(gateway.url, "?model_id=eleven_flash_v2_5&output_format=pcm_24000&auto_mode=false") as client,
    ):
        await client.send(*pipecat_turn("a", [part for word in words for part in (word[:2], word[2:]) if part]))
        await client.until_final("a")
        assert_whole(client.contexts["a"])
