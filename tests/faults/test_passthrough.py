"""What is passed on as it comes, what is poured, and what takes the way round: nobody can tell them apart, whatever a
vendor does.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs
from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.service.options import ResolvedOptions
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.speech.request import SpeechRequest

from .fault_cases import EVERY_DAY, BadDay
from .scenario import Fate, live_through, local_voice

pytestmark = pytest.mark.timeout(300)  # all of it is lived through in the first one

A_FEW_REFUSALS = {"quota_exceeded", "too_many_concurrent_requests", "voice_not_found", "system_busy"}
DAYS = [day for day in EVERY_DAY if not isinstance(day.act, actions.Refuse) or day.act.code in A_FEW_REFUSALS]


class Roundabout(ElevenLabs):
    """Makes nothing ready, so that its audio goes through every room of the house."""

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> None:
        """Not this one."""


Ways = dict[BadDay, list[Fate]]  # passed, poured, and round about


@pytest.fixture(scope="module")
def lived() -> Ways:
    """Every bad day, in all ways."""

    async def all_days() -> Ways:
        places, local = asyncio.Semaphore(2), local_voice()

        async def each_way(day: BadDay) -> list[Fate]:
            async with places:
                ways = ((ElevenLabs, False), (ElevenLabs, True), (Roundabout, False))
                fates = [
                    live_through(day, "stream", local, by=by, poured=poured, on_midstream="error")
                    for by, poured in ways
                ]
                return await asyncio.gather(*fates)

        try:
            return dict(zip(DAYS, await asyncio.gather(*map(each_way, DAYS)), strict=True))
        finally:
            await local.aclose()

    return asyncio.run(all_days())


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_nobody_can_tell_the_ways_apart(lived: Ways, day: BadDay) -> None:
    passed, poured, round_about = lived[day]
    assert told_of(passed) == told_of(round_about)
    assert told_of(poured) == told_of(round_about)


def test_the_second_way_is_one_of_its_own(lived: Ways) -> None:
    """Or all of this would compare something with itself."""
    poured = [fates[1].poured for fates in lived.values()]
    assert sum(bytes_poured > 0 for bytes_poured in poured) >= 5
    assert not any(fates[0].poured or fates[2].poured for fates in lived.values())


def told_of(fate: Fate) -> dict[str, Any]:
    """Everything about it that time does not change."""
    assert fate.account is not None
    spoken = fate.account.report
    return {
        "outcome": spoken.outcome,
        "error": type(fate.error),
        "attempts": [(each.provider, each.begin, each.end, type(each.error), each.bill) for each in spoken.attempts],
        "spans": [(span.provider, span.begin, span.voice, span.exact) for span in spoken.spans],
        "text": spoken.alignment.text,
        "times": spoken.outcome == "spoken" and spoken.alignment,  # the local voice's own are never quite the same
        "audio": spoken.outcome == "spoken" and fate.audio,
        "counted": fate.counted,
        "requests": fate.requests,
        "charged": fate.charged,
        "bills": fate.bills,
    }


@pytest.mark.parametrize(("by", "passes"), [(ElevenLabs, True), (Roundabout, False)])
async def test_the_two_ways_are_two(by: type[ElevenLabs], passes: bool) -> None:
    """Or all of this would compare something with itself."""
    async with AsyncTTSService([by("any")], on_midstream="error") as tts:
        style = ResolvedOptions.of({})
        tts.open_stream("Hello", style, hold=False)
        [staging] = style.templates.values()
        assert staging.cast
        assert (staging.cast.candidates[0].ready is not None) is passes
