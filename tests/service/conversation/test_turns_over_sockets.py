"""Turns over the simulator's real websockets: every fault of them, many interruptions, many turns on one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, Provider, TimeoutConfig, Tone
from steadyvoice.audio.word_tones import words_in
from steadyvoice.simulator import Fault, Simulator, actions

from ..word_tone_provider import PATIENT
from .turns import Listener, spoken

pytestmark = pytest.mark.slow

TEXT = "It rains today. We stay at home, and we read a good book. Tomorrow the sun will shine again for all of us."
BRISK = TimeoutConfig(connection_timeout=1.0, total_timeout=15.0, first_audio_timeout=0.5, stall_timeout=0.5)
KEY = "sk_" + "a" * 40


@asynccontextmanager
async def service_on(sim: Simulator, *others: Provider) -> AsyncIterator[AsyncTTSService]:
    providers = [ElevenLabs(api_key=KEY, base_url=sim.url), *others]
    async with AsyncTTSService(providers, circuit=PATIENT, timeouts=BRISK) as tts:
        yield tts


FAULTS: dict[str, Any] = {
    "1000": actions.Close(code=1000, after=1.0),
    "1008": actions.Close(code=1008, after=1.0),
    "1011": actions.Close(code=1011, after=1.0),
    "1012": actions.Close(code=1012, after=1.0),
    "half-open": actions.HalfOpen(),
    "final without audio": actions.FinalWithoutAudio(),
    "hang": actions.Hang(),
    "stall": actions.Stall(after=1.0),
    "cut": actions.Cut(after=1.0),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_word_is_heard_once_whatever_the_socket_does(fault: str) -> None:
    async with (
        Simulator(voice="tones") as sim,
        service_on(sim, Tone()) as tts,
    ):
        sim.faults.set(Fault(FAULTS[fault]))
        turn = tts.conversation(format="pcm_16000").turn()
        listener = await spoken(turn, TEXT, pause=0.005)
        assert listener.error is None
        assert listener.heard(turn) == TEXT.split()
        assert [word.text for word in listener.words] == TEXT.split()
        assert not any(switch.repeats for switch in listener.switches)


async def test_turns_share_one_connection() -> None:
    async with Simulator(voice="tones") as sim, service_on(sim) as tts:
        conversation = tts.conversation(format="pcm_16000")
        await conversation.prewarm()
        for _ in range(4):
            listener = await spoken(turn := conversation.turn(), TEXT)
            assert listener.heard(turn) == TEXT.split()
            assert turn.outcome == "spoken"


async def test_twenty_interruptions_in_a_row_lose_nothing() -> None:
    async with Simulator(voice="tones", real_time_factor=0.3) as sim, service_on(sim) as tts:
        conversation = tts.conversation(format="pcm_16000")
        for _ in range(20):
            turn, listener = conversation.turn(), Listener()
            turn.push(TEXT)
            await listener.listen(turn, events=4)
            heard = await turn.interrupt(played=listener.seconds)
            assert heard.text.split() == words_in(listener.audio, turn.format)
        turn = conversation.turn()
        listener = await spoken(turn, "It rains today.")
        assert listener.heard(turn) == ["It", "rains", "today."]
        state = tts.get_error_state()
        assert state["totals"]["failures"] == 0
        assert not state["holds"]


async def test_turns_at_once_are_whole() -> None:
    async with Simulator(voice="tones") as sim, service_on(sim, Tone()) as tts:
        turns = [tts.conversation(format="pcm_16000").turn() for _ in range(10)]
        listeners = await asyncio.gather(*(spoken(turn, TEXT, pause=0.002) for turn in turns))
        for turn, listener in zip(turns, listeners, strict=True):
            assert listener.error is None
            assert listener.heard(turn) == TEXT.split()
