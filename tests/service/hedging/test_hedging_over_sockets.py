"""Hedging over two real connections: one is heard, the other closed, and both vendors' accounting agrees with ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, HedgeConfig, OpenAICompatible, Tone
from steadyvoice.service.billing import Charge
from steadyvoice.service.result import ReportedUtterance
from steadyvoice.simulator import Fault, Simulator
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.ledger import Ending
from steadyvoice.speech.errors import TTSHedgedError

from ..scripted_provider import read_chunks

pytestmark = pytest.mark.slow

TEXT = "Good morning, is anybody there?"
READY = HedgeConfig(minimum_samples=5, budget=1.0)


@asynccontextmanager
async def warm_service(first: Simulator, second: Simulator, hedging: HedgeConfig) -> AsyncIterator[AsyncTTSService]:
    """Return a service that knows the first vendor's latency; the second vendor has the same voice."""
    vendors = [ElevenLabs(f"sk_{name}", name=name, base_url=sim.url) for name, sim in named_vendors(first, second)]
    async with AsyncTTSService([*vendors, Tone()], hedging=hedging) as tts:
        for _ in range(hedging.minimum_samples):
            assert (await tts.synthesize(TEXT, format="pcm_16000")).provider == "first"
        yield tts


def named_vendors(first: Simulator, second: Simulator) -> list[tuple[str, Simulator]]:
    return [("first", first), ("second", second)]


def charged_characters(sim: Simulator) -> int:
    return sum(entry.charged for entry in sim.ledger)


@pytest.mark.parametrize("silence", [actions.HangAfterHeaders(), actions.SlowFirstByte(30.0), actions.Hang()])
async def test_late_vendor_is_disconnected_and_the_other_is_heard(silence: actions.FaultAction) -> None:
    async with (
        Simulator(voice="tones") as first,
        Simulator(voice="tones") as second,
        warm_service(first, second, READY) as tts,
    ):
        before = charged_characters(first)
        first.faults.set(silence)
        speech = await tts.synthesize(TEXT, format="pcm_16000", voice_substitution="never")
        assert (speech.outcome, speech.provider) == ("substituted", "second")
        loser, winner = speech.attempts
        assert isinstance(loser.error, TTSHedgedError)
        assert (winner.hedge, winner.error, second.ledger[-1].charged) == (True, None, len(TEXT))
        await first.idle()
        assert first.ledger[-1].ending is Ending.CLIENT_LEFT
        cost = charged_characters(first) - before
        if isinstance(silence, actions.HangAfterHeaders):
            assert (loser.bill.charge, loser.bill.characters, loser.bill.wasted) == (Charge.BILLED, cost, cost)
        assert cost in (0, loser.bill.characters)
        assert tts.get_error_state()["bills"]["wasted_by"] == {"hedged": loser.bill.wasted}
        assert tts.get_error_state()["totals"]["failures"] == 0


async def test_losing_hedge_is_disconnected() -> None:
    async with (
        Simulator(voice="tones") as first,
        Simulator(voice="tones") as second,
        warm_service(first, second, READY) as tts,
    ):
        first.faults.set(actions.SlowFirstByte(3.0))
        second.faults.set(actions.HangAfterHeaders())
        speech = await tts.synthesize(TEXT, format="pcm_16000")
        assert (speech.outcome, speech.provider) == ("spoken", "first")
        await second.idle()
        assert second.ledger[-1].ending is Ending.CLIENT_LEFT
        bills = tts.get_error_state()["providers"]["second"]["bills"]
        assert (bills["billed"], bills["wasted_by"]) == (
            charged_characters(second),
            {"hedged": charged_characters(second)},
        )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(3))
async def test_accounting_agrees_with_both_vendors(seed: int) -> None:
    rng = Random(seed)
    faults = [
        Fault(actions.SlowFirstByte(0.3), probability=0.3),
        Fault(actions.HangAfterHeaders(), probability=0.2),
        Fault(actions.Cut(0.5), probability=0.2),
        Fault(actions.Refuse(status=503), probability=0.2),
    ]
    hedging = HedgeConfig(percentile=0.8, minimum_samples=5, budget=0.5)
    async with (
        Simulator(voice="tones", concurrency=4, real_time_factor=0.02, seed=seed) as first,
        Simulator(voice="tones", concurrency=4, real_time_factor=0.02, seed=seed + 9) as second,
        warm_service(first, second, hedging) as tts,
    ):
        accounts: list[ReportedUtterance] = []
        before = tts.get_error_state()["bills"]["billed"]

        async def listen() -> None:
            stream = tts.stream(TEXT * rng.randint(1, 3), format="pcm_16000", deadline=2.0)
            accounts.append(stream)
            await read_chunks(stream, rng.choice([1, 5, 10_000]))

        for sim in (first, second):
            sim.faults.set(*faults)
        for _ in range(8):
            tts.reset_circuit_breaker()
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(listen())
        states = tts.get_error_state()["providers"]
        for name, sim in named_vendors(first, second):
            await sim.idle()
            ledger = {entry.request_id: entry for entry in sim.ledger}
            attempts = [attempt for account in accounts for attempt in account.attempts if attempt.provider == name]
            for attempt in attempts:
                if attempt.bill.charge is Charge.BILLED:
                    assert attempt.request_id
                    assert ledger[attempt.request_id].charged == attempt.bill.characters
            bills = states[name]["bills"]
            billed = sum(attempt.bill.characters for attempt in attempts if attempt.bill.charge is Charge.BILLED)
            assert billed == bills["billed"] - (before if name == "first" else 0)
            assert bills["billed"] <= charged_characters(sim) <= bills["billed"] + bills["unknown"]
            assert states[name]["concurrency"]["in_use"] == 0
        hedges = tts.get_error_state()["hedging"]
        assert hedges["started"] == hedges["won"] + hedges["lost"]
        assert hedges["started"] > 0
        assert hedges["hedged_characters"] <= 0.5 * hedges["characters"]


async def test_vendors_of_two_kinds_are_hedged() -> None:
    async with Simulator(voice="tones") as first, Simulator(voice="tones") as second:
        elevenlabs, openai = ElevenLabs("one", base_url=first.url), OpenAICompatible("two", base_url=f"{second.url}/v1")
        async with AsyncTTSService([elevenlabs, openai], hedging=READY) as tts:
            for _ in range(5):
                await tts.synthesize(TEXT, format="mp3_44100_128")
            first.faults.set(actions.Hang())
            stream = tts.stream(TEXT, format="mp3_44100_128")
            assert [chunk async for chunk in stream]
            assert (stream.outcome, [attempt.hedge for attempt in stream.attempts]) == ("substituted", [False, True])
