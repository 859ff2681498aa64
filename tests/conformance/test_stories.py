"""The stories that are meant for the vendors, told to their stand-in; and what they would cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.stories import BUDGET, ELEVENLABS, OPENAI, Place, Story, name_of

from .background import KEY, Background, in_the_background

GEORGE = "JBFqnCBsd6RMkjVDRZzb"


@pytest.fixture
def sim() -> Iterator[Background]:
    with in_the_background(keys=(KEY,)) as background:
        yield background


@pytest.mark.parametrize("story", ELEVENLABS, ids=name_of)
async def test_elevenlabs(sim: Background, story: Story) -> None:
    await story(_elevenlabs(sim))


@pytest.mark.parametrize("story", OPENAI, ids=name_of)
async def test_openai(sim: Background, story: Story) -> None:
    await story(_openai(sim))


async def test_all_of_them_together_cost_less_than_promised(sim: Background) -> None:
    for story in ELEVENLABS:
        await story(_elevenlabs(sim))
    for story in OPENAI:
        await story(_openai(sim))
    assert 0 < sim.charged < BUDGET
    assert sum(entry.charged for entry in sim.ledger()) == sim.charged


def _elevenlabs(sim: Background) -> Place:
    return Place(sim.url, KEY, GEORGE, "eleven_flash_v2_5")


def _openai(sim: Background) -> Place:
    return Place(f"{sim.url}/v1", KEY, "alloy", "gpt-4o-mini-tts")
