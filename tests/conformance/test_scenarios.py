"""The live scenarios, run against the simulator, and their price."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.scenarios import BUDGET, ELEVENLABS, OPENAI, Scenario, Target, name_of

from .background_simulator import KEY, BackgroundSimulator, background_simulator

GEORGE = "JBFqnCBsd6RMkjVDRZzb"


@pytest.fixture
def sim() -> Iterator[BackgroundSimulator]:
    with background_simulator(keys=(KEY,)) as background:
        yield background


@pytest.mark.parametrize("story", ELEVENLABS, ids=name_of)
async def test_elevenlabs(sim: BackgroundSimulator, story: Scenario) -> None:
    await story(_elevenlabs(sim))


@pytest.mark.parametrize("story", OPENAI, ids=name_of)
async def test_openai(sim: BackgroundSimulator, story: Scenario) -> None:
    await story(_openai(sim))


async def test_all_scenarios_cost_less_than_the_budget(sim: BackgroundSimulator) -> None:
    for story in ELEVENLABS:
        await story(_elevenlabs(sim))
    for story in OPENAI:
        await story(_openai(sim))
    assert 0 < sim.charged < BUDGET
    assert sum(entry.charged for entry in sim.ledger()) == sim.charged


def _elevenlabs(sim: BackgroundSimulator) -> Target:
    return Target(sim.url, KEY, GEORGE, "eleven_flash_v2_5")


def _openai(sim: BackgroundSimulator) -> Target:
    return Target(f"{sim.url}/v1", KEY, "alloy", "gpt-4o-mini-tts")
