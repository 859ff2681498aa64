"""Length of the healthy path: Python calls, C calls and own modules that one warm request touches.

Run: `python benchmarks/path.py`; half a minute. `--top 30` lists the functions that are called most, `--json FILE`
writes the numbers. These are counts, not times. A busy machine makes them larger in one way only: the longer a request
takes, the more ticks of the fast lane and heartbeats of the event loop fall into its time. They are counted with it.

The gateway runs in this process, on uvloop where there is one, the vendor in another, and the client in a thread that
is not counted. After a warm-up, so many requests are made one after the other; what other threads do, and what is
deferred until after the answer, is counted as well. What an idle gateway does in the same time is subtracted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from types import FrameType
from typing import Any

from proxy.vendor import TEXT, USUAL

import steadyvoice
from steadyvoice import AsyncTTSService, ElevenLabs
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig

WARM_UP, REQUESTS = 20, 30
SETTLES = 0.3
"""Seconds in which what was deferred is done."""

SLOWER = 100
"""Factor by which the clock of a measured service is slower than time.

By it, no request is late, however busy the machine is. The pipeline would go on with a late one, at 600 calls more.
"""

CHUNK_EVERY = 0.004
"""Seconds between the vendor's chunks, so that each is read by itself."""

_OURS = str(Path(steadyvoice.__file__).parent) + os.sep
_HERE = str(Path(__file__).resolve().parent) + os.sep
_VOICE = "JBFqnCBsd6RMkjVDRZzb"

_RELAY = "service/fast_lane/relay.py"
_TICK = ("gateway/fast_lane/lane.py", "FastLane._tick")
_HEARTBEAT = ("service/resilience/event_loop_lag.py", "LoopLag._ring")

Request = Callable[[], Awaitable[object]]


@dataclass
class Counts:
    """Calls that were made while counting was on."""

    python: int = 0
    c: int = 0
    functions: Counter[tuple[str, str]] = field(default_factory=Counter)  # ours, by module and qualified name


@dataclass(frozen=True)
class Length:
    """Length of one path: calls of one request, on average, and the modules of all of them."""

    name: str
    python: float
    c: float
    own: float
    modules: int
    relayed: int
    """Requests that were served by the fast lane to the end."""
    ticks: float
    """Ticks of the fast lane for one request."""
    heartbeats: float
    """Heartbeats of the event loop for one request."""
    most_called: Sequence[tuple[str, float]]


class Profiler:
    """Counts calls in all threads that are started under it, and in the one that started it."""

    def __init__(self) -> None:
        self.counts: Counts | None = None

    def __enter__(self) -> Profiler:
        # Both are needed: `threading.setprofile` reaches threads that start later, and not the present one.
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counts]:
        """Count until the end of the block."""
        self.counts = counts = Counts()
        try:
            yield counts
        finally:
            self.counts = None

    def _note(self, frame: FrameType, event: str, arg: object) -> None:
        counts = self.counts
        if counts is None:
            return
        code = frame.f_code
        # The client and the request functions of this benchmark are no part of the path.
        if code.co_filename.startswith(_HERE):
            return
        if event == "call":
            counts.python += 1
            if code.co_filename.startswith(_OURS):
                counts.functions[code.co_filename[len(_OURS) :], code.co_qualname] += 1
        elif event == "c_call":
            counts.c += 1


async def measure(name: str, request: Request, profiler: Profiler, requests: int = REQUESTS) -> Length:
    """Measure one path."""
    for _ in range(WARM_UP):
        await request()
    await asyncio.sleep(SETTLES)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with profiler.counting() as busy:
        for _ in range(requests):
            await request()
        # Observers are informed up to 50 ms after an answer, and connections are returned to their pools.
        await asyncio.sleep(SETTLES)
    seconds = loop.time() - begun
    with profiler.counting() as idle:
        # As long as the measured run: timers of the gateway, such as that of hourly statistics, run in both.
        await asyncio.sleep(seconds)
    called = busy.functions - idle.functions
    return Length(
        name,
        (busy.python - idle.python) / requests,
        (busy.c - idle.c) / requests,
        called.total() / requests,
        len({module for module, _ in called}),
        called[_RELAY, "Relay.__init__"] - called[_RELAY, "Relay.hand_over"],
        called[_TICK] / requests,
        called[_HEARTBEAT] / requests,
        [(f"{module} {function}", count / requests) for (module, function), count in called.most_common()],
    )


