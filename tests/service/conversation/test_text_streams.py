"""Turns over a vendor's text stream: words go out as they come, and a broken stream is resumed at the word."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, TimeoutConfig, Tone
from steadyvoice.audio.word_tones import words_in
from steadyvoice.speech.errors import TTSSocketDroppedError

from ...leaked_objects import live_objects, no_garbage
from ..conftest import MakeService, loop_clock
from ..scripted_provider import ScriptedProvider
from ..word_tone_provider import PATIENT, WordToneProvider
from .streaming_provider import StreamingProvider
from .test_random_turns import PAUSES, tokens
from .turns import Listener, push_all, spoken

pytestmark = pytest.mark.looptime

TEXT = "It rains today. We stay at home, and we read a good book. Tomorrow the sun will shine again for all of us."
BRISK = TimeoutConfig.conversation()


async def test_words_go_out_as_soon_as_they_are_complete(make_service: MakeService) -> None:
    provider = StreamingProvider()
    async with make_service(provider) as tts:
        turn, listener = tts.conversation().turn(), Listener()
        listening = asyncio.create_task(listener.listen(turn))
        turn.push("I asked D")
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert "".join(provider.streams[0].sent) == "I asked "
        turn.push("r. Smi")
        assert "".join(provider.streams[0].sent) == "I asked Dr. "
        turn.push("th today. He ")
        assert provider.streams[0].flushes == ["I asked Dr. Smith today. "]
        await asyncio.sleep(100)  # a silent language model is no slow vendor
        assert listener.heard(turn) == ["I", "asked", "Dr.", "Smith", "today."]
        turn.push("is in.")
        turn.end()
        await listening
    assert listener.heard(turn) == ["I", "asked", "Dr.", "Smith", "today.", "He", "is", "in."]
    assert [word.text for word in listener.words] == listener.heard(turn)
    assert (turn.outcome, len(provider.streams), provider.requests) == ("spoken", 1, [])
    assert turn.report.attempts[0].request_id == "context-1"


@pytest.mark.parametrize("manner", ["cut", "stall", "truncate"])
@pytest.mark.parametrize("other", [WordToneProvider, StreamingProvider])
async def test_stream_that_breaks_off_is_resumed_at_the_word(
    make_service: MakeService, manner: str, other: type[WordToneProvider]
) -> None:
    first, second = StreamingProvider(name="first", breaks=[(manner, 1.5)]), other(name="second")
    async with make_service(first, second, circuit=PATIENT) as tts:
        turn = tts.conversation(timeouts=BRISK).turn()
        listener = await spoken(turn, TEXT, pause=0.05)
        assert listener.heard(turn) == TEXT.split()
        assert [word.text for word in listener.words] == TEXT.split()
        (switch,) = listener.switches
        assert (switch.before, switch.after, switch.repeats) == ("first", "second", False)
        assert turn.outcome == "resumed"
        assert tts.get_error_state()["providers"]["first"]["totals"]["failures"] == 1
    assert len(first.streams) == 1
    assert not first.requests


async def test_hanging_vendor_costs_its_first_audio_timeout_once(make_service: MakeService) -> None:
    first, second = StreamingProvider(name="first", delay=1000.0), WordToneProvider(name="second")
    async with make_service(first, second, circuit=PATIENT) as tts:
        conversation = tts.conversation(timeouts=BRISK)
        before = loop_clock()
        turn = conversation.turn()
        turn.push("It rains.")
        turn.end()
        await Listener().listen(turn, events=2)
        assert loop_clock() - before < 2.1
        before = loop_clock()
        again = conversation.turn()
        again.push("It rains.")
        again.end()
        await Listener().listen(again, events=2)
        assert loop_clock() - before < 0.1


@pytest.mark.parametrize("how", ["None", "error"])
async def test_server_without_streams_gets_sentences_over_http(make_service: MakeService, how: str) -> None:
    provider = StreamingProvider(supports=how != "None", unsupported=how == "error")
    async with make_service(provider) as tts:
        turn = tts.conversation().turn()
        listener = await spoken(turn, TEXT)
        assert listener.heard(turn) == TEXT.split()
        assert provider.requests
        assert tts.get_error_state()["totals"]["failures"] == 0


async def test_ten_turns_on_a_dying_connection_are_one_failure_and_ten_answers(make_service: MakeService) -> None:
    first, second = StreamingProvider(name="first", every=0.1), WordToneProvider(name="second")
    async with make_service(first, second, circuit=CircuitBreakerConfig(window_size=50, minimum_calls=50)) as tts:
        turns = [tts.conversation().turn() for _ in range(10)]
        listening = [asyncio.create_task(spoken(turn, TEXT)) for turn in turns]
        await asyncio.sleep(1.0)
        death = TTSSocketDroppedError("the socket closed with 1006", provider="first")
        death.shared_cause = object()
        for stream in first.streams:
            stream.kill(death)
        for turn, listener in zip(turns, await asyncio.gather(*listening), strict=True):
            assert listener.heard(turn) == TEXT.split()
        totals = tts.get_error_state()["providers"]["first"]["totals"]
        assert (totals["failures"], totals["ignored"]) == (1, 9)


async def test_interruption_closes_the_stream_and_keeps_its_slot_until_the_vendor_is_through(
    make_service: MakeService,
) -> None:
    provider = StreamingProvider(every=0.1, drains=5.0)
    async with make_service(provider) as tts:
        turn, listener = tts.conversation().turn(), Listener()
        turn.push(TEXT)
        listening = asyncio.create_task(listener.listen(turn))
        await asyncio.sleep(2.0)
        heard = await turn.interrupt(played=1.5)
        await listening
        assert heard.exact
        assert heard.text.split() == words_in(listener.audio[: 2 * 36000], turn.format)
        assert provider.streams[0].closed
        limiter = tts.handler("streaming").account_limits.queue.limiter
        assert limiter.running == 1
        await asyncio.sleep(6)
        assert limiter.running == 0
        assert tts.get_error_state()["totals"]["failures"] == 0


async def test_twenty_interruptions_lose_no_slot(make_service: MakeService) -> None:
    provider = StreamingProvider(every=0.05, drains=0.2)
    async with make_service(provider) as tts:
        conversation = tts.conversation()
        for _ in range(20):
            turn = conversation.turn()
            turn.push(TEXT)
            await Listener().listen(turn, events=4)
            await turn.interrupt(played=0.3)
        assert (await spoken(conversation.turn(), TEXT)).outcome == "spoken"
        await asyncio.sleep(1)
        assert tts.handler("streaming").account_limits.queue.limiter.running == 0


async def test_text_is_not_sent_far_ahead_of_its_audio(make_service: MakeService) -> None:
    provider = StreamingProvider()
    text = " ".join(f"Sentence number {number} is not the last one of them all, by far." for number in range(20))
    async with make_service(provider) as tts:
        turn = tts.conversation().turn()
        turn.push(text)
        turn.end()
        listener = Listener()
        listening = asyncio.create_task(listener.listen(turn))
        await asyncio.sleep(1)
        assert provider.streams[0].characters_sent < 200
        await listening
        assert listener.heard(turn) == text.split()
        assert loop_clock() > 60


async def test_flush_speaks_the_last_word_at_once(make_service: MakeService) -> None:
    async with make_service(StreamingProvider()) as tts:
        turn, listener = tts.conversation().turn(), Listener()
        listening = asyncio.create_task(listener.listen(turn))
        turn.push("Let me look that up")
        mark = turn.flush()
        await asyncio.sleep(5)
        assert listener.heard(turn) == ["Let", "me", "look", "that", "up"]
        assert listener.marks == [mark]
        turn.end()
        await listening


async def test_markup_is_rendered_over_http(make_service: MakeService) -> None:
    provider = StreamingProvider()
    async with make_service(provider) as tts:
        turn = tts.conversation().turn()
        listener = await spoken(turn, 'It rains. <break time="0.1s"/> We stay at home.')
    assert listener.heard(turn) == ["It", "rains.", "We", "stay", "at", "home."]


async def test_prewarm_opens_the_connection_and_raises_nothing(make_service: MakeService) -> None:
    provider = StreamingProvider()
    async with make_service(provider) as tts:
        await tts.conversation().prewarm()
    assert provider.prewarmed == 1
    async with make_service(ScriptedProvider()) as tts:
        await tts.conversation().prewarm()


@pytest.mark.usefixtures("frozen_heap")
@pytest.mark.parametrize("way", ["end", "interrupt", "cut"])
async def test_nothing_is_left_behind(make_service: MakeService, way: str) -> None:
    async def converse() -> None:
        provider = StreamingProvider(breaks=[("cut", 1.0)] if way == "cut" else [])
        async with make_service(provider, Tone()) as tts:
            await converse_with(tts)
            provider.streams.clear()
            provider.breaks = [("cut", 1.0)] if way == "cut" else []
            with no_garbage():
                await converse_with(tts)
                provider.streams.clear()

    async def converse_with(tts: AsyncTTSService) -> None:
        conversation = tts.conversation()
        turn = conversation.turn()
        turn.push(TEXT)
        if way == "interrupt":
            await Listener().listen(turn, events=2)
            await turn.interrupt()
        else:
            turn.end()
            await Listener().listen(turn)
        await conversation.aclose()

    await converse()
    assert not [name for name in live_objects() if "conversation" in name]


BREAKS = st.lists(st.tuples(st.sampled_from(["cut", "stall", "truncate"]), st.floats(0, 6)), max_size=3)


@pytest.mark.slow
@settings(max_examples=60)
@given(BREAKS, st.booleans(), tokens(), PAUSES)
async def test_every_word_once_and_in_order_whatever_breaks(
    breaks: list[tuple[str, float]], streams: bool, written: tuple[list[str], str], pause: float
) -> None:
    pieces, text = written
    first = StreamingProvider(name="first", breaks=breaks)
    second = StreamingProvider(name="second", supports=streams, breaks=list(breaks))
    async with AsyncTTSService([first, second, Tone()], circuit=PATIENT, timeouts=BRISK, clock=loop_clock) as tts:
        turn, listener = tts.conversation(format="pcm_16000").turn(), Listener()
        await asyncio.gather(push_all(turn, pieces, pause), listener.listen(turn))
    assert listener.error is None
    assert listener.heard(turn) == text.split()
    assert [word.text for word in listener.words] == text.split()
    assert not any(switch.repeats for switch in listener.switches)
