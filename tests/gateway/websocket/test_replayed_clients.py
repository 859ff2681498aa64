"""LiveKit's and Pipecat's own ElevenLabs services, replayed at the gateway: whole answers, times, faults, barge-in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from websockets.exceptions import ConnectionClosed

from tests.gateway.running_gateway import running_gateway
from tests.gateway.websocket.clients import (
    WORDS,
    Heard,
    livekit_client,
    livekit_turn,
    pipecat_client,
    pipecat_turn,
)


def assert_whole(heard: Heard, words: list[str] = WORDS) -> None:
    """Check that every word was spoken and timed once and in order, and that the context has ended once."""
    assert heard.spoken == words
    assert heard.timed == words
    assert all(earlier < later for earlier, later in pairwise(heard.times))
    assert heard.times[-1] < len(heard.audio) / 48_000
    assert (heard.finals, heard.error) == (1, None)


async def test_livekit_hears_whole_answers_with_times_on_one_socket() -> None:
    async with running_gateway() as gateway, livekit_client(gateway.url) as client:
        for name in ("first", "second"):
            await client.send(*livekit_turn(name))
            await client.until_final(name)
            assert_whole(client.contexts[name])
        assert len(gateway.context.service.circuits) == 3


async def test_pipecat_hears_whole_answers_with_times_on_one_socket() -> None:
    async with running_gateway() as gateway, pipecat_client(gateway.url) as client:
        for name in ("first", "second"):
            await client.send(*pipecat_turn(name))
            await client.until_final(name)
            assert_whole(client.contexts[name])
        await client.send('{"close_socket": true}')
        with pytest.raises(ConnectionClosed):
            await client.receive()
        assert client.connection.close_code == 1000
