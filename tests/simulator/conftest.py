"""A simulator that speaks in tones, for each story its own."""

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
