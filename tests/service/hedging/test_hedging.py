"""Hedged calls: one is heard, the other cancelled, and both are in the report."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from steadyvoice import Credential, HedgeConfig, TTSConfigurationError
from steadyvoice.service.billing import Charge
from steadyvoice.speech.errors import TTSHedgedError

from ..conftest import MakeService, loop_clock
from ..scripted_provider import Hang, Say, ScriptedProvider
from .late_provider import READY, TEXT, USUAL, hedge_counts, is_idle, late_provider, warm_up

pytestmark = pytest.mark.looptime


async def test_late_provider_is_overtaken_and_both_are_in_the_report(make_service: MakeService) -> None:
    first, second = late_provider(Hang()), ScriptedProvider(name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    began = loop_clock()
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert loop_clock() - began == pytest.approx(0.2, abs=0.01), "a tenth of a second for each"
    assert (speech.outcome, speech.provider) == ("substituted", "second")
    loser, winner = speech.attempts
    assert (loser.provider, loser.hedge, type(loser.error)) == ("first", False, TTSHedgedError)
    assert loser.waited == pytest.approx(0.2, abs=0.01)
    assert (winner.provider, winner.hedge, winner.error) == ("second", True, None)
    assert (loser.bill.charge, loser.bill.wasted) == (Charge.BILLED, len(TEXT))
    assert (speech.billed, speech.wasted) == (2 * len(TEXT), len(TEXT))
    assert tts.get_error_state()["bills"]["wasted_by"] == {"hedged": len(TEXT)}
    assert hedge_counts(tts) == (1, 1, 0)


async def test_hedge_is_logged(make_service: MakeService, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="steadyvoice.calls")
    tts = await warm_up(make_service(late_provider(Hang()), ScriptedProvider(name="second"), hedging=READY))
    caplog.clear()
    await tts.synthesize(TEXT, format="pcm_8000")
    assert [record.getMessage() for record in caplog.records] == [
        "first is late: no audio for 0.10 s; hedge sent to second",
        "first cancelled after 0.20 s: another provider answered first",
        "substituted: 1.86 s of audio by second in 2 attempts",
    ]


async def test_late_call_is_cancelled_and_counts_as_neither_failure_nor_success(
    make_service: MakeService,
) -> None:
    first, second = late_provider(Hang()), ScriptedProvider([Say(4.0, every=1.0)], name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="error")
    assert await anext(stream)
    await asyncio.sleep(0.0)
    assert first.cut_short == 1, "while the other is still speaking"
    state = tts.get_error_state()
    assert state["concurrency"]["in_use"] == 0
    totals = state["totals"]
    assert (totals["successes"], totals["failures"], totals["ignored"]) == (4, 0, 1)
    assert state["consecutive_failures"] == 0
    assert [chunk async for chunk in stream]
    assert is_idle(tts)


async def test_first_provider_wins_when_it_speaks_before_the_hedge(make_service: MakeService) -> None:
    first, second = late_provider(Say(first_after=0.3)), ScriptedProvider([Hang()], name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    speech = await tts.synthesize(TEXT, format="pcm_8000")
    assert (speech.outcome, speech.provider) == ("spoken", "first")
    loser, winner = speech.attempts
    assert (loser.provider, loser.hedge, type(loser.error)) == ("second", True, TTSHedgedError)
    assert (winner.provider, winner.hedge, winner.error) == ("first", False, None)
    assert tts.get_error_state()["providers"]["second"]["bills"]["wasted_by"] == {"hedged": len(TEXT)}
    assert tts.get_error_state()["providers"]["second"]["totals"]["ignored"] == 1
    assert hedge_counts(tts) == (1, 0, 1)
    assert is_idle(tts)


async def test_first_provider_wins_a_tie(make_service: MakeService) -> None:
    first, second = late_provider(Say(first_after=0.201)), ScriptedProvider([Say(first_after=0.1)], name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    stream = tts.stream(TEXT, format="pcm_8000", on_midstream="error")
    assert [chunk async for chunk in stream]
    assert stream.provider == "first"
    state = tts.get_error_state()["providers"]["second"]
    assert (state["totals"]["successes"], state["totals"]["ignored"]) == (0, 1)
    assert state["bills"]["wasted_by"] == {"hedged": len(TEXT)}, "it spoke to nobody"
    assert is_idle(tts)


async def test_call_in_time_is_not_hedged(make_service: MakeService) -> None:
    first, second = late_provider(), ScriptedProvider(name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    await tts.synthesize(TEXT, format="pcm_8000")
    assert not second.requests


async def test_no_hedge_before_enough_samples_or_without_the_setting(make_service: MakeService) -> None:
    for settings in ({"hedging": HedgeConfig(minimum_samples=5, budget=1.0)}, {}):
        first, second = late_provider(Say(first_after=5.0)), ScriptedProvider(name="second")
        tts = await warm_up(make_service(first, second, **settings))
        assert (await tts.synthesize(TEXT, format="pcm_8000")).provider == "first"
        assert not second.requests


async def test_single_call_can_disable_hedging(make_service: MakeService) -> None:
    first, second = late_provider(Say(first_after=5.0)), ScriptedProvider(name="second")
    tts = await warm_up(make_service(first, second, hedging=READY))
    assert (await tts.synthesize(TEXT, format="pcm_8000", hedging=False)).provider == "first"
    assert not second.requests
    with pytest.raises(TTSConfigurationError, match="hedging: must be true or false, got 'no'"):
        await tts.synthesize(TEXT, hedging="no")  # type: ignore[arg-type]


async def test_only_the_first_sound_is_hedged(make_service: MakeService) -> None:
    """A listener that has heard a voice is not given another one for a short pause."""
    first = ScriptedProvider([*USUAL, Say(first_after=0.1), Say(first_after=3.0)], name="first", max_characters=20)
    second = ScriptedProvider(name="second")
    tts = make_service(first, second, hedging=HedgeConfig(minimum_samples=2, budget=1.0))
    for _ in range(3):
        speech = await tts.synthesize("A short one. And another.", format="pcm_8000")
        assert (speech.outcome, speech.provider) == ("spoken", "first")
    assert not second.requests


async def test_time_in_the_queue_is_not_latency(make_service: MakeService) -> None:
    first, second = late_provider(), ScriptedProvider(name="second")
    first.credential = Credential("ours", initial_concurrency=1)  # type: ignore[attr-defined]
    tts = await warm_up(make_service(first, second, hedging=READY))
    tts.handler("first").account_limits.queue.limiter._ceiling = 1
    speeches = await asyncio.gather(*(tts.synthesize(TEXT, format="pcm_8000") for _ in range(5)))
    assert {speech.provider for speech in speeches} == {"first"}
    assert not second.requests


async def test_ten_equal_requests_cause_one_hedge(make_service: MakeService, tmp_path: Any) -> None:
    first, second = late_provider(Hang()), ScriptedProvider(name="second")
    tts = make_service(first, second, hedging=READY, cache=tmp_path)
    for number in range(len(USUAL)):
        await tts.synthesize(f"{number}ood morning, is anybody there?", format="pcm_8000")
    speeches = await asyncio.gather(*(tts.synthesize(TEXT, format="pcm_8000") for _ in range(10)))
    assert {speech.provider for speech in speeches} == {"second"}
    assert (len(first.requests), len(second.requests)) == (5, 1)
    assert sum(len(speech.attempts) for speech in speeches) == 2
    await tts.aclose()