class Client:
    """Makes HTTP requests over one kept connection, in a thread of its own that no profiler sees.

    Each is sent at once: http.client sends the body in a packet of its own, which is read together with the head or
    alone, as it happens.
    """

    def __init__(self, url: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        content = json.dumps(body).encode()
        fields = {"host": host, "content-type": "application/json", "content-length": len(content), **headers}
        head = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self._request = "\r\n".join([*head, "", ""]).encode() + content
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._requested = threading.Event()
        self._closing = False
        self._done: asyncio.Future[int] | None = None
        self._thread = threading.Thread(target=self._run, args=[asyncio.get_running_loop()], daemon=True)
        self._thread.start()

    async def __call__(self) -> int:
        """Make one request, and return the bytes of its answer."""
        self._done = asyncio.get_running_loop().create_future()
        self._requested.set()
        return await self._done

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._requested.set()
        self._thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        # A new thread inherits the profile function of `threading.setprofile`.
        sys.setprofile(None)
        while True:
            self._requested.wait()
            self._requested.clear()
            if self._closing:
                self._socket.close()
                return
            assert self._done is not None
            try:
                self._socket.sendall(self._request)
                answer = HTTPResponse(self._socket, method="POST")
                answer.begin()
                body = answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"HTTP {answer.status}: {body[:200]!r}")
            except Exception as error:
                loop.call_soon_threadsafe(self._done.set_exception, error)
            else:
                loop.call_soon_threadsafe(self._done.set_result, len(body))


@contextlib.contextmanager
def vendor(pace: float) -> Iterator[str]:
    """Run a vendor whose answer has sixteen chunks; give its URL."""
    command = [sys.executable, "-m", "proxy.vendor", "0", *([str(pace)] if pace else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_HERE) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.terminate()


def provider(url: str) -> ElevenLabs:
    """Return a provider that speaks with the vendor."""
    return ElevenLabs("no-secret", base_url=url)


async def library(url: str, profiler: Profiler) -> list[Length]:
    """Measure `synthesize()` and `stream()` with their defaults, which resume in midstream."""
    async with AsyncTTSService([provider(url)], clock=_slow_clock) as tts:

        async def synthesize() -> None:
            await tts.synthesize(TEXT, format=USUAL)

        async def stream() -> None:
            async for _ in tts.stream(TEXT, format=USUAL):
                pass

        return [await measure("synthesize()", synthesize, profiler), await measure("stream()", stream, profiler)]


def _slow_clock() -> float:
    return time.monotonic() / SLOWER


Call = tuple[str, Mapping[str, Any], Mapping[str, str]]
"""Path, body and headers of a request to the gateway."""

ELEVENLABS_CALL: Call = (
    f"/v1/text-to-speech/{_VOICE}/stream?output_format={USUAL}", {"text": TEXT}, {"xi-api-key": "k"},
)  # fmt: skip


async def gateway_request(
    url: str, profiler: Profiler, name: str, settings: Mapping[str, Any], call: Call = ELEVENLABS_CALL
) -> Length:
    """Measure one endpoint of a gateway with these settings of its service."""
    # Without the muted mode, so that a failure is an error here and not a measured path of silence.
    service = AsyncTTSService([provider(url)], muted=False, clock=_slow_clock, **settings)
    async with service, Gateway(service, ServerConfig(port=0, access_log=False)) as running:
        client = Client(running.url, *call)
        try:
            return await measure(name, client, profiler)
        finally:
            await asyncio.to_thread(client.close)


async def gateway(url: str, profiler: Profiler) -> list[Length]:
    """Measure the gateway's endpoints."""
    body = {"model": "tts-1", "input": TEXT, "voice": "alloy", "response_format": "mp3"}
    openai: Call = ("/v1/audio/speech", body, {"authorization": "Bearer k"})
    lengths = []
    with tempfile.TemporaryDirectory() as folder:
        paths: list[tuple[str, dict[str, Any], Call]] = [
            ("gateway, passthrough", {"on_midstream": "error"}, ELEVENLABS_CALL),
            ("gateway, resume", {}, ELEVENLABS_CALL),
            ("gateway, OpenAI endpoint, passthrough", {"on_midstream": "error"}, openai),
            ("gateway, OpenAI endpoint, resume", {}, openai),
            ("gateway, cached", {"cache": Path(folder)}, ELEVENLABS_CALL),
        ]
        for name, settings, call in paths:
            lengths.append(await gateway_request(url, profiler, name, settings, call))
    return lengths


async def all_paths() -> dict[str, list[Length]]:
    """Measure every path: with an answer that comes at once, and with one that comes chunk by chunk."""
    found = {}
    with Profiler() as profiler:
        for title, pace in (("answer in one piece", 0.0), ("answer in 16 chunks", CHUNK_EVERY)):
            with vendor(pace) as url:
                found[title] = await library(url, profiler) + await gateway(url, profiler)
    return found


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--top", type=int, default=0, help="list so many functions of each path")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        found = runner.run(all_paths())
    for title, lengths in found.items():
        print(f"{title:<40}{'Python calls':>13}{'C calls':>10}{'own calls':>11}{'own modules':>13}")
        for each in lengths:
            missing = REQUESTS - each.relayed if each.relayed else 0
            note = f"  {missing} of {REQUESTS} in the pipeline" if missing else ""
            print(f"  {each.name:<38}{each.python:>13.0f}{each.c:>10.0f}{each.own:>11.0f}{each.modules:>13}{note}")
            for function, calls in each.most_called[: options.top]:
                print(f"      {calls:8.2f}  {function}")
        print()
    if options.json:
        document = {
            title: [{**vars(each), "most_called": each.most_called[:50]} for each in lengths]
            for title, lengths in found.items()
        }
        options.json.write_text(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
