"""Hostile clients: other requests are served meanwhile, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from steadyvoice.gateway.http_server.listener import raise_descriptor_limit
from steadyvoice.simulator import Simulator

from ..gateway_process import GatewayProcess, gateway_process
from ..running_gateway import ELEVENLABS, elevenlabs_body

pytestmark = pytest.mark.slow

TONE = '[[providers]]\nkind = "tone"\n'
PATIENT = f"[server]\nheader_timeout = 300\n{TONE}"  # they shall still be there when they are counted
HASTY = f"[server]\nheader_timeout = 1\nbody_timeout = 1\nidle_timeout = 1\nwrite_timeout = 1\n{TONE}"
STREAM = f"{ELEVENLABS}/stream?output_format=pcm_16000"
BODY = json.dumps(elevenlabs_body()).encode()
HEAD = f"POST {STREAM} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n".encode()
REQUEST = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
LONG = json.dumps(elevenlabs_body("A long scenario, with many words. " * 200)).encode()


@pytest.mark.parametrize("number", [10_000])
async def test_ten_thousand_silent_connections(tmp_path: Path, number: int) -> None:
    number = min(number, raise_descriptor_limit(number))
    async with gateway_process(tmp_path, PATIENT) as gateway:
        before = gateway.open_files
        idle = []
        for _ in range(number // 500):
            idle += [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(500)]
            assert await gateway.healthy()
            await gateway.wait_for_connections(min(len(idle), 8192))
        assert (await gateway.post(STREAM, elevenlabs_body())).status == 200
        hang_up(idle)
        await gateway.wait_until_quiet()
        assert gateway.open_files <= before + 2


async def test_slow_senders_non_readers_and_half_closed_clients(tmp_path: Path) -> None:
    async with gateway_process(tmp_path, HASTY) as gateway:
        dripping = asyncio.create_task(drip(gateway, 100))
        silent = [await gateway.send(part) for part in (b"", b"GET / HT", HEAD, REQUEST[:-5]) for _ in range(50)]
        deaf = [await deaf_to(gateway) for _ in range(5)]
        half = [await gateway.send(REQUEST) for _ in range(50)]
        for _, writer in half:
            writer.write_eof()
        for _ in range(20):
            assert (await gateway.post(STREAM, elevenlabs_body())).status == 200
        for reader, writer in silent:  # one by one they have been told, or shown out
            heard = await reader.read()
            assert heard == b"" or heard.split()[1] in (b"408", b"200")
            writer.close()
        await gateway.wait_until_quiet()
        await dripping
        hang_up([*deaf, *(writer for _, writer in half)])


async def test_body_of_a_hundred_megabytes(tmp_path: Path) -> None:
    async with gateway_process(tmp_path, TONE) as gateway:
        for head in (b"content-length: 100000000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n"):
            reader, writer = await gateway.send(HEAD + head)
            block = bytes(1_000_000)
            with suppress(ConnectionError):
                for _ in range(100):
                    writer.write(b"f4240\r\n%b\r\n" % block if b"chunked" in head else block)
                    await writer.drain()
            with suppress(ConnectionError):
                assert (await reader.read(12)).endswith(b"413")
            writer.close()
            assert await gateway.healthy()
        await gateway.wait_until_quiet()


async def test_random_bytes(tmp_path: Path) -> None:
    random = Random(7)
    async with gateway_process(tmp_path, HASTY) as gateway:
        for _ in range(20):
            noise = [random.randbytes(random.randrange(1, 5000)) for _ in range(10)]
            noise += [mutated(REQUEST * 2, random) for _ in range(20)]
            calls = await asyncio.gather(*(gateway.send(each) for each in noise))
            assert await gateway.healthy()
            hang_up(writer for _, writer in calls)
        await gateway.wait_until_quiet()
        assert "traceback" not in gateway.log.read_text()


async def test_disconnects_at_any_moment_count_against_no_provider(tmp_path: Path) -> None:
    async with behind_a_vendor(tmp_path) as (gateway, sim):
        assert (await gateway.post(STREAM, elevenlabs_body())).status == 200
        before = gateway.open_files
        random = Random(11)
        for _ in range(10):
            await asyncio.gather(
                *(leave_early(gateway, random.expovariate(20), random.random() < 0.2) for _ in range(50))
            )
        await gateway.wait_until_quiet()
        await sim.idle()
        assert gateway.open_files <= before + 50, "to the vendor, one for each who called at once is kept, and no more"
        state = json.loads(await (await gateway.client.get(f"{gateway.url}/admin/state")).read())
        vendor = state["providers"]["elevenlabs"]
        assert vendor["totals"]["failures"] == 0
        assert vendor["totals"]["calls"] > 100
        assert vendor["circuit_state"] == "closed"
        assert (await gateway.post(STREAM, elevenlabs_body())).headers["x-steadyvoice-provider"] == "elevenlabs"


async def drip(gateway: GatewayProcess, number: int) -> None:
    """Say a request byte by byte, never to its end."""
    lines = [await gateway.connect() for _ in range(number)]
    for byte in REQUEST[:30]:
        for _, writer in lines:
            writer.write(bytes([byte]))
        await asyncio.sleep(0.05)
    hang_up(writer for _, writer in lines)


async def deaf_to(gateway: GatewayProcess) -> socket.socket:
    """Ask for a long scenario, and read none of it."""
    line = socket.socket()
    line.setblocking(False)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(line, ("127.0.0.1", gateway.port))
    await loop.sock_sendall(line, HEAD + b"content-length: %d\r\n\r\n" % len(LONG) + LONG)
    return line


async def leave_early(gateway: GatewayProcess, after: float, rudely: bool) -> None:
    _, writer = await gateway.send(REQUEST)
    await asyncio.sleep(after)
    writer.transport.abort() if rudely else writer.close()


def hang_up(lines: Iterable[asyncio.StreamWriter | socket.socket]) -> None:
    for line in lines:
        line.close()


def mutated(request: bytes, random: Random) -> bytes:
    """Change, drop, double or move some bytes."""
    data = bytearray(request)
    for _ in range(random.randrange(1, 8)):
        offset, length = random.randrange(len(data)), random.randrange(1, 20)
        match random.randrange(4):
            case 0:
                data[offset] = random.randrange(256)
            case 1:
                del data[offset : offset + length]
            case 2:
                data[offset:offset] = data[offset : offset + length]
            case 3:
                data[offset:offset] = random.choice([b"\r\n", b"\x00", b"\n", b": ", b"content-length: 5\r\n", b"%00"])
    return bytes(data)


@asynccontextmanager
async def behind_a_vendor(folder: Path) -> AsyncIterator[tuple[GatewayProcess, Simulator]]:
    """A gateway whose vendor is the simulator, here."""
    vendor = '[[providers]]\nkind = "elevenlabs"\napi_key = "sk"\nbase_url = "{}"\n'
    async with (
        Simulator(voice="tones", concurrency=1000) as sim,
        gateway_process(folder, vendor.format(sim.url) + TONE) as gateway,
    ):
        yield gateway, sim
