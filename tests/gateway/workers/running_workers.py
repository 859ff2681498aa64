"""A gateway of several workers, as `steadyvoice serve --workers` starts it, with the simulator as its vendor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from steadyvoice.simulator import Simulator

SPEECH = "/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream?output_format=pcm_16000"
VENDOR = """
[[providers]]
kind = "elevenlabs"
api_key = "sk"
base_url = "{url}"
"""


@dataclass
class RunningWorkers:
    """Gateway of several workers: its supervisor, and its address."""

    url: str
    process: Process
    sim: Simulator
    config: Path
    log: Path

    async def get(self, path: str, client: aiohttp.ClientSession | None = None) -> Any:
        """Return a JSON document from whichever worker answers."""
        async with client_of(client) as session, session.get(self.url + path) as answer:
            return await answer.json()

    async def send(self, method: str, path: str, body: dict[str, Any]) -> Any:
        async with aiohttp.ClientSession() as session, session.request(method, self.url + path, json=body) as answer:
            return await answer.json()

    async def speak(self, text: str = "Hello there.") -> bytes:
        """Return the audio of a text; raises an error for anything but a whole answer."""
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.post(self.url + SPEECH, json={"text": text}) as answer,
        ):
            return await answer.read()

    async def metrics(self) -> dict[str, float]:
        """Return the metrics with their labels."""
        async with aiohttp.ClientSession() as session, session.get(self.url + "/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    async def workers(self) -> list[dict[str, Any]]:
        """Return the workers as any of them shows them."""
        state = await self.get("/admin/state")
        found: list[dict[str, Any]] = state["workers"]["workers"]
        return found

    async def until_ready(self, restarts: int = 0) -> None:
        """Wait until all workers are ready, and so many were restarted."""

        async def ready() -> bool:
            workers = await self.workers()
            return sum(each["restarts"] for each in workers) >= restarts and all(
                each["state"] == "ready" for each in workers
            )

        await until(ready)

    @asynccontextmanager
    async def connected_to(self, worker: int) -> AsyncIterator[aiohttp.ClientSession]:
        """Yield a client with one connection, which is to this worker."""
        sessions = []
        try:
            while True:
                session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
                sessions.append(session)
                state = await self.get("/admin/state", session)
                if state["workers"]["answered_by"] == worker:
                    yield session
                    return
        finally:
            for session in sessions:
                await session.close()

    async def stopped(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Stop the gateway, and return its exit status and last words."""
        self.process.send_signal(number)
        out, _ = await asyncio.wait_for(self.process.communicate(), 60)
        assert self.process.returncode is not None
        return self.process.returncode, out.decode()

    def logged(self, text: str) -> list[dict[str, Any]]:
        """Return the log lines with this text."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines() if text in line]


@asynccontextmanager
async def client_of(client: aiohttp.ClientSession | None) -> AsyncIterator[aiohttp.ClientSession]:
    if client is not None:
        yield client
        return
    async with aiohttp.ClientSession() as session:
        yield session


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(aiohttp.ClientConnectionError):
            if await condition():
                return
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


def is_running(pid: int) -> bool:
    """Return whether a process runs that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@asynccontextmanager
async def running_workers(
    folder: Path, server: str = "", more: str = "", *, workers: int = 2, pace: float = 0.0
) -> AsyncIterator[RunningWorkers]:
    """Start a gateway of several workers, and end it. `pace` is the vendor's, in seconds for a second of audio."""
    async with Simulator(voice="tones", concurrency=1000, real_time_factor=pace) as sim:
        config = folder / "c.toml"
        config.write_text(f"[server]\n{server}\n{more}\n{VENDOR.format(url=sim.url)}", "utf-8")
        log = folder / "log"
        command = [sys.executable, "-m", "steadyvoice", "serve", "--config", str(config), "--port", "0"]
        environment = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *command, "--workers", str(workers), stdout=PIPE, stderr=errors, env=environment
            )
        url = ""
        assert process.stdout is not None
        async for line in process.stdout:
            if b"ElevenLabs" in line:
                url = line.split()[-1].decode()
            if b"Ctrl-C" in line:
                break
        assert url, log.read_text("utf-8")
        running = RunningWorkers(url, process, sim, config, log)
        try:
            await running.until_ready()
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
