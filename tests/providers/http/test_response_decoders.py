"""Decoders of responses that pack their audio: the splits of the bytes change nothing, and noise is an error."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.providers.base import AudioChunk, AudioDecoder
from steadyvoice.providers.http import response_decoders
from steadyvoice.providers.http.response_decoders import DocumentAudioDecoder, LineAudioDecoder, align_words
from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError, TTSNotAudioError, TTSServerError
from steadyvoice.speech.word_timing import WordTiming

MESSAGES = [{"audio": "QUJD"}, {"note": "started"}, {"audio": "REVG", "words": ["Hi"], "at": [0.5]}]


def parse(message: bytes) -> AudioChunk | None:
    document = json.loads(message)
    if "error" in document:
        raise TTSServerError(document["error"])
    if "note" in document:
        return None
    words = document.get("words", [])
    return AudioChunk(
        base64.b64decode(document["audio"]), align_words(words, document.get("at", []), [0.9] * len(words))
    )


def lines() -> tuple[LineAudioDecoder, bytes]:
    return LineAudioDecoder(parse, provider="v"), b"\n".join(json.dumps(each).encode() for each in MESSAGES)


def events() -> tuple[LineAudioDecoder, bytes]:
    stream = b"".join(b": ping\nevent: chunk\r\ndata: %b\r\n\r\n" % json.dumps(each).encode() for each in MESSAGES)
    return LineAudioDecoder(parse, provider="v", events=True), stream


def decoded(decoder: AudioDecoder, pieces: Sequence[bytes]) -> list[AudioChunk]:
    chunks = [chunk for piece in pieces for chunk in decoder.feed(piece)]
    chunks += decoder.finish()
    if decoder.error:
        raise decoder.error
    return chunks


@given(st.lists(st.integers(0, 400), max_size=12))
@pytest.mark.parametrize("stream", [lines, events])
def test_splits_of_a_stream_change_nothing(
    stream: Callable[[], tuple[LineAudioDecoder, bytes]], cuts: list[int]
) -> None:
    decoder, data = stream()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = decoded(decoder, [data[begin:end] for begin, end in pairwise(edges)])
    assert b"".join(chunk.data for chunk in chunks) == b"ABCDEF"
    assert [chunk.alignment for chunk in chunks] == [None, Alignment(("Hi", " "), (0.5, 0.9), (0.9, 0.9))]
    assert decoder.is_between_chunks or stream is lines  # the last line of `lines` has no line break


@pytest.mark.parametrize("noise", [b"<html>\n", b"[]\n", b'"x"\n', b"{}\n", b'{"audio": 3}\n', b"\xff\xfe\n"])
def test_noise_is_not_audio_and_comes_behind_what_was_good(noise: bytes) -> None:
    decoder, _ = lines()
    chunks = decoder.feed(b'{"audio": "QUJD"}\n' + noise + b'{"audio": "REVG"}\n')
    assert [chunk.data for chunk in chunks] == [b"ABC"]
    assert isinstance(decoder.error, TTSNotAudioError)
    assert decoder.error.provider == "v"


def test_error_of_the_vendor_is_passed_on() -> None:
    decoder, _ = lines()
    assert not decoder.feed(b'{"error": "overload"}\n')
    assert isinstance(decoder.error, TTSServerError)


def test_line_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    decoder, _ = lines()
    for _ in range(response_decoders.MAX_MESSAGE // 65_536 + 1):
        decoder.feed(b"x" * 65_536)
    assert isinstance(decoder.error, TTSNotAudioError)


def test_document_comes_in_pieces_with_its_times_first() -> None:
    audio = bytes(100_000)
    document = json.dumps({"audio": base64.b64encode(audio).decode(), "words": ["Hi"], "at": [0.5]}).encode()
    decoder = DocumentAudioDecoder(parse, provider="v")
    assert decoder.is_between_chunks
    assert not decoder.feed(document[:50_000])
    assert not decoder.is_between_chunks
    chunks = decoded(decoder, [document[50_000:]])
    assert b"".join(chunk.data for chunk in chunks) == audio
    assert [chunk.alignment is not None for chunk in chunks] == [True, False, False, False]


def test_endless_document_is_refused() -> None:
    decoder = DocumentAudioDecoder(parse, provider="v")
    for _ in range(response_decoders.MAX_RESPONSE // 2**20 + 1):
        decoder.feed(bytes(2**20))
    assert isinstance(decoder.error, TTSNotAudioError)
    assert "smaller max_characters" in decoder.error.message


@pytest.mark.parametrize("times", [([0.0], []), ([float("nan")], [1.0]), (["x"], [1.0])])
def test_times_that_are_none_are_refused(times: tuple[list[float], list[float]]) -> None:
    with pytest.raises((ValueError, TTSError)):
        align_words(["Hi"], *times)


GAPS = st.sampled_from([" ", "  ", "\n", " \n\t"])


@given(
    words=st.lists(st.from_regex(r"[A-Za-zé]{1,8}[.,!?]?", fullmatch=True), min_size=1, max_size=12),
    gaps=st.lists(GAPS, min_size=12, max_size=12),
    cuts=st.sets(st.integers(1, 11)),
    end=st.sampled_from(["", " ", "\n"]),
)
def test_words_split_over_messages_in_any_way_have_the_vendors_times(
    words: list[str], gaps: list[str], cuts: set[int], end: str
) -> None:
    timing = WordTiming("".join(f"{gap}{word}" for gap, word in zip(["", *gaps], words, strict=False)) + end)
    edges = [0, *sorted(cut for cut in cuts if cut < len(words)), len(words)]
    for begin, stop in pairwise(edges):
        numbers = range(begin, stop)
        timing.take(
            align_words(words[begin:stop], [0.5 * number for number in numbers], [0.5 * n + 0.4 for n in numbers])
            or Alignment()
        )
    times = timing.extrapolated(60.0)
    assert times.exact
    found = times.words()
    assert [word.text for word in found] == words
    assert [word.start for word in found] == [0.5 * number for number in range(len(words))]
    assert [word.stop for word in found] == [0.5 * number + 0.4 for number in range(len(words))]


def test_words_of_a_text_without_blanks_have_the_vendors_times() -> None:
    timing = WordTiming("私は東京に行く。")
    for words, begin in ((["私は", "東京に"], 0.0), (["行く。"], 2.0)):
        timing.take(
            align_words(words, [begin + n for n in range(len(words))], [begin + n + 0.9 for n in range(len(words))])
            or Alignment()
        )
    times = timing.extrapolated(60.0)
    assert (times.text, times.exact) == ("私は東京に行く。", True)
    assert times.starts[times.characters.index("東京に")] == 1.0


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (lambda message: json.loads(message)["pcm"], "a message of the response has no 'pcm'"),
        (lambda _: b"audio", "parse returned bytes for a message; it has to return an AudioChunk, or None"),
    ],
)
def test_mistake_of_a_message_parser_is_named(returned: Callable[[bytes], AudioChunk], problem: str) -> None:
    decoder = LineAudioDecoder(returned, provider="v")
    assert not decoder.feed(b'{"audio": "QUJD"}\n')
    assert isinstance(decoder.error, TTSNotAudioError)
    assert problem in decoder.error.message
