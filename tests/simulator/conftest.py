"""Fixtures: a simulator with the tone voice for each test, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from steadyvoice.simulator import Simulator

from .client import Client


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(voice="tones") as simulator:
        yield simulator


@pytest.fixture
def client(sim: Simulator) -> Client:
    return Client(sim.url)
