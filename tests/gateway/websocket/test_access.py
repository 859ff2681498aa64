"""Access to the websockets: keys in header, query and first message, Host and Origin; nothing secret is logged."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.running_gateway import RunningGateway, running_gateway
from tests.gateway.websocket.clients import MULTI, PIPECAT, SINGLE, SocketClient, pipecat_turn

KEY = "the-right-key"
SERVER = {"api_keys": [KEY], "header_timeout": 1.0}


def address(gateway: RunningGateway, query: str = PIPECAT) -> str:
    return gateway.url.replace("http", "ws", 1) + MULTI + query


async def status_of(uri: str, **headers: str) -> int:
    """Return the status of a refused upgrade."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(uri, additional_headers=headers)
    return refused.value.response.status_code


async def speaks(client: SocketClient, *first: str) -> bool:
    await client.send(*first, *pipecat_turn("a"))
    await client.until_final("a")
    return client.contexts["a"].error is None


async def test_key_is_accepted_in_header_query_and_first_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_gateway(server=SERVER) as gateway:
        async with connect(address(gateway), additional_headers={"xi-api-key": KEY}) as connection:
            assert await speaks(SocketClient(connection))
        for value in (KEY, f"Bearer%20{KEY}"):
            async with connect(address(gateway, f"{PIPECAT}&authorization={value}")) as connection:
                assert await speaks(SocketClient(connection))
        async with connect(address(gateway)) as connection:
            first = json.dumps({"text": " ", "context_id": "a", "xi-api-key": KEY})
            assert await speaks(SocketClient(connection), first)
        assert KEY not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("steady"))


async def test_wrong_key_in_header_or_query_is_refused_before_the_upgrade() -> None:
    async with running_gateway(server=SERVER) as gateway:
        assert await status_of(address(gateway), **{"xi-api-key": "wrong"}) == 401
        assert await status_of(address(gateway, f"{PIPECAT}&authorization=wrong")) == 401
        assert gateway.sim.ledger.charged == 0


async def test_nothing_is_accepted_without_a_valid_key() -> None:
    async def refused(*messages: str) -> Any:
        async with connect(address(gateway)) as connection:
            for message in messages:
                await connection.send(message)
            error = json.loads(await connection.recv())
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            return error["error"], connection.close_code

    async with running_gateway(server=SERVER) as gateway:
        wrong = json.dumps({"text": "Hello there.", "context_id": "a", "xi-api-key": "wrong"})
        results = await asyncio.gather(refused(*pipecat_turn("a")), refused(wrong, *pipecat_turn("a")), refused())
        assert set(results) == {("invalid_api_key", 1008)}
        assert gateway.sim.ledger.charged == 0


async def test_foreign_pages_and_hosts_are_refused() -> None:
    page = "https://app.example"
    async with running_gateway(server={"allowed_origins": [page]}) as gateway:
        assert await status_of(address(gateway), Origin="https://evil.example") == 403
        assert await status_of(address(gateway), Origin="null") == 403
        async with connect(address(gateway), origin=page) as connection:  # type: ignore[arg-type]
            assert await speaks(SocketClient(connection))
        host = await gateway.get(MULTI, headers={"host": "rebound.example", "upgrade": "websocket"})
        assert host.status == 403


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?output_format=wav_44100", 422),
        ("?inactivity_timeout=181", 422),
        ("?auto_mode=perhaps", 422),
        ("?seed=-1", 422),
        ("?apply_text_normalization=maybe", 422),
        ("?model_id=%ff", 422),
    ],
)
async def test_impossible_query_is_refused_before_the_upgrade(query: str, status: int) -> None:
    async with running_gateway() as gateway:
        assert await status_of(address(gateway, query)) == status


async def test_request_without_an_upgrade_is_refused() -> None:
    async with running_gateway() as gateway:
        for path in (MULTI, SINGLE):
            answer = await gateway.fetch("GET", path)
            assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
            assert (await gateway.fetch("POST", path, json={})).status == 405


async def test_malformed_handshake_is_refused() -> None:
    async with running_gateway() as gateway:
        broken = {
            "connection": "upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "7",
            "sec-websocket-key": "x",
        }
        assert (await gateway.fetch("GET", MULTI, headers=broken)).status == 400
        assert (await gateway.fetch("GET", "/healthz", headers=broken)).status == 200
