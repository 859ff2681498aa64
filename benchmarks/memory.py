"""Memory and open files of the gateway over many requests of all kinds.

Run: `python benchmarks/memory.py` where steadyvoice is installed, on Linux; `--requests 5000` for a short one. A
hundred thousand take some minutes.

The gateway is `steadyvoice serve` in a process of its own. Its vendor is a few lines in this one that answer at once
with the same audio. Of ten callers seven listen to the end, one is refused, one asks for health or lists, and one hangs
up. Every caller's voice, request id and path are new, so that anything kept by name would show. The exit status is
1 if memory or open files grow after the first fifth, in which caches and pools are filled.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import aiohttp

from steadyvoice import Tone, TTSService

TEXT = "Yes."
CALLERS = 16
STEPS = 10
MOST_GROWTH = 0.05  # of what it was after the first fifth
CONFIG = """
[server]
port = 0
access_log = true
[fallback]
on_midstream = "error"
[[providers]]
kind = "elevenlabs"
api_key = "sk"
base_url = "{url}"
[[providers]]
kind = "tone"
"""


class MemoryVendor(asyncio.Protocol):
    """Vendor that answers every request with the same audio, in the requested format."""

    audio: dict[str, bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._received = transport, b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not found or len(body) < int(length[1] if length else 0):
            return
        self._received = b""
        format_name = re.search(rb"output_format=(\w+)", head)
        audio = self.audio[format_name[1].decode() if format_name else "pcm_16000"]
        head = b"HTTP/1.1 200 OK\r\ncontent-type: audio/pcm\r\nrequest-id: r\r\ncontent-length: %d\r\n\r\n" % len(audio)
        self._transport.write(head + audio)


@asynccontextmanager
async def vendor() -> AsyncIterator[str]:
    with TTSService([Tone()]) as tts:
        MemoryVendor.audio = {name: tts.synthesize(TEXT, format=name).audio for name in ("pcm_16000", "pcm_24000")}
    server = await asyncio.get_running_loop().create_server(MemoryVendor, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@asynccontextmanager
async def gateway(folder: Path, url: str) -> AsyncIterator[tuple[str, int]]:
    (folder / "c.toml").write_text(CONFIG.format(url=url))
    command = (sys.executable, "-m", "steadyvoice", "serve", "--config", str(folder / "c.toml"))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=log)
    assert process.stdout
    # The port is chosen by the system; the line that names it is printed once the gateway listens.
    while b"ElevenLabs" not in (line := await process.stdout.readline()):
        assert line, (folder / "log").read_text()
    yield line.split()[-1].decode(), process.pid
    process.terminate()
    print((await process.communicate())[0].decode().strip().splitlines()[-1])
    print(f"the log has {(folder / 'log').stat().st_size / 1e6:.1f} MB")


async def call(client: aiohttp.ClientSession, url: str, number: int, random: Random) -> None:
    # New names for every call: anything that is kept by name, and never dropped, grows with them.
    headers = {"x-request-id": f"call-{number}"}
    path = f"{url}/v1/text-to-speech/voice-{number}/stream?output_format=pcm_16000"
    match number % 10:
        case 0:
            document = random.choice([{}, {"text": ""}, {"text": TEXT, "model_id": 7}])
            async with client.post(path, json=document, headers=headers) as answer:
                assert answer.status == 422
        case 1:
            target = random.choice(["/healthz", "/readyz", "/metrics", "/admin/state", f"/nowhere/{number}"])
            async with client.get(url + target, headers=headers) as answer:
                await answer.read()
        case 2:
            async with client.post(path, json={"text": TEXT}, headers=headers) as answer:
                # The headers have come and the body is not read: the connection is closed in the middle of the
                # answer.
                answer.close()
        case 3 | 4:
            document = {"input": TEXT, "model": f"model-{number}", "voice": f"voice-{number}", "response_format": "pcm"}
            async with client.post(f"{url}/v1/audio/speech", json=document, headers=headers) as answer:
                assert (answer.status, len(await answer.read())) == (200, len(MemoryVendor.audio["pcm_24000"]))
        case _:
            async with client.post(path, json={"text": TEXT}, headers=headers) as answer:
                assert (answer.status, len(await answer.read())) == (200, len(MemoryVendor.audio["pcm_16000"]))


async def calls(url: str, numbers: Iterator[int]) -> None:
    random = Random(3)

    async def caller() -> None:
        async with aiohttp.ClientSession() as client:
            for number in numbers:
                await call(client, url, number, random)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def size(pid: int) -> tuple[float, int]:
    """Resident memory in MB, and open files."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1]) / 1024, len(os.listdir(f"/proc/{pid}/fd"))


async def main(requests: int) -> int:
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        async with vendor() as vendor_url, gateway(Path(folder), vendor_url) as (url, pid):
            print(f"at first: {size(pid)[0]:.1f} MB\n\n| requests | MB | files |\n|---|---|---|")
            for step in range(STEPS):
                await calls(url, iter(range(step * requests // STEPS, (step + 1) * requests // STEPS)))
                await asyncio.sleep(0.5)  # connections that were hung up on are let go of
                sizes.append(size(pid))
                print(f"| {(step + 1) * requests // STEPS:,} | {sizes[-1][0]:.1f} | {sizes[-1][1]} |", flush=True)
    # After a fifth of all requests, because caches, pools and the allocator's arenas fill up first.
    (settled, files), (last, last_files) = sizes[1], sizes[-1]
    grown = last / settled - 1
    flat = grown <= MOST_GROWTH and last_files <= files + CALLERS
    print(f"{'flat' if flat else 'GROWN'}: {grown:+.1%} from {settled:.1f} MB, {last_files - files:+d} files")
    return not flat


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    sys.exit(asyncio.run(main(parser.parse_args().requests)))
