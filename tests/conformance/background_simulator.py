"""Simulator on an event loop of its own, for clients that block, with or without a gateway in front of it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible, Provider, Tone
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.simulator import Fault, LedgerEntry, Simulator
from steadyvoice.simulator.fault_injection.actions import FaultAction, Refuse

KEY = "any-key"


@dataclass(frozen=True)
class BackgroundSimulator:
    """Handle of the simulator for a test in another thread."""

    simulator: Simulator
    loop: asyncio.AbstractEventLoop
    url: str

    def set_faults(self, *faults: Fault | FaultAction) -> None:
        """Replace all faults by these."""

        async def order() -> None:
            self.simulator.faults.set(*faults)

        asyncio.run_coroutine_threadsafe(order(), self.loop).result(timeout=30)

    def ledger(self) -> list[LedgerEntry]:
        """Return every request so far, once all have ended."""
        asyncio.run_coroutine_threadsafe(self.simulator.idle(), self.loop).result(timeout=30)
        return list(self.simulator.ledger)

    @property
    def charged(self) -> int:
        """Characters charged so far."""
        return self.simulator.ledger.charged

    def document(self, path: str, **headers: str) -> Any:
        """Return the JSON document at a path."""
        request = urllib.request.Request(self.url + path, headers=headers or {"xi-api-key": KEY})
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def sent(self, path: str, document: Any, **headers: str) -> bytes:
        """Post a document, and return the body of the response."""
        headers = {"content-type": "application/json", **headers}
        request = urllib.request.Request(
            self.url + path, data=json.dumps(document).encode(), headers=headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            body: bytes = response.read()
            return body

    def post(self, path: str) -> None:
        """Post an empty request."""
        request = urllib.request.Request(self.url + path, data=b"", method="POST")
        with urllib.request.urlopen(request, timeout=30) as response:
            response.read()


FrontEnd = Callable[[Simulator], AbstractAsyncContextManager[str]]


@contextmanager
def background_simulator(gate: FrontEnd | None = None, **settings: Any) -> Iterator[BackgroundSimulator]:
    """Run a simulator that speaks in tones until the block is left. A front end before it yields the URL to use."""
    ready: Future[BackgroundSimulator] = Future()
    enough = asyncio.Event()

    async def serve() -> None:
        async with (
            Simulator(**{"voice": "tones", **settings}) as simulator,
            (gate or simulator_itself)(simulator) as url,
        ):
            ready.set_result(BackgroundSimulator(simulator, asyncio.get_running_loop(), url))
            await enough.wait()

    thread = Thread(target=_reporting_to(ready, serve), name="simulator")
    thread.start()
    background = ready.result(timeout=30)
    try:
        yield background
    finally:
        background.loop.call_soon_threadsafe(enough.set)
        thread.join(timeout=30)


@asynccontextmanager
async def simulator_itself(simulator: Simulator) -> AsyncIterator[str]:
    """Yield the simulator's own URL, without anything in front of it."""
    yield simulator.url


@asynccontextmanager
async def elevenlabs_gateway(simulator: Simulator) -> AsyncIterator[str]:
    """Run a gateway in front of the simulated ElevenLabs."""
    async with _gateway(ElevenLabs(KEY, base_url=simulator.url)) as url:
        yield url


@asynccontextmanager
async def openai_gateway(simulator: Simulator) -> AsyncIterator[str]:
    """Run a gateway in front of the simulated OpenAI."""
    async with _gateway(OpenAICompatible(KEY, base_url=f"{simulator.url}/v1", model="gpt-4o-mini-tts")) as url:
        yield url


@asynccontextmanager
async def gateway_with_all_providers(simulator: Simulator) -> AsyncIterator[str]:
    """Run a gateway in front of both vendors, with a local voice."""
    openai = OpenAICompatible(KEY, base_url=f"{simulator.url}/v1", model="gpt-4o-mini-tts")
    async with _gateway(ElevenLabs(KEY, base_url=simulator.url), openai, Tone()) as url:
        yield url


@asynccontextmanager
async def gateway_in_an_outage(simulator: Simulator) -> AsyncIterator[str]:
    """Run a gateway whose vendors refuse every request."""
    async with gateway_with_all_providers(simulator) as url:
        simulator.faults.set(Fault(Refuse(status=503)))
        yield url


@asynccontextmanager
async def _gateway(*providers: Provider) -> AsyncIterator[str]:
    async with AsyncTTSService(providers, muted=False) as service, Gateway(service, ServerConfig(port=0)) as opened:
        yield opened.url


def _reporting_to(
    ready: Future[BackgroundSimulator], serve: Callable[[], Coroutine[Any, Any, None]]
) -> Callable[[], None]:
    """Return a function that runs `serve`, and reports a failure before it is ready to the waiting test."""

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            # Before it is ready, the test waits for the result and has to get the error; later it is printed.
            if ready.done():
                raise
            ready.set_exception(error)

    return run
