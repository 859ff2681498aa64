"""A gateway in a process of its own, as `steadyvoice serve` starts it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

_GAUGE = re.compile(r"^(steadyvoice_\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass
class GatewayProcess:
    """Running process: address, open files, metrics."""

    url: str
    pid: int
    client: aiohttp.ClientSession
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def open_files(self) -> int:
        """Number of open files; 0 where the platform does not tell."""
        try:
            return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        except OSError:
            return 0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def send(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect and send bytes, without waiting until they are read."""
        reader, writer = await self.connect()
        writer.write(data)
        return reader, writer

    async def healthy(self) -> bool:
        async with self.client.get(f"{self.url}/healthz") as answer:
            return answer.status == 200

    async def post(self, path: str, document: dict[str, str]) -> aiohttp.ClientResponse:
        async with self.client.post(self.url + path, json=document) as answer:
            await answer.read()
            return answer

    async def gauges(self) -> dict[str, float]:
        """Return metrics by name; of those with labels, the sum."""
        found: dict[str, float] = {}
        async with self.client.get(f"{self.url}/metrics") as answer:
            for name, value in _GAUGE.findall(await answer.text()):
                found[name] = found.get(name, 0.0) + float(value)
        return found

    async def wait_for_connections(self, number: int) -> None:
        """Wait until so many connections are accepted."""
        while (await self.gauges())["steadyvoice_connections"] < number:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def wait_until_quiet(self) -> None:
        """Wait until there is no connection but this one, and no running request."""
        ours = {"steadyvoice_connections": 1, "steadyvoice_http_requests_in_flight": 1}
        nothing = {"steadyvoice_streams_in_flight": 0, "steadyvoice_provider_requests_in_flight": 0}
        while not (ours | nothing).items() <= (await self.gauges()).items():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def gateway_process(folder: Path, config: str) -> AsyncIterator[GatewayProcess]:
    """Start a gateway with this configuration, and end it."""
    (folder / "c.toml").write_text(config, encoding="utf-8")
    command = (sys.executable, "-m", "steadyvoice", "serve", "--config", str(folder / "c.toml"), "--port", "0")
    log = folder / "log"
    with log.open("wb") as err:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=err)
    assert process.stdout is not None
    url = ""
    # The address is printed first, and the line about Ctrl-C once signals are handled.
    async for line in process.stdout:
        if b"ElevenLabs" in line:
            url = line.split()[-1].decode()
        if b"Ctrl-C" in line:
            break
    try:
        # One connection, which `wait_until_quiet` expects to be the only one.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as client:
            yield GatewayProcess(url, process.pid, client, log)
    finally:
        process.terminate()
        await process.communicate()
