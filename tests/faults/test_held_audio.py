"""Audio that is held to its end is the same whether a relay or a task collects it, whatever a vendor does."""

from __future__ import annotations

import asyncio

import pytest

from steadyvoice import ElevenLabs
from steadyvoice.providers.base import SupportsPrepare

from .fault_cases import FaultCase
from .scenario import FaultOutcome, local_voice, run_case
from .test_passthrough import CASES, timeless_fields

pytestmark = pytest.mark.timeout(300)  # the first test runs all cases


class IteratedElevenLabs(ElevenLabs):
    """Provider whose responses cannot be read directly, so that its chunks are iterated."""

    prepare = None  # type: ignore[assignment]


@pytest.fixture(scope="module")
def all_outcomes() -> dict[FaultCase, list[FaultOutcome]]:
    """Outcomes of every fault, collected by a relay and iterated."""

    async def run_all() -> dict[FaultCase, list[FaultOutcome]]:
        places, local = asyncio.Semaphore(2), local_voice()

        async def both_ways(case: FaultCase) -> list[FaultOutcome]:
            async with places:
                kinds = (ElevenLabs, IteratedElevenLabs)
                ways = [run_case(case, "synthesize", local, by=by, warm=True) for by in kinds]
                return await asyncio.gather(*ways)

        try:
            return dict(zip(CASES, await asyncio.gather(*map(both_ways, CASES)), strict=True))
        finally:
            await local.aclose()

    return asyncio.run(run_all())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_collected_and_iterated_answers_are_indistinguishable(
    all_outcomes: dict[FaultCase, list[FaultOutcome]], case: FaultCase
) -> None:
    collected, iterated = all_outcomes[case]
    assert timeless_fields(collected) == timeless_fields(iterated)


def test_both_ways_are_exercised() -> None:
    """Otherwise this module would compare equal ways."""
    assert isinstance(ElevenLabs("any"), SupportsPrepare)
    assert not isinstance(IteratedElevenLabs("any"), SupportsPrepare)
