"""What both frameworks' suites have in common: the answer, the vendor's faults, and the service that speaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, ElevenLabs, Provider, TimeoutConfig, Tone
from steadyvoice.gateway.server import Gateway
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.simulator import Fault, Simulator, actions

from .recorder import recorded

TEXT = "It rains today. We stay at home, and we read a good book. Tomorrow the sun will shine again for all of us."
WORDS = TEXT.split()
TOKENS = [f"{word} " for word in WORDS]
RATE = 24000
KEY = "sk_" + "a" * 40
BRISK = TimeoutConfig(connection_timeout=1.0, total_timeout=15.0, first_audio_timeout=0.6, stall_timeout=0.6)

FAULTS: dict[str, Any] = {
    "healthy": None,
    "503": actions.Refuse(status=503),
    "cut": actions.Cut(after=1.0),
    "hang": actions.Hang(),
    "stall": actions.Stall(after=1.0),
    "quota": actions.Refuse(code="quota_exceeded"),
    "final without audio": actions.FinalWithoutAudio(),
    "bad key": actions.Refuse(code="invalid_api_key"),
    "1011": actions.Close(code=1011, after=1.0),
}


@asynccontextmanager
async def simulated_vendor(fault: str = "healthy", **settings: Any) -> AsyncIterator[Simulator]:
    """Run a simulated ElevenLabs that speaks in word tones and has the fault."""
    async with Simulator(voice="tones", **settings) as simulator:
        if action := FAULTS[fault]:
            simulator.faults.set(Fault(action))
        yield simulator


@asynccontextmanager
async def service_on(simulator: Simulator, *others: Provider) -> AsyncIterator[AsyncTTSService]:
    """Open a service in front of the simulated vendor and other providers; its circuit closes again after a moment."""
    circuit = CircuitBreakerConfig.consecutive(3, cooldown_period=0.2)
    providers = [ElevenLabs(api_key=KEY, base_url=simulator.url), *others]
    async with AsyncTTSService(providers, circuit=circuit, timeouts=BRISK) as service:
        yield service


@asynccontextmanager
async def spoken_through(fault: str) -> AsyncIterator[AsyncTTSService]:
    """Open a service whose first provider has the fault, and whose second is a local voice."""
    async with simulated_vendor(fault) as simulator, service_on(simulator, Tone()) as service:
        yield service


@asynccontextmanager
async def gateway_on(service: AsyncTTSService, client: str, scenario: str) -> AsyncIterator[str]:
    """Run a gateway in front of a service, and yield its URL. Its client may be recorded."""
    async with Gateway(service, ServerConfig(port=0)) as gateway, recorded(gateway.url, client, scenario) as url:
        yield url


def assert_monotonic(times: Sequence[float]) -> None:
    """Assert that the times of words do not go back."""
    assert list(times) == sorted(times)
