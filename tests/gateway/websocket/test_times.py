"""Times in messages: LiveKit's and Pipecat's way of counting find the same words at the right times."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.gateway.websocket.turn_messages import CharacterTimes, TurnMessages
from steadyvoice.service.conversation.events import Audio, Switched, Words
from steadyvoice.speech.alignment import Word
from steadyvoice.wire.elevenlabs.websocket import AudioMessage, parse_server_message
from tests.gateway.websocket.clients import Heard, PipecatReader, Reader

WORD = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=12)
GAP = st.sampled_from([" ", "  ", "\n", " \n "])
SECONDS = st.floats(0.0, 2.0)


@st.composite
def spoken_texts(draw: st.DrawFn) -> tuple[str, list[list[Word]]]:
    """Return a text, and its words in messages, with pauses before them."""
    text, at = "", 0.0
    messages: list[list[Word]] = [[]]
    for name in draw(st.lists(WORD, min_size=1, max_size=12)):
        text += draw(GAP) if text else ""
        start = at + draw(SECONDS)
        at = start + draw(SECONDS)
        messages[-1].append(Word(name, len(text), len(text) + len(name), start, at))
        text += name
        if draw(st.booleans()):
            messages.append([])
    return text, messages


@pytest.mark.parametrize(("client", "absolute"), [(Reader, True), (PipecatReader, False)], ids=["livekit", "pipecat"])
@given(spoken=spoken_texts())
def test_client_finds_every_word_at_its_time(
    client: type[Reader], absolute: bool, spoken: tuple[str, list[list[Word]]]
) -> None:
    text, messages = spoken
    times, reader, heard = CharacterTimes(absolute=absolute), client(), Heard()
    for words in messages:
        if (alignment := times.of(words, text)) is None:
            continue
        starts = [round(start * 1000) for start in alignment.starts]
        ends = [round(end * 1000) for end in alignment.ends]
        durations = [end - start for start, end in zip(starts, ends, strict=True)]
        assert min(starts + durations) >= 0
        document = {"chars": alignment.characters, "charStartTimesMs": starts, "charDurationsMs": durations}
        reader.read_times(heard, document)
    words = [word for each in messages for word in each]
    assert heard.timed == [word.text for word in words]
    assert all(abs(time - word.start) < 0.0011 for time, word in zip(heard.times, words, strict=True))
    assert all(earlier <= later for earlier, later in pairwise(heard.times))


def audio_messages(messages: TurnMessages, event: Audio | Words | Switched, text: str) -> list[AudioMessage]:
    parsed = [parse_server_message(message) for message in messages.encode(event, text)]
    return [each for group in parsed for each in group if isinstance(each, AudioMessage)]


def test_estimated_words_of_a_provider_that_broke_off_are_not_sent() -> None:
    text = "One two three"
    messages = TurnMessages("a", CharacterTimes(absolute=True))
    words = [
        Word("One", 0, 3, 0.0, 0.5, False),
        Word("two", 4, 7, 0.5, 1.0, False),
        Word("three", 8, 13, 1.0, 2.0, False),
    ]
    assert audio_messages(messages, Words(words), text) == []
    (first,) = audio_messages(messages, Audio(b"12", 0.0, 0.4), text)
    assert audio_messages(messages, Switched(0.4, "a", "b", "cut", begin=4), text) == []
    audio_messages(messages, Words([Word("two", 4, 7, 0.4, 0.9), Word("three", 8, 13, 0.9, 1.4)]), text)
    (second,) = audio_messages(messages, Audio(b"34", 0.4, 1.0), text)
    assert first.alignment
    assert second.alignment
    assert "".join(first.alignment.characters + second.alignment.characters) == "One two three "


def test_text_without_blanks_gets_none_between_its_words() -> None:
    times = CharacterTimes(absolute=True)
    alignment = times.of([Word("早上", 0, 2, 0.0, 0.5), Word("好。", 2, 4, 0.5, 1.0)], "早上好。")
    assert alignment
    assert "".join(alignment.characters) == "早上好。 "


def test_words_that_are_repeated_are_sent_twice() -> None:
    times, text = CharacterTimes(absolute=True), "One two"
    parts = [times.of([word], text) for word in (Word("One", 0, 3, 0.0, 0.5), Word("One", 0, 3, 0.7, 1.0))]
    assert "".join(character for part in parts if part for character in part.characters) == "One One "


def test_long_audio_is_sent_in_messages_below_a_mebibyte() -> None:
    messages = list(TurnMessages("a", CharacterTimes(absolute=True)).encode(Audio(bytes(1_000_000), 0.0, 20.0), ""))
    assert max(map(len, messages)) < 400_000
    sizes = [
        len(each.audio)
        for message in messages
        for each in parse_server_message(message)
        if isinstance(each, AudioMessage)
    ]
    assert sum(sizes) == 1_000_000
