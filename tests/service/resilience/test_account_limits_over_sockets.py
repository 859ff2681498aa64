"""Vendor's limits over real sockets: concurrency, credit, and agreement of both sides on the bill."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible, Tone, TTSError
from steadyvoice.service.billing import Charge
from steadyvoice.simulator import Simulator
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.ledger import Ending

from ..scripted_provider import read_chunks

pytestmark = pytest.mark.slow

TEXT = "Good morning, is anybody there?"


def refusals(sim: Simulator) -> int:
    return sum(entry.ending is Ending.REFUSED for entry in sim.ledger)


def spoken_for(sim: Simulator) -> int:
    return sum(entry.charged for entry in sim.ledger if entry.endpoint.startswith("text-to-speech"))


@pytest.mark.parametrize("limit", [2, 5])
async def test_concurrent_callers_cause_no_429(limit: int) -> None:
    async with (
        Simulator(voice="tones", concurrency=limit, real_time_factor=0.02) as sim,
        AsyncTTSService([ElevenLabs("any", base_url=sim.url), Tone()]) as tts,
    ):
        speeches = await asyncio.gather(*(tts.synthesize(TEXT, format="pcm_16000") for _ in range(20)))
        assert {speech.provider for speech in speeches} == {"elevenlabs"}
        assert (refusals(sim), sim.request_limit.peak) == (0, limit)
        assert tts.get_error_state()["concurrency"] == {"in_use": 0, "limit": limit, "waiting": 0}


def test_credential_id_depends_on_key_and_host_and_reveals_neither() -> None:
    named = {
        name: ElevenLabs(key, base_url=url).credential
        for name, key, url in (
            ("main", "sk_secret", "https://api.elevenlabs.io"),
            ("nearby", "sk_secret", "https://api.us.elevenlabs.io"),
            ("another key", "sk_other", "https://api.elevenlabs.io"),
            ("another place", "sk_secret", "https://elevenlabs.io.example.com"),
        )
    }
    assert named["main"] == named["nearby"]
    assert len(set(named.values())) == 3
    assert "secret" not in repr(named)
    assert (
        OpenAICompatible("k", base_url="http://a:1").credential
        != OpenAICompatible("k", base_url="http://a:2").credential
    )


async def test_two_voices_with_one_key_share_a_limit() -> None:
    async with Simulator(voice="tones", concurrency=3, real_time_factor=0.02) as sim:
        providers = [ElevenLabs("key", name=name, base_url=sim.url) for name in ("one", "other")]
        async with AsyncTTSService(providers) as tts:
            assert tts.handler("one").account_limits is tts.handler("other").account_limits
            async with asyncio.TaskGroup() as group:
                for _ in range(10):
                    group.create_task(tts.synthesize(TEXT, format="pcm_16000"))
            assert (refusals(sim), sim.request_limit.peak) == (0, 3)


async def test_limit_adapts_to_another_user_of_the_account() -> None:
    async with Simulator(voice="tones", concurrency=4, queue_seconds=0.0, real_time_factor=0.02) as sim:
        ours = AsyncTTSService([ElevenLabs("any", base_url=sim.url), Tone()])
        theirs = AsyncTTSService([ElevenLabs("any", base_url=sim.url), Tone()])
        async with ours, theirs:
            for tts in (ours, theirs):
                await tts.synthesize(TEXT, format="pcm_16000")
            calls = [tts.synthesize(TEXT, format="pcm_16000") for tts in (ours, theirs) for _ in range(10)]
            await asyncio.gather(*calls)
            assert refusals(sim) > 0, "neither knows of the other"
            for tts in (ours, theirs):
                state = tts.get_error_state()
                assert (state["circuit_state"], state["totals"]["failures"]) == ("closed", 0)
                assert state["concurrency"]["in_use"] == 0


async def test_credit_is_queried_and_texts_that_fit_are_spoken() -> None:
    async with (
        Simulator(voice="tones", character_limit=40, character_reset=4_000_000_000) as sim,
        AsyncTTSService([ElevenLabs("any", base_url=sim.url), Tone()]) as tts,
    ):
        assert (await tts.synthesize(TEXT * 2, format="pcm_16000")).provider == "tone"
        await tts.check_credit()
        [hold] = tts.get_error_state()["holds"]
        assert (hold["remaining_credit"], hold["until"][:16]) == (40, "2096-10-02T07:06")
        assert (await tts.synthesize(TEXT * 2, format="pcm_16000")).provider == "tone"
        assert (await tts.synthesize(TEXT, format="pcm_16000")).provider == "elevenlabs"
        assert (await tts.synthesize(TEXT, format="pcm_16000")).provider == "tone"
        speeches = [entry for entry in sim.ledger if entry.endpoint.startswith("text-to-speech")]
        assert len(speeches) == 2, "what did not fit was not even sent"


async def test_key_without_permission_to_query_credit_still_speaks() -> None:
    async with (
        Simulator(voice="tones", keys=("good",)) as sim,
        AsyncTTSService([ElevenLabs("bad", base_url=sim.url), Tone()]) as tts,
    ):
        with pytest.raises(TTSError, match="invalid_api_key"):
            await tts.check_credit()
        assert tts.get_error_state()["holds"] == []


@pytest.mark.parametrize("body", [actions.Json(), actions.Html(), actions.Empty()])
async def test_malformed_credit_response_is_an_error(body: actions.FaultAction) -> None:
    async with Simulator(voice="tones") as sim:
        sim.faults.set(body)
        async with AsyncTTSService([ElevenLabs("any", base_url=sim.url)]) as tts:
            with pytest.raises(TTSError, match="subscription"):
                await tts.check_credit()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(3))
async def test_billing_agrees_with_the_vendor_under_faults_and_cancellations(seed: int) -> None:
    rng = Random(seed)
    faults = (
        actions.Cut(0.5),
        actions.Refuse(status=503),
        actions.Empty(),
        actions.Html(),
        actions.Reset(0.3),
        actions.TooShort(),
        None,
        None,
    )
    async with Simulator(voice="tones", concurrency=4, real_time_factor=0.05) as sim:
        vendor = ElevenLabs("any", base_url=sim.url)
        async with AsyncTTSService([vendor, Tone()]) as tts:
            accounts = []

            async def listen() -> None:
                stream = tts.stream(TEXT * rng.randint(1, 3), format="pcm_16000")
                accounts.append(stream)
                await read_chunks(stream, rng.choice([1, 5, 10_000]))

            for _ in range(10):
                fault = rng.choice(faults)
                sim.faults.set(*([fault] if fault else []))
                tts.reset_circuit_breaker()
                async with asyncio.TaskGroup() as group:
                    for _ in range(4):
                        group.create_task(listen())
            bills = tts.get_error_state()["bills"]
        await sim.idle()
        ledger = {entry.request_id: entry for entry in sim.ledger}
        attempts = [attempt for account in accounts for attempt in account.attempts if attempt.provider == "elevenlabs"]
        for attempt in attempts:
            match attempt.bill.charge:
                case Charge.BILLED:
                    assert attempt.request_id
                    assert ledger[attempt.request_id].charged == attempt.bill.characters
                case Charge.REFUSED if attempt.request_id:
                    assert ledger[attempt.request_id].charged == 0
        sums = {charge: sum(a.bill.characters for a in attempts if a.bill.charge is charge) for charge in Charge}
        assert (bills["billed"], bills["unknown"]) == (sums[Charge.BILLED], sums[Charge.UNKNOWN])
        assert bills["billed"] <= spoken_for(sim) <= bills["billed"] + bills["unknown"]
        assert bills["wasted"] == pytest.approx(sum(attempt.bill.wasted for attempt in attempts))
