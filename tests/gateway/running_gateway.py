"""A running gateway for tests: the simulator as its vendors, and an HTTP client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, ElevenLabs, OpenAICompatible, RetryConfig, Tone
from steadyvoice.gateway.context import GatewayContext, RequestObserver
from steadyvoice.gateway.request_context import RequestContext
from steadyvoice.gateway.server import Gateway
from steadyvoice.gateway.speech_request import GatewaySpeechRequest
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.simulator import Simulator

GEORGE = "JBFqnCBsd6RMkjVDRZzb"
ELEVENLABS = f"/v1/text-to-speech/{GEORGE}"
OPENAI = "/v1/audio/speech"
TEXT = "Good morning, this is a test of many words."
CIRCUIT = CircuitBreakerConfig(failure_threshold=0.5, window_size=4, cooldown_period=30, success_threshold=2)


class Clock:
    """Monotonic clock that can be moved ahead."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class CallWitness(RequestObserver):
    """Observer that queues finished calls."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[tuple[RequestContext, ReportedUtterance]] = asyncio.Queue()

    def speech_finished(
        self, request: RequestContext, api: str, order: GatewaySpeechRequest, utterance: ReportedUtterance
    ) -> None:
        self.calls.put_nowait((request, utterance))


@dataclass
class RunningGateway:
    """Gateway, service, simulator and HTTP client of a test."""

    sim: Simulator
    service: AsyncTTSService
    gateway: Gateway
    client: aiohttp.ClientSession
    witness: CallWitness

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def context(self) -> GatewayContext:
        return self.gateway.context

    async def next_call(self) -> tuple[RequestContext, ReportedUtterance]:
        """Wait until a call has ended in the gateway."""
        return await self.witness.calls.get()

    async def fetch(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        """Send a request, and read the whole response."""
        answer = await self.client.request(method, self.url + path, **options)
        await answer.read()
        return answer

    def post(self, path: str, document: Any, **options: Any) -> Any:
        """Send a POST request with a JSON body."""
        return self.client.post(self.url + path, json=document, **options)

    def get(self, path: str, **options: Any) -> Any:
        """Send a GET request."""
        return self.client.get(self.url + path, **options)


@asynccontextmanager
async def running_gateway(
    *others: Any, server: dict[str, Any] | None = None, only_elevenlabs: bool = False, **settings: Any
) -> AsyncIterator[RunningGateway]:
    """Run a gateway with two simulated vendors and a tone. `settings` are the service's."""
    # One attempt and a small window, so that few requests open a circuit and none is repeated unasked.
    settings = {"circuit": CIRCUIT, "retry": RetryConfig(max_attempts=1), **settings}
    async with Simulator(voice="tones") as sim:
        eleven = ElevenLabs("sk_test", base_url=sim.url)
        all_of_them = (eleven, OpenAICompatible("sk_test", base_url=f"{sim.url}/v1"), Tone())
        providers = others or ((eleven,) if only_elevenlabs else all_of_them)
        async with (
            AsyncTTSService(providers, **settings) as service,
            Gateway(service, ServerConfig(**{"port": 0, **(server or {})})) as gateway,
            aiohttp.ClientSession() as client,
        ):
            # The last observer: when a test sees a call, metrics and logs have recorded it.
            gateway.context.observers.append(witness := CallWitness())
            yield RunningGateway(sim, service, gateway, client, witness)


def elevenlabs_body(text: str = TEXT, **fields: Any) -> dict[str, Any]:
    """Return the body of an ElevenLabs request."""
    return {"text": text, **fields}


def openai_body(text: str = TEXT, **fields: Any) -> dict[str, Any]:
    """Return the body of an OpenAI request."""
    return {"input": text, "model": "tts-1", "voice": "alloy", **fields}
