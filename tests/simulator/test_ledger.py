"""Entries of the ledger, whichever side closes the connection."""

from __future__ import annotations

import asyncio

import pytest

from steadyvoice.simulator import Ending, Fault, RequestLedger, Simulator
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.ledger import MAX_ENTRIES

from .client import GEORGE, OPENAI, STREAM, TEXT, WHOLE, Client, until


async def test_healthy_call_is_recorded_completely(sim: Simulator, client: Client) -> None:
    seen = await client.speak()
    (entry,) = sim.ledger
    assert (entry.number, entry.endpoint, entry.voice) == (1, "text-to-speech/stream", GEORGE)
    assert (entry.model, entry.status, entry.fault) == ("eleven_multilingual_v2", 200, None)
    assert (entry.characters, entry.charged) == (len(TEXT), len(TEXT))
    assert (entry.bytes_sent, entry.ending) == (len(seen.body), Ending.COMPLETED)
    assert entry.audio_sent == pytest.approx(len(seen.body) / 16_000)
    assert entry.accepted is not None
    assert entry.first_byte is not None
    assert entry.ended is not None
    assert entry.received <= entry.accepted <= entry.first_byte <= entry.ended


@pytest.mark.parametrize("path", [STREAM, WHOLE, OPENAI])
@pytest.mark.parametrize(
    "fault", ["hang", "hang-after-headers", "stall", "drip;every=60", "slow-first-byte;seconds=60"]
)
async def test_client_that_leaves_is_charged(sim: Simulator, client: Client, path: str, fault: str) -> None:
    await client.speak(path, fault=fault, leave=True)
    await sim.idle()
    entry = sim.ledger[-1]
    assert (entry.ending, entry.charged) == (Ending.CLIENT_LEFT, len(TEXT))
    assert entry.fault == fault.partition(";")[0]
    assert sim.credit.used == (0 if path == OPENAI else len(TEXT))


async def test_client_that_leaves_a_stream_is_charged_for_all_of_it() -> None:
    async with Simulator(voice="tones", real_time_factor=1.0) as sim:
        seen = await Client(sim.url).speak(leave=True)
        await sim.idle()
        entry = sim.ledger[-1]
        assert (entry.ending, entry.charged) == (Ending.CLIENT_LEFT, len(TEXT))
        assert entry.audio_sent * 16_000 < len(TEXT) * 0.06 * 16_000
        assert entry.bytes_sent >= len(seen.body)


@pytest.mark.parametrize(
    "fault", ["cut", "cut-terminated", "cut-close", "reset", "reset;after=0", "wrong-length", "half-line", "error-line"]
)
async def test_cut_names_its_fault(sim: Simulator, client: Client, fault: str) -> None:
    await client.speak(fault=fault)
    entry = sim.ledger[-1]
    assert (entry.ending, entry.fault, entry.charged) == (Ending.CUT, fault.partition(";")[0], len(TEXT))


async def test_refusal_is_not_charged(sim: Simulator, client: Client) -> None:
    await client.speak(fault="refuse;status=503")
    entry = sim.ledger[-1]
    assert (entry.ending, entry.fault, entry.status) == (Ending.REFUSED, "refuse", 503)
    assert (entry.charged, entry.accepted, entry.characters) == (0, None, len(TEXT))


async def test_text_charged_twice_is_visible(sim: Simulator, client: Client) -> None:
    await client.speak(fault="cut")
    await client.speak()
    assert (sim.ledger.charged, sim.credit.used) == (2 * len(TEXT), 2 * len(TEXT))


async def test_short_text_fits_the_credit_where_a_long_one_does_not() -> None:
    async with Simulator(voice="tones", character_limit=100, character_count=90) as sim:
        client = Client(sim.url)
        refused = await client.speak()
        assert (refused.status, refused.json["detail"]["code"]) == (401, "quota_exceeded")
        assert "10 credits remaining" in refused.json["detail"]["message"]
        assert (await client.speak(text="Hi there.")).status == 200
        assert (await client.speak(text="Hi")).status == 401
        assert (await client.speak(text="I")).status == 200
        assert (await client.speak(text="I")).status == 401
        assert (sim.credit.used, sim.ledger.charged) == (100, 10)


async def test_fault_can_be_limited_to_long_texts(sim: Simulator, client: Client) -> None:
    sim.faults.set(Fault(actions.Refuse("quota_exceeded"), longer_than=20))
    assert [(await client.speak(text=text)).status for text in (TEXT, "Hi")] == [401, 200]


async def test_concurrent_requests_stay_within_the_limit() -> None:
    async with Simulator(voice="tones", concurrency=3, queue_seconds=0.0) as sim:
        client = Client(sim.url)
        sim.faults.set(actions.Stall())
        answers = await asyncio.gather(*(client.speak(text="Hi", leave=True) for _ in range(8)))
        await sim.idle()
        taken = [seen for seen in answers if seen.status == 200]
        refused = [seen for seen in answers if seen.status == 429]
        assert len(taken) + len(refused) == 8
        assert sorted(seen.headers["current-concurrent-requests"] for seen in taken) == ["1", "2", "3"]
        assert {seen.json["detail"]["code"] for seen in refused} == {"concurrent_limit_exceeded"}
        assert (sim.request_limit.peak, sim.request_limit.running) == (3, 0)
        assert sim.ledger.charged == 3 * len("Hi")


async def test_request_beyond_the_limit_waits_for_a_slot() -> None:
    async with Simulator(voice="tones", concurrency=1, queue_seconds=30.0) as sim:
        client = Client(sim.url)
        answers = await asyncio.gather(*(client.speak(text="Hi") for _ in range(5)))
        assert [seen.status for seen in answers] == [200] * 5
        assert sim.request_limit.peak == 1


async def test_client_that_leaves_releases_its_slot() -> None:
    async with Simulator(voice="tones", concurrency=1, queue_seconds=0.0) as sim:
        client = Client(sim.url)
        await client.speak(fault="hang", leave=True)
        await sim.idle()
        assert (await client.speak()).status == 200


async def test_client_that_leaves_the_queue_is_not_charged() -> None:
    async with Simulator(voice="tones", concurrency=1, queue_seconds=60.0) as sim:
        client = Client(sim.url)
        holder = asyncio.create_task(client.speak(fault="stall"))
        await until(lambda: sim.request_limit.running == 1)
        await client.speak(leave=True)
        holder.cancel()
        await sim.idle()
        assert [entry.charged for entry in sim.ledger] == [len(TEXT), 0]
        assert sim.ledger[-1].ending is Ending.CLIENT_LEFT


def test_ledger_drops_the_oldest_entries_but_not_their_totals() -> None:
    ledger = RequestLedger(lambda: 0.0)
    for _ in range(MAX_ENTRIES + 5):
        ledger.charge(ledger.open("user"), 2)
    assert (len(ledger), ledger[0].number) == (MAX_ENTRIES, 6)
    assert (ledger.requests, ledger.charged) == (MAX_ENTRIES + 5, 2 * (MAX_ENTRIES + 5))


def test_first_ending_counts() -> None:
    ledger = RequestLedger(lambda: 0.0)
    entry = ledger.open("user")
    ledger.end(entry, Ending.CUT)
    ledger.end(entry, Ending.CLIENT_LEFT)
    ledger.close()
    assert entry.ending is Ending.CUT
