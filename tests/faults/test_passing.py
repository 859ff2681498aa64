"""What is passed on as it comes, and what takes the way round: whatever a vendor does, nobody can tell them apart."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs
from steadyvoice.providers.provider import Offer
from steadyvoice.service.service import AsyncSpeechStream
from steadyvoice.service.style import Style
from steadyvoice.simulator import acts
from steadyvoice.speech.request import SpeechRequest

from .bad_days import EVERY_DAY, BadDay
from .walk import Fate, live_through, local_voice

pytestmark = pytest.mark.timeout(300)  # all of it is lived through in the first one

A_FEW_REFUSALS = {"quota_exceeded", "too_many_concurrent_requests", "voice_not_found", "system_busy"}
DAYS = [day for day in EVERY_DAY if not isinstance(day.act, acts.Refuse) or day.act.code in A_FEW_REFUSALS]


class Roundabout(ElevenLabs):
    """Makes nothing ready, so that its audio goes through every room of the house."""

    def ready(self, request: SpeechRequest, offer: Offer) -> None:
        """Not this one."""


Ways = dict[BadDay, tuple[Fate, Fate]]


@pytest.fixture(scope="module")
def lived() -> Ways:
    """Every bad day, in both ways."""

    async def all_days() -> Ways:
        places, local = asyncio.Semaphore(2), local_voice()

        async def both(day: BadDay) -> tuple[Fate, Fate]:
            async with places:
                ways = [
                    live_through(day, "stream", local, by=by, on_midstream="error") for by in (ElevenLabs, Roundabout)
                ]
                passed, round_about = await asyncio.gather(*ways)
            return passed, round_about

        try:
            return dict(zip(DAYS, await asyncio.gather(*map(both, DAYS)), strict=True))
        finally:
            await local.aclose()

    return asyncio.run(all_days())


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_nobody_can_tell_the_two_ways_apart(lived: Ways, day: BadDay) -> None:
    passed, round_about = lived[day]
    assert told_of(passed) == told_of(round_about)


def told_of(fate: Fate) -> dict[str, Any]:
    """Everything about it that time does not change."""
    assert fate.account is not None
    spoken = fate.account.spoken
    return {
        "outcome": spoken.outcome,
        "error": type(fate.error),
        "attempts": [(each.provider, each.begin, each.end, type(each.error), each.bill) for each in spoken.attempts],
        "spans": [(span.provider, span.begin, span.voice, span.exact) for span in spoken.spans],
        "text": spoken.alignment.text,
        "times": spoken.outcome == "spoken" and spoken.alignment,  # the local voice's own are never quite the same
        "counted": fate.counted,
        "requests": fate.requests,
        "charged": fate.charged,
        "bills": fate.bills,
    }


@pytest.mark.parametrize(("by", "passes"), [(ElevenLabs, True), (Roundabout, False)])
async def test_the_two_ways_are_two(by: type[ElevenLabs], passes: bool) -> None:
    """Or all of this would compare something with itself."""
    async with AsyncTTSService([by("any")], on_midstream="error") as tts:
        style = Style.of({})
        AsyncSpeechStream(tts, "Hello", style, hold=False)
        [staging] = style.staged.values()
        assert staging.cast
        assert (staging.cast.parts[0].ready is not None) is passes
