"""Three gateways with the configuration of `deploy/compose.yaml`, at a real server."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .redis_server import redis_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CONFIG = Path(__file__).parents[2] / "deploy" / "fleet.toml"
TOKEN = "an-admin-token-of-tests"


@asynccontextmanager
async def gateway(fleet_url: str, log: Path) -> AsyncIterator[str]:
    """Start a gateway with the deployed configuration, and yield its address."""
    names = ("STEADYVOICE_API_KEY", "ELEVENLABS_API_KEY", "OPENAI_API_KEY")
    keys = {name: f"sk-of-tests-{name.lower()}" for name in names}
    environment = {**os.environ, **keys, "STEADYVOICE_ADMIN_TOKEN": TOKEN, "STEADYVOICE_FLEET_URL": fleet_url}
    command = [sys.executable, "-m", "steadyvoice", "serve", "--config", str(CONFIG), "--port", "0"]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=errors, env=environment)
    assert process.stdout is not None
    url = ""
    try:
        async for line in process.stdout:
            if b"ElevenLabs" in line:
                url = line.split()[-1].decode()
            if b"Ctrl-C" in line:
                break
        assert url, "it did not start"
        yield url
    finally:
        process.kill()
        await process.communicate()


async def test_composed_replicas_share_and_obey_orders(tmp_path: Path) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    with redis_server(tmp_path, "--requirepass", "secret", "--maxmemory-policy", "noeviction") as server:
        fleet_url = f"redis://:secret@127.0.0.1:{server.port}/0"
        async with AsyncExitStack() as stack:
            starting = [stack.enter_async_context(gateway(fleet_url, tmp_path / f"log-{n}")) for n in range(3)]
            urls = [await each for each in starting]
            client = await stack.enter_async_context(aiohttp.ClientSession(headers=headers))

            async def states() -> list[Any]:
                answers = [client.get(f"{url}/admin/state") for url in urls]
                return [await (await each).json() for each in answers]

            while any(len(state["fleet"]["replicas"]) < 2 for state in await states()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            order = {"reason": "maintenance", "everywhere": True}
            async with client.post(f"{urls[0]}/admin/circuits/elevenlabs/open", json=order) as answer:
                assert answer.status == 200
            async with client.patch(
                f"{urls[1]}/admin/circuits/openai?everywhere=yes", json={"window_size": 7}
            ) as answer:
                assert answer.status == 200

            async def obeyed() -> bool:
                found = await states()
                circuits = [await (await client.get(f"{url}/admin/circuits/openai")).json() for url in urls]
                return all(each["circuit_state"] == "forced_open" for each in found) and all(
                    each["config"]["window_size"] == 7 for each in circuits
                )

            while not await obeyed():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            assert "secret" not in str(await states())
