"""ElevenLabs audio with timestamps: JSON lines, and the common timeline."""

from __future__ import annotations

import itertools
import json
from collections import deque
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.speech.alignment import Alignment
from steadyvoice.speech.errors import TTSError, TTSNotAudioError, TTSQuotaExceededError, TTSServerError
from steadyvoice.wire.elevenlabs.timestamps import TimedAudio, Timeline, parse_timed_audio, timed_audio_body
from steadyvoice.wire.json_lines import JSONLineReader, StreamedLine


def lasting(text: str, start: float, end: float) -> Alignment:
    step = (end - start) / len(text)
    return Alignment(
        tuple(text),
        tuple(start + i * step for i in range(len(text))),
        tuple(start + (i + 1) * step for i in range(len(text))),
    )


@given(audio=st.binary(), text=st.none() | st.text(min_size=1), normalized=st.none() | st.just("five dollars"))
def test_timed_audio_is_parsed_to_the_same(audio: bytes, text: str | None, normalized: str | None) -> None:
    timed = TimedAudio(
        audio, lasting(text, 0.0, 1.0) if text else None, lasting(normalized, 0.0, 1.0) if normalized else None
    )

    assert parse_timed_audio(json.dumps(timed_audio_body(timed)).encode()) == timed


TIMES = st.lists(st.tuples(st.text(max_size=3), *[st.floats(allow_nan=False, allow_infinity=False)] * 2), max_size=4)


def alignment_of(times: list[tuple[str, float, float]] | None) -> Alignment | None:
    return Alignment(*(tuple(each[index] for each in times) for index in range(3))) if times else None  # type: ignore[arg-type]


@given(
    audio=st.none() | st.binary(),
    sent=st.none() | TIMES,
    spoken=st.none() | TIMES,
    same=st.booleans(),
    indent=st.none() | st.just(1),
)
def test_unusual_spelling_of_a_line_is_parsed_to_the_same(
    audio: bytes | None, sent: list[Any] | None, spoken: list[Any] | None, same: bool, indent: int | None
) -> None:
    """Servers that imitate the vendor write a byte order mark, numbers in quotes, and other fields, in any order."""
    timed = TimedAudio(audio or b"", alignment_of(sent), alignment_of(sent if same else spoken))
    document = timed_audio_body(timed)
    unusual = {"request": {"id": 1}, **dict(reversed(document.items()))}
    for name, value in unusual.items():
        if isinstance(value, dict) and "characters" in value:
            unusual[name] = {key: list(map(str, numbers)) for key, numbers in value.items()}

    assert parse_timed_audio(json.dumps(document, indent=indent).encode()) == timed
    assert parse_timed_audio(json.dumps(unusual, indent=indent).encode()) == timed
    assert parse_timed_audio(b"\xef\xbb\xbf" + json.dumps(document).encode()) == timed


def test_halves_of_an_emoji_are_characters() -> None:
    halves = lasting("\ud83d\ude00", 0.0, 1.0)
    assert parse_timed_audio(json.dumps(timed_audio_body(TimedAudio(b"one", halves))).encode()).alignment == halves


@given(line=st.binary() | st.text().map(lambda text: json.dumps({"audio_base64": text}).encode()))
def test_any_line_is_parsed_or_a_tts_error(line: bytes) -> None:
    with suppress(TTSError):
        assert isinstance(parse_timed_audio(line), TimedAudio)


@pytest.mark.parametrize(
    "line",
    [
        b"noise",
        b'{"audio_base64": "AAA',
        b"{}",
        b'{"audio_base64": "%%%"}',
        b'{"audio_base64": 5}',
        b'{"audio_base64": "", "alignment": {"characters": ["a"]}}',
        b'{"audio_base64": "", "alignment": {"characters": ["a"], "character_start_times_seconds": [NaN],'
        b' "character_end_times_seconds": [1]}}',
        b'{"audio_base64": "", "normalized_alignment": {"characters": ["a"], "character_start_times_seconds": [1e999],'
        b' "character_end_times_seconds": [1]}}',
        b'{"audio_base64": "", "alignment": {"characters": ["a"], "character_start_times_seconds": [1, 2],'
        b' "character_end_times_seconds": [1]}}',
    ],
)
def test_partial_line_and_noise_are_not_audio(line: bytes) -> None:
    with pytest.raises(TTSNotAudioError) as refused:
        parse_timed_audio(line, provider="elevenlabs")

    assert refused.value.provider == "elevenlabs"


def test_error_object_in_the_stream_is_the_vendors_error() -> None:
    with pytest.raises(TTSQuotaExceededError, match="quota_exceeded"):
        parse_timed_audio(b'{"detail": {"status": "quota_exceeded", "message": "Out"}}')
    with pytest.raises(TTSServerError, match="odd"):
        parse_timed_audio(b'{"detail": {"status": "odd", "message": "Out"}}')


def test_error_object_in_the_stream_does_not_reveal_the_key() -> None:
    with pytest.raises(TTSServerError) as refused:
        parse_timed_audio(b'{"detail": {"status": "key-12345", "message": "key-12345"}}', api_key="key-12345")

    assert "12345" not in f"{refused.value} {refused.value.code} {refused.value.body}"


def test_times_from_the_beginning_of_the_response_stay() -> None:
    timeline = Timeline()

    assert timeline.placed(lasting("ab", 0.0, 0.5)) == lasting("ab", 0.0, 0.5)
    assert timeline.placed(None) is None
    assert timeline.placed(lasting("cd", 0.48, 1.0)) == lasting("cd", 0.48, 1.0)


