"""Streams of a vendor that sends audio and the times of its words in separate messages."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from steadyvoice.providers.base import Accepted, AudioChunk
from steadyvoice.providers.cartesia_websocket import CartesiaContext
from steadyvoice.providers.http.response_decoders import align_words
from steadyvoice.providers.websocket.context_protocol import ContextEvent
from steadyvoice.providers.websocket.text_stream import SocketTextStream
from steadyvoice.speech.errors import TTSServerError
from steadyvoice.speech.format import AudioFormat, Codec

SECOND = b"\x01\x00" * 16_000


class Carrier:
    """Connection that sends nothing by itself."""

    def notify(self, stream: SocketTextStream) -> None:
        stream.context_id = stream.context_id or "c1"

    def abandon(self, stream: SocketTextStream, *, owed: bool) -> None:
        stream.release()


def opened(text: str) -> SocketTextStream:
    """Return a stream that has sent a text and its flush."""
    protocol = CartesiaContext({}, None, "cartesia")
    stream = SocketTextStream(protocol, lambda *_: Carrier(), AudioFormat(Codec.PCM, 16_000), "cartesia")
    speak(stream, text)
    return stream


def speak(stream: SocketTextStream, text: str) -> None:
    stream.send(text)
    stream.flush()
    assert stream.take_messages()


def audio(seconds: float) -> ContextEvent:
    return ContextEvent("c1", SECOND[: int(seconds * 16_000) * 2], times_apart=True)


def times(*words: tuple[str, float, float]) -> ContextEvent:
    alignment = align_words(*zip(*words, strict=True)) if words else None
    return ContextEvent("c1", alignment=alignment, times_apart=True)


FLUSHED = ContextEvent("c1", flushed=True, times_apart=True)


async def read(stream: SocketTextStream, count: int) -> list[AudioChunk]:
    """Return the next chunks."""
    chunks: list[AudioChunk] = []
    while len(chunks) < count:
        event = await anext(stream)
        assert not isinstance(event, Accepted)
        chunks.append(event)
    return chunks


def seconds(chunks: Sequence[AudioChunk]) -> float:
    return sum(len(chunk.data) for chunk in chunks) / 32_000


async def test_audio_waits_for_its_times_and_a_moment_of_it_for_the_last_ones() -> None:
    stream = opened("Good evening. ")
    stream.receive(audio(0.5))
    stream.receive(times(("Good", 0.0, 0.3)))
    stream.receive(audio(0.4))
    stream.receive(times(("evening.", 0.4, 0.9)))
    stream.receive(FLUSHED)
    first, second, last = await read(stream, 3)
    assert [chunk.alignment and chunk.alignment.text for chunk in (first, second, last)] == ["Good ", "evening. ", None]
    assert (seconds([first]), seconds([last])) == (0.48, 0.02)
    assert seconds([first, second, last]) == 0.9
    assert not stream.expects_audio


async def test_audio_is_owed_until_its_times_are_read() -> None:
    stream = opened("Good evening. ")
    stream.receive(audio(0.9))
    stream.receive(times(("Good", 0.0, 0.3), ("evening.", 0.4, 0.9)))
    stream.receive(FLUSHED)
    assert stream.expects_audio
    await read(stream, 1)
    assert stream.expects_audio
    await read(stream, 1)
    assert not stream.expects_audio


async def test_end_of_a_flush_settles_letters_that_have_no_times() -> None:
    stream = opened("Room forty-two. ")
    stream.receive(audio(0.9))
    stream.receive(times(("Room", 0.0, 0.3)))
    await read(stream, 1)
    assert stream.expects_audio
    stream.receive(FLUSHED)
    await read(stream, 1)
    assert not stream.expects_audio


async def test_few_letters_without_times_are_still_owed() -> None:
    stream = opened("Here we go. ")
    stream.receive(audio(0.9))
    stream.receive(times(("Here", 0.0, 0.3), ("we", 0.4, 0.6)))
    await read(stream, 1)
    assert stream.expects_audio


async def test_audio_without_times_goes_on_after_a_second() -> None:
    stream = opened("Good evening. ")
    stream.receive(audio(0.9))
    stream.receive(audio(0.3))
    chunks = await read(stream, 2)
    assert seconds(chunks) == 1.18
    assert not any(chunk.alignment for chunk in chunks)


async def test_times_of_another_context_count_from_its_own_audio() -> None:
    stream = opened("Good evening. ")
    stream.receive(audio(1.0))
    stream.receive(times(("Good", 0.0, 0.3), ("evening.", 0.4, 0.7)))
    stream.receive(FLUSHED)
    stream.finish_context()  # it has expired
    speak(stream, "Good night. ")
    stream.receive(audio(1.0))
    stream.receive(times(("Good", 0.1, 0.3), ("night.", 0.4, 0.7)))
    chunks = await read(stream, 3)
    assert chunks[-1].alignment is not None
    assert [word.start for word in chunks[-1].alignment.words()] == [1.1, 1.4]


async def test_audio_of_no_known_word_is_dropped_at_a_failure() -> None:
    stream = opened("Good evening. ")
    stream.receive(audio(0.5))
    stream.receive(times(("Good", 0.0, 0.3)))
    stream.receive(audio(0.4))
    stream.fail(TTSServerError("down"))
    (chunk,) = await read(stream, 1)
    assert seconds([chunk]) == 0.48
    with pytest.raises(TTSServerError):
        await anext(stream)
    assert [event async for event in stream] == []
