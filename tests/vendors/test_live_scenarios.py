"""The live scenarios of the further vendors, run against the simulator, and their price."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.background_simulator import KEY, BackgroundSimulator, background_simulator
from tests.live.scenarios import TEXT
from tests.live.vendor_scenarios import LIVE_VENDORS, VENDOR_SCENARIOS, LiveAccount

from .vendors import VENDORS


@pytest.fixture(scope="module")
def sim() -> Iterator[BackgroundSimulator]:
    with background_simulator(keys=(KEY,)) as background:
        yield background


@pytest.mark.parametrize("name", LIVE_VENDORS)
async def test_scenarios_hold_and_cost_two_texts(sim: BackgroundSimulator, name: str) -> None:
    before = sim.charged
    for scenario in VENDOR_SCENARIOS:
        await scenario(name, LiveAccount(sim.url, KEY))
    assert sim.charged - before == 2 * len(TEXT)


def test_every_vendor_has_scenarios() -> None:
    assert LIVE_VENDORS.keys() == VENDORS.keys()