def test_times_from_the_beginning_of_each_piece_are_concatenated() -> None:
    timeline = Timeline()
    pieces = [timeline.placed(lasting("ab", 0.0, 0.5)) for _ in range(3)]

    assert [piece.starts[0] for piece in pieces if piece] == [0.0, 0.5, 1.0]
    assert [piece.ends[-1] for piece in pieces if piece] == [0.5, 1.0, 1.5]


@given(lines=st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line and line.strip())), cuts=st.randoms())
def test_lines_are_complete_wherever_the_network_cut_them(lines: list[bytes], cuts: object) -> None:
    stream = b"".join(line + b"\r\n\n" for line in lines)
    gathered, found = JSONLineReader(), []
    while stream:
        size = cuts.randint(1, 7)  # type: ignore[attr-defined]
        found += gathered.feed(stream[:size])
        stream = stream[size:]

    assert [line.rstrip(b"\r") for line in found if isinstance(line, bytes)] == [line.rstrip(b"\r") for line in lines]
    assert gathered.rest() == b""


def test_bytes_after_the_last_line_break_are_not_lost() -> None:
    gathered = JSONLineReader()

    assert gathered.feed(b"one\ntw") == [b"one"]
    assert gathered.rest() == b"tw"


def test_endless_line_is_refused() -> None:
    gathered = JSONLineReader(limit=10)
    gathered.feed(b"12345\n1234567890")

    with pytest.raises(TTSNotAudioError):
        gathered.feed(b"1")


def gathered_audio(stream: bytes, cuts: list[int], long: int) -> list[TimedAudio]:
    """Return the lines that a reader returns for data in pieces of these sizes."""
    lines, found, timed = JSONLineReader(long=long), [], []
    for size in itertools.cycle(cuts):
        found += lines.feed(stream[:size])
        stream = stream[size:]
        if not stream:
            break
    if rest := lines.rest():
        found.append(rest)
    for line in found:
        if isinstance(line, StreamedLine):
            assert all(len(piece) <= long + max(cuts) for piece in line.audio)
            without = parse_timed_audio(line.skeleton)
            timed.append(TimedAudio(b"".join(line.audio), without.alignment, without.normalized))
        else:
            timed.append(parse_timed_audio(line))
    return timed


@given(
    audio=st.lists(st.binary(max_size=400), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 90), min_size=1),
    backwards=st.booleans(),
    escaped=st.sampled_from([(), ("+",), ("/",), ("+", "/", "A", "=")]),
    ended=st.booleans(),
)
def test_long_line_reads_as_a_short_one_wherever_the_network_cut_it(
    audio: list[bytes], cuts: list[int], backwards: bool, escaped: tuple[str, ...], ended: bool
) -> None:
    timed = [TimedAudio(piece, lasting("abc", 0.0, 1.0), lasting("äé", 0.0, 1.0)) for piece in audio]
    written = []
    for piece in timed:
        document = timed_audio_body(piece)
        text = document["audio_base64"]
        document["audio_base64"] = "@"
        line = json.dumps(dict(reversed(document.items())) if backwards else document)
        for character in escaped:
            text = text.replace(
                character, "\\/" if character == "/" and len(escaped) == 1 else f"\\U{ord(character):04x}"
            )
        written.append(line.replace("@", text.replace("\\U", "\\u")))
    stream = "\n".join(written).encode() + (b"\n" if ended else b"")

    assert gathered_audio(stream, cuts, long=40) == timed


@pytest.mark.parametrize(
    "line",
    [
        b'{"audio_base64": "AAA%' + b"A" * 100,
        b'{"audio_base64": "AAAA' + b"\\q" * 100,
        b'{"audio_base64": "AAAAA", "alignment": null}' + b" " * 100,
        "{'audio_base64': \"Ä".encode() + b"A" * 100,
        b'{"audio_base64": "' + b"A" * 100,
        b'{"audio_base64": "' + b"A" * 100 + b'", "alignment": ',
        b"noise" * 50,
    ],
)
def test_long_line_that_is_no_audio_is_refused(line: bytes) -> None:
    for behind in (b"", b"\n"):
        with pytest.raises(TTSNotAudioError):
            gathered_audio(line + behind, [7], long=40)


def test_huge_timestamps_are_refused_before_they_are_parsed() -> None:
    times = b'"alignment":{"characters":[' + b'"a",' * 300_000
    for line in (b'{"audio_base64":"AAAA",' + times, b"{" + times + b',"audio_base64":"AAAA"}', b"[" + b"1," * 600_000):
        pieces = iter([line[begin : begin + 32_768] for begin in range(0, len(line), 32_768)])
        with pytest.raises(TTSNotAudioError, match="besides its audio"):
            deque(map(JSONLineReader().feed, pieces), maxlen=0)
        assert len(b"".join(pieces)) > len(line) - 300_000


def test_audio_of_a_line_may_be_larger_than_its_times() -> None:
    timed = TimedAudio(bytes(1_500_000), lasting("abc", 0.0, 1.0))
    document = timed_audio_body(timed)
    for line in (json.dumps(document), json.dumps(dict(reversed(document.items())))):
        assert gathered_audio(line.encode(), [32_768], long=65_536) == [timed]
