"""Turns over the simulator's real websockets: every fault of them, many interruptions, many turns on one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, Provider, TimeoutConfig, Tone, TTSOverloadedError
from steadyvoice.audio.word_tones import synthesize_tones, words_in
from steadyvoice.simulator import Ending, Fault, Simulator, actions
from steadyvoice.wire.elevenlabs.websocket import AudioMessage, FinalMessage, encode_message

from ...providers.websocket.scripted_socket import ScriptedConnection, scripted_socket_vendor
from ..conftest import loop_clock
from ..word_tone_provider import PATIENT
from .turns import Listener, spoken

pytestmark = [pytest.mark.looptime(noop_cycles=60), pytest.mark.slow]

TEXT = "It rains today. We stay at home, and we read a good book. Tomorrow the sun will shine again for all of us."
BRISK = TimeoutConfig(connection_timeout=1.0, total_timeout=15.0, first_audio_timeout=0.5, stall_timeout=0.5)
KEY = "sk_" + "a" * 40


@asynccontextmanager
async def service_on(sim: Simulator, *others: Provider) -> AsyncIterator[AsyncTTSService]:
    providers = [ElevenLabs(api_key=KEY, base_url=sim.url), *others]
    async with AsyncTTSService(providers, circuit=PATIENT, timeouts=BRISK, clock=loop_clock) as tts:
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
    "1006": actions.Cut(after=1.0),
    "reset": actions.Reset(after=1.0),
    "restart": actions.Restart(after=1.0),
    "half a message": actions.HalfLine(after=1.0),
    "error": actions.ErrorLine(after=1.0),
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
    async with (
        Simulator(voice="tones", real_time_factor=0.3, concurrency=5, clock=loop_clock) as sim,
        service_on(sim) as tts,
    ):
        conversation = tts.conversation(format="pcm_16000")
        for _ in range(20):
            turn, listener = conversation.turn(), Listener()
            turn.push(TEXT)
            await listener.listen(turn, events=4)
            heard = await turn.interrupt(played=listener.seconds)
            assert heard.text.split() == words_in(listener.audio, turn.format)
            await asyncio.sleep(0.4)
        turn = conversation.turn()
        listener = await spoken(turn, "It rains today.")
        assert listener.heard(turn) == ["It", "rains", "today."]
        state = tts.get_error_state()
        assert state["totals"]["failures"] == 0
        assert not state["holds"]
        assert Ending.REFUSED not in {entry.ending for entry in sim.ledger}
    await sim.idle()
    assert sim.request_limit.running == 0


async def test_turns_at_once_are_whole() -> None:
    async with Simulator(voice="tones") as sim, service_on(sim, Tone()) as tts:
        turns = [tts.conversation(format="pcm_16000").turn() for _ in range(10)]
        listeners = await asyncio.gather(*(spoken(turn, TEXT, pause=0.002) for turn in turns))
        for turn, listener in zip(turns, listeners, strict=True):
            assert listener.error is None
            assert listener.heard(turn) == TEXT.split()


async def test_ten_turns_of_which_some_lose_their_connection_are_one_failure_and_ten_answers() -> None:
    async with Simulator(voice="tones", real_time_factor=0.2, clock=loop_clock) as sim, service_on(sim, Tone()) as tts:
        sim.faults.set(Fault(actions.Cut(after=1.0), nth=1))
        conversation = tts.conversation(format="pcm_16000")
        turns = [conversation.turn() for _ in range(10)]
        listeners = await asyncio.gather(*(spoken(turn, TEXT, pause=0.01) for turn in turns))
        for turn, listener in zip(turns, listeners, strict=True):
            assert listener.heard(turn) == TEXT.split()
        assert len([turn for turn in turns if turn.outcome != "spoken"]) > 1  # that had begun on it
        assert tts.get_error_state()["window"]["failures"] == 1


async def test_reader_that_stops_is_bounded_and_does_not_disturb_others() -> None:
    long = " ".join([TEXT] * 40)
    async with Simulator(voice="tones", clock=loop_clock) as sim, service_on(sim) as tts:
        conversation = tts.open_conversation({"format": "pcm_16000"}, paced=False)
        stopped = conversation.turn()
        stopped.push(long)
        stopped.end()
        for _ in range(3):
            listener = await spoken(turn := conversation.turn(), TEXT)
            assert (listener.heard(turn), turn.outcome) == (TEXT.split(), "spoken")
        await asyncio.sleep(5)
        assert 20 < stopped.seconds < 35
        assert sim.ledger.charged < len(long) / 2 + 3 * len(TEXT)
        listener = await Listener().listen(stopped)
        assert listener.heard(stopped) == long.split()
        assert tts.get_error_state()["totals"]["failures"] == 0


async def speak_slowly(connection: ScriptedConnection) -> None:
    """Speak in word tones with a pause of 1.5 s behind each word, as fast as the connection takes it."""
    pause = bytes(2 * 36_000)
    texts: dict[str, str] = {}
    while (message := await connection.next()) is not None:
        context = message["context_id"]
        texts[context] = texts.get(context, "") + message.get("text", "")
        if message.get("flush"):
            for word in texts.pop(context).split():
                pcm, times = synthesize_tones(f"{word} ", sample_rate=24_000)
                await connection.send(encode_message(AudioMessage(pcm + pause, times, times, context)))
        if message.get("close_context"):
            await connection.send(encode_message(FinalMessage(context)))


async def test_reader_that_is_too_slow_for_a_shared_connection_goes_on_over_one_of_its_own() -> None:
    sentence = "It rains today, and we all stay at home. "
    async with (
        Simulator(voice="tones", clock=loop_clock) as sim,
        scripted_socket_vendor(speak_slowly) as vendor,
        AsyncTTSService(
            [ElevenLabs(KEY, base_url=vendor.url), Tone()], circuit=PATIENT, timeouts=BRISK, clock=loop_clock
        ) as tts,
    ):
        vendor.forward_to = sim.url
        conversation = tts.open_conversation({"format": "pcm_24000"}, paced=False)
        other, slow = conversation.turn(), conversation.turn()
        other.push("We read. ")
        other.flush()
        slow.push(sentence * 14)
        slow.end()
        await asyncio.sleep(5)
        other.push("And we write.")
        other.end()
        assert (await Listener().listen(other)).heard(other) == ["We", "read.", "And", "we", "write."]
        assert other.outcome == "spoken"
        assert slow.seconds < 35
        listener = await Listener().listen(slow)
        assert listener.error is None
        assert listener.heard(slow) == (sentence * 14).split()
        assert not any(switch.repeats or switch.after != "elevenlabs" for switch in listener.switches)
        assert len(vendor.connections) == 1
        assert {attempt.provider for attempt in slow.attempts} == {"elevenlabs"}
        assert tts.get_error_state()["totals"]["failures"] == 0


async def test_server_that_closes_behind_the_last_word_has_not_failed() -> None:
    async def close_without_final(connection: ScriptedConnection) -> None:
        text = ""
        while (message := await connection.next()) is not None and not message.get("close_context"):
            text += message.get("text", "")
        assert message
        pcm, times = synthesize_tones(text.strip(), sample_rate=24_000)
        await connection.send(encode_message(AudioMessage(pcm, times, times, message["context_id"])))
        await connection.socket.close(code=1000)

    async with (
        scripted_socket_vendor(close_without_final) as vendor,
        AsyncTTSService([ElevenLabs(KEY, base_url=vendor.url)], circuit=PATIENT, clock=loop_clock) as tts,
    ):
        turn = tts.conversation(format="pcm_24000").turn()
        listener = await spoken(turn, "It rains today.")
        assert listener.error is None
        assert (turn.outcome, listener.heard(turn)) == ("spoken", ["It", "rains", "today."])
        assert tts.get_error_state()["totals"]["failures"] == 0


async def test_text_is_billed_as_it_is_sent() -> None:
    async with Simulator(voice="tones", real_time_factor=0.1, clock=loop_clock) as sim, service_on(sim, Tone()) as tts:
        conversation = tts.conversation(format="pcm_16000")
        whole = conversation.turn()
        await spoken(whole, TEXT)
        assert (whole.billed, whole.wasted, sim.ledger.charged) == (
            whole.report.attempts[0].characters_billed,
            0,
            whole.billed,
        )

        interrupted, listener = conversation.turn(), Listener()
        interrupted.push(TEXT)
        await listener.listen(interrupted, events=6)
        heard = await interrupted.interrupt()
        assert heard.billed == interrupted.billed > heard.wasted > 0
        assert heard.billed - heard.wasted <= heard.end + 1
        state = tts.get_error_state()["providers"]["elevenlabs"]["bills"]
        assert (state["billed"], state["wasted"]) == (whole.billed + heard.billed, heard.wasted)


async def test_text_streams_take_places_of_admission_control() -> None:
    async with Simulator(voice="tones", real_time_factor=0.5, clock=loop_clock) as sim:
        provider = ElevenLabs(KEY, base_url=sim.url)
        async with AsyncTTSService([provider], max_active=1, max_queued=1, clock=loop_clock) as tts:
            conversation = tts.conversation(format="pcm_16000")
            first, second, third = (conversation.turn() for _ in range(3))
            speaking = asyncio.create_task(spoken(first, "It rains today."))
            await asyncio.sleep(0.1)
            queued = asyncio.create_task(spoken(second, "We stay at home."))
            await asyncio.sleep(0.1)
            refused = await spoken(third, "And we read.")
            assert isinstance(refused.error, TTSOverloadedError)
            assert (await speaking).heard(first) == ["It", "rains", "today."]
            assert (await queued).heard(second) == ["We", "stay", "at", "home."]
            assert tts.get_error_state()["overload"]["active"] == 0
