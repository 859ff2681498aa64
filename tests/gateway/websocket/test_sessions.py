"""Life of a websocket: the single context, idle clients, shutdown, metrics and logs, and what it leaves behind."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from steadyvoice.gateway.observability.access_log import ACCESS_LOGGER
from steadyvoice.simulator import words_in
from steadyvoice.simulator.fault_injection import actions
from tests.gateway.running_gateway import RunningGateway, running_gateway
from tests.gateway.websocket.clients import (
    PIPECAT,
    SENTENCES,
    SINGLE,
    WORDS,
    SocketClient,
    livekit_client,
    livekit_turn,
    pipecat_client,
    pipecat_turn,
)
from tests.leaked_objects import no_garbage

FORMAT = "?output_format=pcm_24000"


def uri(gateway: RunningGateway, path: str) -> str:
    return gateway.url.replace("http", "ws", 1) + path


async def received(connection: ClientConnection) -> list[dict[str, object]]:
    """Return all messages until the websocket is closed."""
    messages = []
    try:
        while True:
            messages.append(json.loads(await asyncio.wait_for(connection.recv(), 20)))
    except ConnectionClosed:
        return messages


async def test_single_context_is_spoken_and_closed() -> None:
    async with running_gateway() as gateway, connect(uri(gateway, SINGLE + FORMAT)) as connection:
        await connection.send(json.dumps({"text": " ", "voice_settings": None, "try_trigger_generation": True}))
        for word in WORDS:
            await connection.send(json.dumps({"text": f"{word} ", "try_trigger_generation": True}))
        await connection.send(json.dumps({"text": ""}))
        *sounds, final = await received(connection)
        audio = b"".join(base64.b64decode(str(each["audio"])) for each in sounds)
        assert words_in(audio, "pcm_24000") == WORDS
        assert all(each["isFinal"] is None and "contextId" not in each for each in sounds)
        assert (final["isFinal"], final["audio"], connection.close_code) == (True, None, 1000)


async def test_single_context_that_fails_is_an_error_and_1008() -> None:
    async with running_gateway(only_elevenlabs=True) as gateway:
        gateway.sim.faults.set(actions.Refuse(status=503))
        async with connect(uri(gateway, SINGLE)) as connection:
            await connection.send(json.dumps({"text": "Hello there. "}))
            await connection.send(json.dumps({"text": ""}))
            (error,) = await received(connection)
            assert {"error", "message"} <= error.keys()
            assert connection.close_code == 1008


async def test_voice_settings_of_a_context_reach_the_vendor() -> None:
    async with running_gateway() as gateway, livekit_client(gateway.url) as client:
        for name, stability in (("a", 0.3), ("b", 7)):
            first = {"text": " ", "context_id": name, "voice_settings": {"stability": stability}}
            await client.send(json.dumps(first), *livekit_turn(name)[1:])
            await client.until_final(name)
            assert client.contexts[name].spoken == WORDS
        providers = [(await gateway.next_call())[1].provider for _ in range(2)]
        assert providers == ["elevenlabs", "openai"], "the vendor refuses a stability of 7"
        await client.send(json.dumps({"text": " ", "context_id": "d", "voice_settings": {"speed": "quick"}}))
        await client.until_final("d")
        assert client.contexts["d"].error


@pytest.mark.slow
async def test_silent_client_is_closed_after_its_inactivity_timeout_and_keep_alives_count() -> None:
    async with (
        running_gateway() as gateway,
        pipecat_client(gateway.url, f"{PIPECAT}&inactivity_timeout=1") as silent,
        pipecat_client(gateway.url, f"{PIPECAT}&inactivity_timeout=1") as alive,
    ):

        async def keep_alive() -> None:
            while True:
                await alive.send('{"text": ""}')
                await asyncio.sleep(0.3)

        keeping = asyncio.create_task(keep_alive())
        error = await silent.receive()
        assert error["error"] == "input_timeout_exceeded"
        await silent.connection.wait_closed()
        assert silent.connection.close_code == 1008
        keeping.cancel()
        await alive.send(*pipecat_turn("a"))
        await alive.until_final("a")


async def test_shutdown_closes_with_1012_once_nothing_is_spoken() -> None:
    async with running_gateway() as gateway, livekit_client(gateway.url) as idle, livekit_client(gateway.url) as busy:
        gateway.sim.faults.set(actions.SlowFirstByte(0.3))
        await busy.send(*livekit_turn("a"))
        while not gateway.sim.ledger:  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(gateway.gateway.stop())
        await idle.connection.wait_closed()
        assert idle.connection.close_code == 1012
        await busy.until_final("a")
        assert busy.contexts["a"].spoken == WORDS
        await busy.connection.wait_closed()
        assert busy.connection.close_code == 1012
        assert await stopping == 0


async def test_hurried_shutdown_interrupts_turns_and_closes_with_1012() -> None:
    async with running_gateway(server={"shutdown_timeout": 0.2}) as gateway, livekit_client(gateway.url) as client:
        gateway.sim.faults.set(actions.Stall(after=0.5, seconds=60))
        await client.send(*livekit_turn("a"))
        await client.receive()
        assert await gateway.gateway.stop() == 1
        with pytest.raises(ConnectionClosed):
            await client.until_final("a")
        assert client.connection.close_code == 1012
        _, account = await gateway.next_call()
        assert account.outcome == "interrupted"


async def test_turns_are_calls_in_metrics_logs_and_admin(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, ACCESS_LOGGER)
    async with running_gateway() as gateway:
        async with livekit_client(gateway.url, request_id="mine") as client:
            await client.send(*livekit_turn("a"), *livekit_turn("b"))
            await client.until_final("a", "b")
            calls = (await (await gateway.get("/admin/calls")).json())["calls"]
            assert {(call["api"], call["outcome"], call["provider"]) for call in calls} == {
                ("elevenlabs-websocket", "spoken", "elevenlabs")
            }
            assert sorted(call["request_id"] for call in calls) == ["mine/1", "mine/2"]
            assert all(call["characters"] == len(" ".join(SENTENCES)) and call["first_audio"] > 0 for call in calls)
            metrics = await (await gateway.get("/metrics")).text()
            labels = 'api="elevenlabs-websocket",outcome="spoken",provider="elevenlabs"'
            assert f"steadyvoice_requests_total{{{labels}}} 2.0" in metrics
            assert "steadyvoice_websockets 1.0" in metrics
        while gateway.context.traffic().requests:  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(0.01)
        lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == ACCESS_LOGGER]
        turns = [line for line in lines if line["request_id"].startswith("mine/")]
        (socket,) = [line for line in lines if line["request_id"] == "mine"]
        assert [(turn["outcome"], turn["status"], turn["complete"]) for turn in turns] == [("spoken", 200, True)] * 2
        assert (socket["status"], socket["turns"], socket["close_code"]) == (101, 2, 1000)


async def completed(client: SocketClient) -> None:
    await client.send(*livekit_turn("a"), '{"close_socket": true}')
    await client.connection.wait_closed()


async def left(client: SocketClient) -> None:
    await client.send(*livekit_turn("a"))
    await client.receive()


async def vanished(client: SocketClient) -> None:
    await left(client)
    client.connection.transport.abort()


async def refused(client: SocketClient) -> None:
    await client.send(*livekit_turn("a"), "no JSON")
    await client.connection.wait_closed()


@pytest.mark.slow
@pytest.mark.usefixtures("frozen_heap")
@pytest.mark.parametrize("end", [completed, left, vanished, refused], ids=lambda end: end.__name__)
async def test_websocket_leaves_nothing_behind(end: Callable[[SocketClient], Awaitable[None]]) -> None:
    async def once() -> None:
        async with livekit_client(gateway.url) as client:
            await end(client)
        while gateway.context.traffic().connections:  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(0.01)

    async with running_gateway() as gateway:
        await once()
        with no_garbage():
            await once()
