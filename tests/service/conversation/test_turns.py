"""Turns as a voice agent uses them: text while it is written, barge-in, failures, and every way to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from steadyvoice import (
    AsyncTTSService,
    CircuitBreakerConfig,
    Ended,
    Switched,
    TimeoutConfig,
    Tone,
    TTSConfigurationError,
    TTSError,
    TTSServerError,
    TTSService,
    TTSStreamInterruptedError,
    TTSTextTooLongError,
    Words,
)
from steadyvoice.audio.word_tones import words_in

from ...leaked_objects import live_objects, no_garbage
from ..conftest import MakeService, loop_clock
from ..scripted_provider import Hang, Say, ScriptedProvider
from ..word_tone_provider import DOWN, Fault, WordToneProvider
from .turns import Listener, push_all, spoken

pytestmark = pytest.mark.looptime

TEXT = "It rains today. We stay at home, and we read a good book. Tomorrow the sun will shine again for all of us."
SHORT = "It rains today. We stay."
BRISK = TimeoutConfig.conversation()


async def test_turn_is_spoken_while_its_text_is_written(make_service: MakeService) -> None:
    provider = WordToneProvider()
    async with make_service(provider) as tts:
        turn = tts.conversation().turn()
        listener = Listener()
        listening = asyncio.create_task(listener.listen(turn))
        for token in ("It ", "rains ", "today. ", "We "):
            turn.push(token)
        await asyncio.sleep(1)
        assert listener.heard(turn) == ["It", "rains", "today."]  # before the rest was written
        turn.push("stay.")
        await asyncio.sleep(100)  # a silent language model is no slow vendor
        turn.end()
        await listening
    assert listener.heard(turn) == ["It", "rains", "today.", "We", "stay."]
    assert listener.outcome == turn.outcome == "spoken"
    assert [request.text for request in provider.requests] == ["It rains today.", "We stay."]
    assert provider.requests[1].previous_text == "It rains today."


async def test_words_come_with_exact_times_and_their_place_in_the_text(make_service: MakeService) -> None:
    async with make_service(WordToneProvider()) as tts:
        turn = tts.conversation(format="mp3_44100_128").turn()
        listener = await spoken(turn, TEXT)
    assert [word.text for word in listener.words] == TEXT.split()
    assert all(turn.text[word.begin : word.end] == word.text for word in listener.words)
    assert all(word.exact for word in listener.words)
    for word in listener.words:
        sound = listener.audio
        assert word.stop <= len(sound) / 16000 + 0.1


async def test_flush_speaks_what_there_is_and_is_acknowledged(make_service: MakeService) -> None:
    async with make_service(WordToneProvider()) as tts:
        turn = tts.conversation().turn()
        listener = Listener()
        listening = asyncio.create_task(listener.listen(turn))
        turn.push("Let me look that up")
        first = turn.flush()
        await asyncio.sleep(5)
        assert listener.heard(turn) == ["Let", "me", "look", "that", "up"]
        assert listener.marks == [first]
        second = turn.flush()
        await asyncio.sleep(1)
        assert listener.marks == [first, second]
        turn.end()
        await listening


@pytest.mark.parametrize("tokens", [[], ["  ", "\n"], ["...", " \u200b"]])
async def test_empty_turn_is_a_success_without_audio(make_service: MakeService, tokens: list[str]) -> None:
    provider = ScriptedProvider([DOWN])
    async with make_service(provider) as tts:
        turn = tts.conversation().turn()
        listener = Listener()
        await asyncio.gather(push_all(turn, tokens), listener.listen(turn))
        assert turn.outcome == "spoken"
        assert not listener.audio
        assert listener.outcome == "spoken"
        assert provider.requests == []
        assert tts.get_error_state()["totals"]["failures"] == 0


async def test_text_after_the_end_or_an_interruption_is_refused(make_service: MakeService) -> None:
    async with make_service(WordToneProvider()) as tts:
        conversation = tts.conversation(max_text_characters=30)
        turn = conversation.turn()
        turn.push("It rains.")
        turn.end()
        turn.end()
        with pytest.raises(RuntimeError, match="open another turn"):
            turn.push("more")
        with pytest.raises(RuntimeError, match="open another turn"):
            turn.flush()
        other = conversation.turn()
        with pytest.raises(TTSTextTooLongError):
            other.push("x" * 31)
        with pytest.raises(TypeError):
            other.push(b"bytes")  # type: ignore[arg-type]
        await other.interrupt()
        with pytest.raises(RuntimeError, match="interrupted"):
            other.push("more")


async def test_nothing_is_sent_before_text_comes(make_service: MakeService) -> None:
    provider = WordToneProvider()
    async with make_service(provider) as tts:
        conversation = tts.conversation()
        conversation.turn()
        await asyncio.sleep(1)
        await conversation.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            conversation.turn()
    assert provider.requests == []


async def test_cut_turn_goes_on_at_the_word_and_keeps_the_other_voice(make_service: MakeService) -> None:
    first, second = WordToneProvider([Fault("cut", 0.5)], "first"), WordToneProvider(name="second")
    async with make_service(first, second) as tts:
        turn = tts.conversation(timeouts=BRISK).turn()
        listener = await spoken(turn, TEXT, pause=0.05)
    assert listener.heard(turn) == TEXT.split()
    assert turn.outcome == "resumed"
    (switch,) = listener.switches
    assert (switch.before, switch.after, switch.reason, switch.repeats) == ("first", "second", "cut", False)
    assert turn.text[switch.begin :].split() == [word.text for word in listener.words if word.start >= switch.at - 0.1]
    assert len(first.requests) == 1


async def test_sentence_without_times_is_spoken_again_and_that_is_announced(make_service: MakeService) -> None:
    first, second = WordToneProvider([Fault("cut", 0.7)], "first", timed=False), WordToneProvider(name="second")
    async with make_service(first, second) as tts:
        turn = tts.conversation().turn()
        listener = await spoken(turn, SHORT)
    assert listener.heard(turn)[-5:] == SHORT.split()
    (switch,) = listener.switches
    assert (switch.begin, switch.repeats) == (0, True)
    again = listener.events.index(switch)
    after = [word.text for event in listener.events[again:] if isinstance(event, Words) for word in event.words]
    assert after == SHORT.split()


async def test_sentence_without_times_that_is_held_back_is_heard_once(make_service: MakeService) -> None:
    faults = [Fault("cut", 0.7), Fault("stall", 0.4)]
    first, second = WordToneProvider(faults, "first", timed=False), WordToneProvider(name="second", timed=False)
    async with make_service(first, second) as tts:
        conversation = tts.conversation(hold_back=True, timeouts=BRISK)
        for _ in range(3):
            listener = await spoken(turn := conversation.turn(), TEXT, pause=0.05)
            assert listener.heard(turn) == TEXT.split()
            assert [word.text for word in listener.words] == TEXT.split()
            assert not any(switch.repeats for switch in listener.switches)
        conversation.update(hold_back=False)
        listener = await spoken(turn := conversation.turn(), TEXT)
        assert listener.heard(turn) == TEXT.split()


async def test_stream_of_pieces_repeats_nothing_because_it_could_not_announce_it(make_service: MakeService) -> None:
    first, second = WordToneProvider([Fault("cut", 0.7)], "first", timed=False), WordToneProvider(name="second")
    async with make_service(first, second) as tts:
        stream = tts.stream([f"{word} " for word in TEXT.split()], format="pcm_8000")
        audio = b"".join([chunk async for chunk in stream])
    assert words_in(audio, stream.format) == TEXT.split()


async def test_provider_that_failed_is_not_the_first_choice_of_the_next_turns(make_service: MakeService) -> None:
    first = ScriptedProvider([DOWN, DOWN, Say()], name="first")
    second = ScriptedProvider(name="second")
    tts = make_service(first, second, circuit=CircuitBreakerConfig(window_size=50, minimum_calls=50))
    async with tts:
        conversation, other = tts.conversation(), tts.conversation()
        for _ in range(3):
            assert (await spoken(conversation.turn(), "It rains.")).outcome == "substituted"
        tried = len(first.requests)
        assert tried in (1, 2)  # in the first turn only
        await asyncio.sleep(20)
        while len(first.requests) < 3:  # a turn probes it, with the other one ready
            await spoken(conversation.turn(), "It rains.")
            await asyncio.sleep(40)
        assert (await spoken(conversation.turn(), "It rains.")).outcome == "spoken"
        assert (await spoken(other.turn(), "It rains.")).outcome == "spoken"


async def test_success_of_any_call_ends_the_memory_of_a_failure(make_service: MakeService) -> None:
    first, second = ScriptedProvider([DOWN, DOWN, Say()], name="first"), ScriptedProvider(name="second")
    async with make_service(first, second, circuit=CircuitBreakerConfig(window_size=50, minimum_calls=50)) as tts:
        conversation = tts.conversation()
        await spoken(conversation.turn(), "It rains.")
        while (await tts.synthesize("It rains.", format="pcm_8000")).provider != "first":
            pass
        assert (await spoken(conversation.turn(), "It rains.")).outcome == "spoken"


async def test_silence_only_where_it_is_asked_for(make_service: MakeService) -> None:
    async with make_service(ScriptedProvider([DOWN]), muted=True) as tts:
        turn = tts.conversation().turn()
        listener = await spoken(turn, "It rains.")
        assert isinstance(listener.error, TTSServerError)
        assert listener.error.retryable
        assert listener.error.delivered == 0
        assert turn.outcome == "failed"
        quiet = tts.conversation(muted=True).turn()
        listener = await spoken(quiet, "It rains.")
        assert quiet.outcome == "muted"
        assert listener.seconds > 0
        assert not any(listener.audio)


async def test_error_after_some_audio_states_the_delivered_duration(make_service: MakeService) -> None:
    provider = ScriptedProvider([Say(aligned=True), DOWN])
    async with make_service(provider) as tts:
        turn, listener = tts.conversation().turn(), Listener()
        turn.push("It rains today and tomorrow. We stay at home then. And so on it goes.")
        await listener.listen(turn)
    assert isinstance(listener.error, TTSStreamInterruptedError)
    assert listener.error.delivered == pytest.approx(listener.seconds)
    turn.push("more text")  # never raises for a vendor


async def test_interruption_reports_the_heard_text_and_is_ignored_by_circuits(make_service: MakeService) -> None:
    provider = WordToneProvider(every=0.1)
    async with make_service(provider) as tts:
        turn = tts.conversation().turn()
        listener = Listener()
        turn.push(TEXT)
        listening = asyncio.create_task(listener.listen(turn))
        await asyncio.sleep(3.0)
        played = 2.0
        before = loop_clock()
        heard = await turn.interrupt(played=played)
        assert loop_clock() - before <= 0.02
        await listening
        offset = round(played * 24000) * 2
        assert heard.text.split() == words_in(listener.audio[:offset], turn.format)
        assert heard.text + heard.unheard == TEXT
        assert (heard.begin, heard.end, heard.exact) == (0, len(heard.text), True)
        assert listener.outcome == turn.outcome == "interrupted"
        assert await turn.interrupt(played=played) == heard
        assert provider.left == 1
        totals = tts.get_error_state()["totals"]
        assert totals["failures"] == 0


async def test_interrupted_sentence_without_times_does_not_count_as_heard_to_its_end(make_service: MakeService) -> None:
    async with make_service(WordToneProvider(timed=False, every=0.13)) as tts:
        turn, listener = tts.conversation(format="pcm_16000").turn(), Listener()
        turn.push("It rains all day today and we stay at home.")
        turn.end()
        listening = asyncio.create_task(listener.listen(turn))
        await asyncio.sleep(1.5)
        heard = await turn.interrupt(played=listener.seconds)
        await listening
        assert not heard.exact
        assert abs(len(heard.text.split()) - len(listener.heard(turn))) <= 2
        assert heard.unheard.strip()


async def test_interruption_after_everything_was_made_drops_what_was_not_read(make_service: MakeService) -> None:
    async with make_service(WordToneProvider()) as tts:
        turn = tts.conversation().turn()
        turn.push("It rains.")
        turn.end()
        await asyncio.sleep(1)
        heard = await turn.interrupt(played=0.0)
        assert (heard.text, turn.outcome) == ("", "interrupted")
        assert (await Listener().listen(turn)).events == [Ended("interrupted", turn.report)]
        done = tts.conversation().turn()
        await spoken(done, "It rains.")
        assert (await done.interrupt(played=100.0)).text.strip() == "It rains."
        assert done.outcome == "spoken"


async def test_interruption_of_an_overdue_vendor_counts(make_service: MakeService) -> None:
    async with make_service(ScriptedProvider([Hang()])) as tts:
        turn = tts.conversation().turn()
        turn.push("It rains.")
        turn.end()
        await asyncio.sleep(4)
        await turn.interrupt()
        assert tts.get_error_state()["totals"]["failures"] == 1


async def test_reader_that_stops_stalls_only_itself(make_service: MakeService) -> None:
    provider = WordToneProvider(chunk=0.5)
    long = " ".join(f"Sentence number {number} is not the last of them all." for number in range(400))
    async with make_service(provider) as tts:
        conversation = tts.conversation()
        stopped = conversation.turn()
        stopped.push(long)
        stopped.end()
        await Listener().listen(stopped, events=1)
        await asyncio.sleep(60)
        assert stopped.seconds < 32  # of more than twenty minutes
        assert (await spoken(conversation.turn(), TEXT)).outcome == "spoken"
        await conversation.aclose()
    assert stopped.outcome == "interrupted"


async def test_text_is_sent_only_when_its_audio_is_needed(make_service: MakeService) -> None:
    provider = WordToneProvider()
    text = " ".join(f"Sentence number {number} is not the last one of them all, by far." for number in range(20))
    async with make_service(provider) as tts:
        turn = tts.conversation().turn()
        turn.push(text)
        turn.end()
        listening = asyncio.create_task(Listener().listen(turn))
        await asyncio.sleep(1)
        assert len(provider.requests) <= 2
        await listening
        assert "".join(request.text + " " for request in provider.requests).strip() == text
        assert loop_clock() > 60
        before = loop_clock()
        stream = tts.stream([text], format="pcm_8000")  # may be saved: as fast as it comes
        assert words_in(b"".join([chunk async for chunk in stream]), stream.format) == text.split()
        assert loop_clock() - before < 1


async def test_feed_takes_iterables_and_ends_the_turn(make_service: MakeService) -> None:
    async def tokens() -> AsyncIterator[str]:
        for token in ("It ", "rains. ", "We ", "stay."):
            await asyncio.sleep(0.1)
            yield token

    def plain() -> Iterator[str]:
        yield from ("It ", "rains. ", "We ", "stay.")

    async with make_service(WordToneProvider()) as tts:
        for source in (tokens(), plain(), ["It rains. ", "We stay."]):
            turn, listener = tts.conversation().turn(), Listener()
            await asyncio.gather(turn.feed(source), listener.listen(turn))
            assert listener.heard(turn) == ["It", "rains.", "We", "stay."]
        turn = tts.conversation().turn()
        feeding = asyncio.create_task(turn.feed(tokens()))
        await asyncio.sleep(0.15)
        await turn.interrupt()
        await feeding  # ends by itself


async def test_stream_takes_text_that_is_still_being_written(make_service: MakeService) -> None:
    async def tokens() -> AsyncIterator[str]:
        for token in TEXT.split(" "):
            await asyncio.sleep(0.1)
            yield f"{token} "

    async def broken() -> AsyncIterator[str]:
        yield "It rains. "
        raise LookupError("no more tokens")

    async with make_service(WordToneProvider([Fault("cut", 0.5)], "a"), WordToneProvider(name="b")) as tts:
        for format in ("pcm_16000", "wav", "mp3_22050_32"):
            stream = tts.stream(tokens(), format=format)
            audio = b"".join([chunk async for chunk in stream])
            assert words_in(audio, stream.format) == TEXT.split()
            assert stream.outcome in ("resumed", "substituted", "spoken")
        with pytest.raises(LookupError):
            b"".join([chunk async for chunk in tts.stream(broken(), format="pcm_16000")])
        async with tts.stream(tokens(), format="pcm_16000") as left:
            await anext(left)
        assert left.outcome == "interrupted"
        assert b"".join([chunk async for chunk in tts.stream([], format="pcm_16000")]) == b""


async def test_options_change_from_the_next_turn_on(make_service: MakeService) -> None:
    provider = WordToneProvider()
    async with make_service(provider) as tts:
        conversation = tts.conversation(format="pcm_8000")
        await spoken(conversation.turn(), "It rains.")
        conversation.update(format="pcm_16000", speed=1.2)
        turn = conversation.turn()
        await spoken(turn, "It rains.")
        assert [request.speed for request in provider.requests] == [1.0, 1.2]
        assert turn.format.sample_rate == 16000
        with pytest.raises(TypeError, match="did you mean 'voice'"):
            conversation.update(voicee="other")  # type: ignore[call-arg]
        for wrong in (
            {"timeouts": 3},
            {"muted": "yes"},
            {"hold_back": 1.5},
            {"max_text_characters": 0},
            {"on_midstream": "error"},
        ):
            with pytest.raises(TTSConfigurationError):
                tts.conversation(**wrong)
        assert conversation.turn().format.sample_rate == 16000


async def test_closing_the_service_interrupts_its_turns(make_service: MakeService) -> None:
    async with make_service(WordToneProvider(every=1.0)) as tts:
        turn = tts.conversation().turn()
        turn.push("It rains. ")
        turn.flush()
        listening = asyncio.create_task(Listener().listen(turn))
        await asyncio.sleep(0.5)
    assert (await listening).outcome == "interrupted"


def test_same_conversation_for_threads() -> None:
    with TTSService([Tone()]) as tts, tts.conversation(timeouts=BRISK) as conversation:
        conversation.prewarm()
        turn = conversation.turn("greeting")
        turn.feed(["It rains. ", "We ", "stay."])
        events = list(turn)
        assert isinstance(events[-1], Ended)
        assert turn.outcome == "spoken"
        assert turn.id == "greeting"
        heard = turn.interrupt(played=0.4)
        assert (heard.text, turn.text) == ("It", "It rains. We stay.")
        other = conversation.turn()
        other.push("It rains")
        other.flush()
        next(other)
        with other:
            assert other.interrupt().unheard
        with pytest.raises(RuntimeError):
            other.push("more")
        audio = b"".join(tts.stream(iter(["It ", "rains."]), format="pcm_16000"))
        assert words_in(audio, "pcm_16000") == ["It", "rains."]


@pytest.mark.usefixtures("frozen_heap")
@pytest.mark.parametrize("way", ["end", "interrupt", "close", "error", "cancel"])
async def test_nothing_is_left_behind(make_service: MakeService, way: str) -> None:
    provider = ScriptedProvider([DOWN]) if way == "error" else WordToneProvider(every=0.001)

    async def converse(tts: AsyncTTSService) -> None:
        conversation = tts.conversation(format="mp3_22050_32")
        turn = conversation.turn()
        turn.push("It rains. We stay at home for a while.")
        if way in ("end", "error"):
            turn.end()
            await Listener().listen(turn)
        elif way == "cancel":
            reading = asyncio.create_task(Listener().listen(turn))
            await asyncio.sleep(0.01)
            reading.cancel()
            await asyncio.wait([reading])
        else:
            await Listener().listen(turn, events=2)
        if way == "interrupt":
            await turn.interrupt()
        await conversation.aclose()

    async with make_service(provider) as tts:
        await converse(tts)  # imports and caches
        with no_garbage():
            await converse(tts)
        assert not [name for name in live_objects() if "conversation" in name]


async def test_provider_switch_between_sentences_is_reported(make_service: MakeService) -> None:
    first = ScriptedProvider([Say(aligned=True), DOWN, DOWN, DOWN], name="first")
    second = ScriptedProvider(name="second")
    async with make_service(first, second) as tts:
        listener = await spoken(
            tts.conversation().turn(), "It rains today and tomorrow. We stay at home then. So be it."
        )
    (switch,) = [event for event in listener.events if isinstance(event, Switched)]
    assert (switch.before, switch.after, switch.reason, switch.repeats) == ("first", "second", "server_error", False)


def test_errors_tell_whether_they_may_be_retried() -> None:
    assert TTSServerError("HTTP 503").retryable
    assert not TTSTextTooLongError("too long").retryable
    assert TTSError("x").delivered == 0.0
