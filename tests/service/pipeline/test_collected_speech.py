"""Whole speech that a relay collects: it is the same as from the pipeline, which goes on where anything is unusual.

What every fault of a vendor does is compared in `tests/faults/test_relayed_audio.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, Speech, Tone, TTSDeadlineError, TTSStreamInterruptedError
from steadyvoice.simulator import Simulator, words_in
from steadyvoice.simulator.fault_injection.actions import Stall
from steadyvoice.speech.alignment import Alignment
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, timed_audio_body
from tests.leaked_objects import no_garbage
from tests.providers.scripted_vendor import chunked_response, scripted_vendor
from tests.turn_meter import TurnMeter

TEXT = "The quick brown fox jumps over the lazy dog, and nobody who saw it is any the wiser."
pytestmark = pytest.mark.slow

HEARD = 0.6
"""Seconds of audio after which the vendor is silent."""


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(voice="tones") as running:
        yield running


async def warm(sim: Simulator, *more: Any, **settings: Any) -> AsyncTTSService:
    """Return a service that has spoken once, so that a connection and a plan are known."""
    tts = AsyncTTSService([ElevenLabs("any", base_url=sim.url), *more], muted=False, **settings)
    assert (await tts.synthesize(TEXT)).outcome == "spoken"
    return tts


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, ten seconds at most."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never came: {condition}")


async def stalled(
    tts: AsyncTTSService, sim: Simulator, *, for_seconds: float | None = None, **options: Any
) -> asyncio.Task[Speech]:
    """Begin a speech whose vendor is silent in the middle, and wait until a relay has some of its audio."""
    sim.faults.set(Stall(after=HEARD, seconds=for_seconds))
    speaking = asyncio.create_task(tts.synthesize(TEXT, **options))
    await until(lambda: any(relay.has_audio for relay in tts.relays))
    return speaking


def state(tts: AsyncTTSService) -> dict[str, Any]:
    found = tts.get_error_state()
    return {
        "calls": found["totals"]["calls"],
        "failures": found["totals"]["failures"],
        "ignored": found["totals"]["ignored"],
        "in use": found["concurrency"]["in_use"],
        "active": tts.admission.active,
        "relays": len(tts.relays),
    }


async def test_second_speech_is_collected_by_a_relay(sim: Simulator) -> None:
    async with await warm(sim) as tts:
        first = await tts.synthesize(TEXT)
        second = await (await stalled(tts, sim, for_seconds=0.2))
        assert second.audio == first.audio
        assert words_in(second.audio, "mp3_44100_128") == words_in(first.audio, "mp3_44100_128") != []
        assert second.alignment == first.alignment
        assert [attempt.held_back for attempt in second.attempts] == [0.0]
        assert state(tts) == {"calls": 3, "failures": 0, "ignored": 0, "in use": 0, "active": 0, "relays": 0}


@pytest.mark.usefixtures("frozen_heap")
async def test_cancelled_speech_ends_its_request_and_leaves_nothing(sim: Simulator) -> None:
    async with await warm(sim) as tts:
        with no_garbage():
            speaking = await stalled(tts, sim)
            speaking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await speaking
            assert speaking.cancelling() == 1
            del speaking
            await sim.idle()
        assert state(tts) == {"calls": 2, "failures": 0, "ignored": 0, "in use": 0, "active": 0, "relays": 0}


async def test_closed_service_interrupts_a_collected_speech(sim: Simulator) -> None:
    tts = await warm(sim)
    speaking = await stalled(tts, sim)
    await tts.aclose()
    with pytest.raises(TTSStreamInterruptedError, match="the service was closed"):
        await speaking
    await sim.idle()
    assert state(tts)["in use"] == state(tts)["active"] == state(tts)["relays"] == 0


async def test_reconfigured_service_ends_a_collected_speech_with_its_former_provider(sim: Simulator) -> None:
    async with await warm(sim) as tts:
        speaking = await stalled(tts, sim, for_seconds=0.3)
        await tts.reconfigure(providers=[Tone()])
        assert not tts.relays
        speech = await speaking
        assert (speech.outcome, speech.provider) == ("spoken", "elevenlabs")
        assert len(words_in(speech.audio, "mp3_44100_128")) == len(TEXT.split())


async def test_deadline_of_the_caller_ends_a_collected_speech(sim: Simulator) -> None:
    async with await warm(sim) as tts:
        await tts.synthesize(TEXT, deadline=0.8)
        speaking = await stalled(tts, sim, deadline=0.8)
        with pytest.raises(TTSDeadlineError):
            await speaking
        await sim.idle()
        assert state(tts)["active"] == state(tts)["relays"] == 0


async def test_other_provider_speaks_all_of_a_text_whose_collection_stalls(sim: Simulator) -> None:
    async with await warm(sim, Tone(), provider_timeouts={"elevenlabs": {"stall_timeout": 0.3}}) as tts:
        speech = await (await stalled(tts, sim))
        assert (speech.outcome, speech.provider) == ("substituted", "tone")
        assert [attempt.provider for attempt in speech.attempts] == ["elevenlabs", "tone"]
        assert speech.report.spans[0].begin == 0
        assert state(tts)["failures"] == 1


async def test_long_speech_is_not_copied_at_its_end() -> None:
    line = json.dumps(timed_audio_body(TimedAudio(b"\x00\x10\x00\xf0" * 12_000, Alignment.spread("a", 1.0)))).encode()
    text = "a" * 60
    lines = [line.replace(b"[0.0]", b"[%d.0]" % at).replace(b"[1.0]", b"[%d.0]" % (at + 1)) for at in range(60)]
    async with scripted_vendor() as vendor:
        for _ in range(2):
            vendor.enqueue(chunked_response(b"\n".join(lines) + b"\n", content_type="application/json"))
        async with AsyncTTSService([ElevenLabs("any", base_url=vendor.url)], muted=False) as tts:
            await tts.synthesize(text, format="pcm_24000")
            with TurnMeter() as meter:
                speech = await tts.synthesize(text, format="pcm_24000")
    assert len(speech.audio) == 60 * 48_000
    assert meter.most < len(speech.audio) / 3, "a buffer that grows holds an eighth in reserve"
