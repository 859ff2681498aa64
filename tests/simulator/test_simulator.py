"""The simulator as a whole: addresses, time, concurrency and shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import aiohttp
import pytest

from steadyvoice.providers.espeak import is_installed
from steadyvoice.simulator import Ending, Fault, FaultError, Script, Simulator, words_in
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.simulator import serve
from tests.required_tools import require_tool

from .client import OPENAI, STREAM, TEXT, TIMED, WORDS, Client, until
from .clock import SimulatorClock


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.com", ""])
def test_host_must_be_a_loopback_address(host: str) -> None:
    with pytest.raises(ValueError, match="must be a loopback address"):
        Simulator(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost"])
async def test_every_loopback_name_is_accepted(host: str) -> None:
    async with Simulator(voice="tones", host=host) as sim:
        assert (await Client(sim.url).get("/v1/voices")).status == 200


def test_invalid_setting_is_rejected() -> None:
    with pytest.raises(FaultError, match="concurrency"):
        Simulator(concurrency=0)
    with pytest.raises(TypeError):
        Simulator(volume=11)


async def test_settings_override_the_script() -> None:
    script = Script(faults=(Fault(actions.Empty()),))
    async with Simulator(script, voice="tones", keys=("k",)) as sim:
        assert sim.settings.keys == ("k",)
        assert (await Client(sim.url, {"xi-api-key": "k"}).speak()).body == b""


async def test_closed_simulator_is_released() -> None:
    async with Simulator(voice="tones") as sim:
        assert (await Client(sim.url).speak()).status == 200
        simulator = weakref.ref(sim)
    del sim
    await asyncio.sleep(0)
    gc.collect()
    assert simulator() is None


async def test_same_seed_gives_the_same_faults() -> None:
    days = []
    for seed in (1, 1, 2):
        async with Simulator(voice="tones", seed=seed) as sim:
            sim.faults.set(Fault(actions.Refuse(status=503), probability=0.5))
            client = Client(sim.url)
            answers = [await client.get("/v1/voices") for _ in range(24)]
            days.append([(seen.status, seen.headers.get("request-id")) for seen in answers])
    assert days[0] == days[1] != days[2]


async def test_fault_times_use_the_given_clock() -> None:
    clock = SimulatorClock(500.0)
    async with Simulator(voice="tones", clock=clock) as sim:
        sim.faults.set(Fault(actions.Refuse(status=503), start=10, end=20))
        client = Client(sim.url)
        found = [(await client.get("/v1/voices")).status for clock.now in (505.0, 515.0, 525.0)]
        assert found == [200, 503, 200]
        assert [entry.received for entry in sim.ledger] == [5.0, 15.0, 25.0]


async def test_real_time_factor_paces_the_audio() -> None:
    async with Simulator(voice="tones", real_time_factor=0.05) as sim:
        seen = await Client(sim.url).speak()
        assert words_in(seen.body, "pcm_8000") == WORDS
        entry = sim.ledger[-1]
        assert entry.first_byte is not None
        assert entry.ended is not None
        assert entry.ended - entry.received >= 0.05 * entry.audio_sent


async def test_concurrent_requests_get_their_own_audio() -> None:
    async with Simulator(voice="tones", concurrency=20) as sim:
        client = Client(sim.url)
        texts = [f"This is number {number}" for number in range(20)]
        answers = await asyncio.gather(*(client.speak(text=text) for text in texts))
        assert [words_in(seen.body, "pcm_8000") for seen in answers] == [text.split() for text in texts]


async def test_simulator_stops_with_waiting_clients() -> None:
    async with Simulator(voice="tones") as sim:
        sim.faults.set(actions.Hang())
        client = Client(sim.url)
        waiting = [asyncio.create_task(client.speak(path)) for path in (STREAM, OPENAI, TIMED)]
        await until(lambda: sim.ledger.charged == 3 * len(TEXT))
    assert [entry.ending for entry in sim.ledger] == [Ending.CLOSED] * 3
    assert [seen.status for seen in await asyncio.gather(*waiting)] == [0, 0, 0]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_simulator_stops_with_kept_connections() -> None:
    async with aiohttp.ClientSession(headers={"xi-api-key": "any"}) as session:
        async with Simulator(voice="tones") as sim:
            for _ in range(3):
                async with session.get(f"{sim.url}/v1/voices") as answer:
                    assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"{sim.url}/v1/voices")


async def test_simulator_stops_while_clients_reconnect() -> None:
    async def reconnect(url: str) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await Client(url).get("/v1/voices")

    async with Simulator(voice="tones") as sim:
        clients = [asyncio.create_task(reconnect(sim.url)) for _ in range(5)]
        await until(lambda: len(sim.ledger) >= 20)
    await asyncio.gather(*clients)


async def test_simulator_stops_while_requests_arrive() -> None:
    sim = await Simulator(voice="tones").__aenter__()
    sim.faults.set(actions.Hang())
    waiting = asyncio.create_task(Client(sim.url).speak())
    port = int(sim.url.rpartition(":")[2])
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    await until(lambda: sim.ledger.charged > 0)
    closing = asyncio.create_task(sim.__aexit__())
    for _, writer in connections:
        writer.write(b"GET /v1/voices HTTP/1.1\r\nhost: x\r\nxi-api-key: any\r\n\r\n")
        await asyncio.sleep(0)
    await closing
    await waiting
    for _, writer in connections:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_connections_are_kept_between_healthy_requests(sim: Simulator) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector, headers={"xi-api-key": "any"}) as session:
        ports = set()
        for _ in range(3):
            async with session.post(sim.url + STREAM, json={"text": TEXT}) as answer:
                assert answer.connection is not None
                assert answer.connection.transport is not None
                ports.add(answer.connection.transport.get_extra_info("sockname"))
                assert words_in(await answer.read(), "pcm_8000") == WORDS
        assert len(ports) == 1


async def test_http_1_0_client_is_served(sim: Simulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sim.url.rpartition(":")[2]))
    body = b'{"text": "Hi there"}'
    writer.write(f"POST {STREAM} HTTP/1.0\r\nxi-api-key: any\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    head, _, audio = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert b"chunked" not in head.lower()
    assert words_in(audio, "pcm_8000") == ["Hi", "there"]


async def test_too_large_body_is_rejected_and_recorded(sim: Simulator, client: Client) -> None:
    seen = await client.speak(text="a" * (9 * 1024 * 1024))
    assert seen.status == 413
    assert sim.ledger[-1].ending is Ending.REFUSED


async def test_real_speech_has_times_and_two_voices() -> None:
    require_tool(is_installed(), "steadyvoice[local]")
    async with Simulator(voice="speech") as sim:
        client = Client(sim.url)
        first, again, other = [
            await client.speak(path)
            for path in (TIMED, TIMED, TIMED.replace("JBFqnCBsd6RMkjVDRZzb", "21m00Tcm4TlvDq8ikWAM"))
        ]
        assert first.body == again.body != other.body
        assert "".join(first.json["alignment"]["characters"]) == TEXT
        at_once = await asyncio.gather(*(client.speak(TIMED) for _ in range(3)))
        assert {seen.body for seen in at_once} == {first.body}
        assert len((await client.speak(fault="too-short")).body) < 0.5 * len((await client.speak()).body)


async def test_client_that_leaves_ends_its_voice_process() -> None:
    require_tool(is_installed(), "steadyvoice[local]")
    async with Simulator(voice="speech", real_time_factor=1.0) as sim:
        await Client(sim.url).speak(leave=True)
        await sim.idle()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_runner_prints_addresses_and_faults() -> None:
    printed: list[str] = []
    enough = asyncio.Event()
    script = Script(faults=(Fault(actions.Stall(after=0.8), nth=2),), about="A test.")
    simulator = Simulator(script, voice="tones")
    serving = asyncio.create_task(serve(simulator, printed.append, enough))
    await until(lambda: len(printed) > 0)
    await Client(simulator.url).speak()
    enough.set()
    await serving
    assert "A test." in printed[0]
    assert any(line.endswith(simulator.url) for line in printed)
    assert any(line.strip() == "stall;after=0.8;nth=2" for line in printed)
    assert printed[-1] == f"Stopped after 1 requests and {len(TEXT)} characters charged."
