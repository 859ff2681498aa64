"""Simulator and the vendors' own clients for each test."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator

import httpx
import httpx2
import openai
import pytest
from elevenlabs import AsyncElevenLabs, ElevenLabs

from .background_simulator import KEY, BackgroundSimulator, background_simulator


@pytest.fixture(scope="session")
def certificates() -> ssl.SSLContext:
    """Return certificates loaded once, which is most of the time for making a client; nothing here is encrypted."""
    return ssl.create_default_context()


@pytest.fixture
def sim() -> Iterator[BackgroundSimulator]:
    with background_simulator() as background:
        yield background


@pytest.fixture
def eleven(sim: BackgroundSimulator, certificates: ssl.SSLContext) -> Iterator[ElevenLabs]:
    with httpx.Client(verify=certificates, timeout=30) as http:
        yield ElevenLabs(api_key=KEY, base_url=sim.url, httpx_client=http)


@pytest.fixture
async def async_eleven(sim: BackgroundSimulator, certificates: ssl.SSLContext) -> AsyncIterator[AsyncElevenLabs]:
    async with httpx.AsyncClient(verify=certificates, timeout=30) as http:
        yield AsyncElevenLabs(api_key=KEY, base_url=sim.url, httpx_client=http)


@pytest.fixture
def openai_client(sim: BackgroundSimulator, certificates: ssl.SSLContext) -> Iterator[openai.OpenAI]:
    with httpx2.Client(verify=certificates, timeout=30) as http:
        yield openai.OpenAI(api_key=KEY, base_url=f"{sim.url}/v1", http_client=http)


@pytest.fixture
async def async_openai_client(
    sim: BackgroundSimulator, certificates: ssl.SSLContext
) -> AsyncIterator[openai.AsyncOpenAI]:
    async with httpx2.AsyncClient(verify=certificates, timeout=30) as http:
        yield openai.AsyncOpenAI(api_key=KEY, base_url=f"{sim.url}/v1", http_client=http)
