"""Conversations for code without an event loop: threads that push, play, interrupt and close at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from steadyvoice import Audio, Conversation, Ended, Tone, TTSService, Turn, Words
from steadyvoice.audio.word_tones import words_in

from ..word_tone_provider import Fault, WordToneProvider

FORMAT = "pcm_16000"
SENTENCE = "It rains today, and we all stay at home. "
LIMIT = 20  # seconds: far more than any of these waits takes


@pytest.fixture
def conversation() -> Iterator[Conversation]:
    with TTSService([WordToneProvider(every=0.005)]) as tts, tts.conversation(format=FORMAT) as conversation:
        yield conversation


def audio_of(turn: Turn) -> bytes:
    return b"".join(event.data for event in turn if isinstance(event, Audio))


def test_one_thread_pushes_another_plays_and_a_third_interrupts(conversation: Conversation) -> None:
    turn = conversation.turn()
    is_playing, is_interrupted = threading.Event(), threading.Event()
    events = list[object]()

    def tokens() -> Iterator[str]:
        yield from SENTENCE.split(" ")[:-1]
        yield SENTENCE * 20
        assert is_interrupted.wait(LIMIT)
        yield "This comes too late, and raises nothing."

    def play() -> None:
        for event in turn:
            events.append(event)
            if isinstance(event, Words):
                is_playing.set()

    with ThreadPoolExecutor() as threads:
        feeding, playing = threads.submit(turn.feed, tokens()), threads.submit(play)
        assert is_playing.wait(LIMIT)
        heard = turn.interrupt(played=0.5)
        is_interrupted.set()
        feeding.result(LIMIT)
        playing.result(LIMIT)
    assert events[-1] == Ended("interrupted", turn.report)
    assert turn.outcome == "interrupted"
    assert turn.text == heard.text + heard.unheard
    assert "too late" not in turn.text
    with pytest.raises(RuntimeError, match="interrupted"):
        turn.push("more")


def test_feeding_ends_when_the_source_itself_interrupts(conversation: Conversation) -> None:
    turn = conversation.turn()

    def tokens() -> Iterator[str]:
        yield "It rains. "
        turn.interrupt(played=0.0)
        yield "We stay."
        pytest.fail("no further token is asked for")

    turn.feed(tokens())
    assert [type(event) for event in turn] == [Ended]


def test_threads_share_a_conversation(conversation: Conversation) -> None:
    def speak(number: int) -> tuple[list[str], list[str]]:
        conversation.update(speed=1.0 + number / 100)
        text = f"Turn number {number} is spoken by a thread of its own."
        with conversation.turn() as turn, ThreadPoolExecutor() as threads:
            feeding = threads.submit(turn.feed, iter([text]))
            audio = audio_of(turn)
            feeding.result(LIMIT)
        return words_in(audio, FORMAT), text.split()

    with ThreadPoolExecutor(max_workers=8) as threads:
        for heard, expected in threads.map(speak, range(16)):
            assert heard == expected


def test_closing_in_another_thread_ends_the_iteration(conversation: Conversation) -> None:
    turn = conversation.turn()
    turn.push(SENTENCE)
    turn.flush()
    with ThreadPoolExecutor() as threads:
        playing = threads.submit(list, turn)
        conversation.close()
        assert playing.result(LIMIT)[-1] == Ended("interrupted", turn.report)


def test_vendor_that_breaks_off_is_replaced_for_threads_too() -> None:
    first, second = WordToneProvider([Fault("cut", 0.5)], "first"), WordToneProvider(name="second")
    with TTSService([first, second, Tone()]) as tts, tts.conversation(format=FORMAT) as conversation:
        turn = conversation.turn()
        turn.feed([SENTENCE])
        assert words_in(audio_of(turn), FORMAT) == SENTENCE.split()
        assert turn.outcome == "resumed"
        assert turn.interrupt(played=0.2).text == "It"  # what was heard is known behind the end, too
