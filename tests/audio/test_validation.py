"""Format sniffing and plausible lengths."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.audio.validation import (
    FormatMatch,
    FormatMismatch,
    FormatSniffer,
    FormatVerdict,
    NeedMoreBytes,
    NotAudio,
    ends_with_message,
    is_long_enough,
    longest_plausible,
)
from steadyvoice.speech.format import FORMAT_NAMES, AudioFormat

from .samples import FORMAT_OF_EACH_CODEC, encoded_hum

CONTAINED = [name for name in FORMAT_OF_EACH_CODEC if not name.startswith(("pcm", "ulaw", "alaw"))]
BARE = [name for name in FORMAT_OF_EACH_CODEC if name.startswith(("pcm", "ulaw", "alaw"))]


def sniff(head: bytes, content_type: str | None, name: str) -> FormatVerdict:
    return FormatSniffer(AudioFormat.parse(name), content_type).feed(head)


@pytest.mark.parametrize("name", FORMAT_NAMES)
@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "audio/mpeg", "audio/whatever; rate=1"])
def test_audio_of_every_format_matches(name: str, content_type: str | None) -> None:
    assert sniff(encoded_hum(name, 0.1)[:64], content_type, name) == FormatMatch()


@pytest.mark.parametrize("name", FORMAT_OF_EACH_CODEC)
@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        ("application/json", "JSON"),
        ("application/problem+json; charset=utf-8", "JSON"),
        ("application/vnd.api+json", "JSON"),
        ("Text/HTML; charset=utf-8", "HTML"),
        ("text/plain", "text"),
        ("text/event-stream", "server-sent events"),
        ("image/svg+xml", "XML"),
    ],
)
def test_content_type_other_than_audio_is_refused(name: str, content_type: str, reason: str) -> None:
    verdict = sniff(b"", content_type, name)

    assert isinstance(verdict, NotAudio)
    assert verdict.reason.startswith(reason)


@pytest.mark.parametrize("name", CONTAINED)
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"detail":{"status":"quota_exceeded"}}', "JSON"),
        (b' \n [ "no such voice" ]', "JSON"),
        (b"<!DOCTYPE html><title>502</title>", "HTML"),
        (b"<html><body>Bad gateway", "HTML"),
        (b"upstream connect error", "text"),
    ],
)
def test_text_under_an_audio_content_type_is_refused(name: str, body: bytes, reason: str) -> None:
    verdict = sniff(body, "audio/mpeg", name)

    assert isinstance(verdict, NotAudio)
    assert verdict.reason.startswith(reason)


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("content_type", [None, "application/octet-stream"])
def test_readable_text_is_not_samples(name: str, content_type: str | None) -> None:
    assert isinstance(sniff(b'{"error": "no credit"}', content_type, name), NotAudio)


@pytest.mark.parametrize("name", BARE)
def test_printable_samples_are_samples_under_an_audio_content_type(name: str) -> None:
    assert sniff(b"{" * 100, "audio/pcm", name) == FormatMatch()


@pytest.mark.parametrize("promised", CONTAINED)
@pytest.mark.parametrize("sent", CONTAINED)
def test_unexpected_container_is_a_mismatch(promised: str, sent: str) -> None:
    verdict = sniff(encoded_hum(sent, 0.1)[:64], None, promised)

    if promised.split("_")[0] == sent.split("_")[0]:
        assert verdict == FormatMatch()
    else:
        assert isinstance(verdict, FormatMismatch)
        assert f"expected {promised}" in verdict.reason


@pytest.mark.parametrize("name", CONTAINED)
@pytest.mark.parametrize("head", [b"", b"I", b"\xff", b"R", b"O", b"f", b"<", b"  "])
def test_too_few_bytes_need_more(name: str, head: bytes) -> None:
    assert sniff(head, "audio/mpeg", name) in (NeedMoreBytes(), NotAudio("HTML: '<'"))


@pytest.mark.parametrize("name", ["mp3_44100_128", "aac_24000_64"])
def test_id3_tag_may_precede_mp3_and_aac(name: str) -> None:
    assert sniff(b"ID3\x04\0\0\0\0\0\0", "audio/mpeg", name) == FormatMatch()


@pytest.mark.parametrize("head", [b"\0\0\0\x1cftypM4A ", b"\x1aE\xdf\xa3webm", b"FORM\0\0\0\0AIFF", b"caff\0\1\0\0"])
def test_unsupported_containers_are_a_mismatch(head: bytes) -> None:
    assert sniff(head, "audio/mp4", "mp3_44100_128") == FormatMismatch("another container, expected mp3_44100_128")


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("sent", ["wav_24000", "opus_48000_64", "flac_24000"])
def test_container_is_not_samples(name: str, sent: str) -> None:
    verdict = sniff(encoded_hum(sent, 0.1)[:64], "audio/pcm", name)

    assert isinstance(verdict, FormatMismatch)
    assert "expected bare samples" in verdict.reason


@pytest.mark.parametrize("name", FORMAT_OF_EACH_CODEC)
def test_gzip_data_is_not_audio(name: str) -> None:
    verdict = sniff(gzip.compress(encoded_hum(name, 0.1)), "audio/mpeg", name)

    assert verdict == NotAudio("gzip data without a Content-Encoding header")


def test_stream_joined_in_its_middle_matches_at_the_first_frame() -> None:
    middle = encoded_hum("mp3_44100_128", 0.3)[100:]

    assert sniff(middle[:50], None, "mp3_44100_128") == NeedMoreBytes()
    assert sniff(middle[:2000], None, "mp3_44100_128") == FormatMatch()


@pytest.mark.parametrize("name", CONTAINED)
def test_bytes_without_a_frame_are_refused(name: str) -> None:
    verdict = sniff(bytes(5000), None, name)

    assert isinstance(verdict, NotAudio)
    assert "it begins with 00 00" in verdict.reason


@given(name=st.sampled_from(FORMAT_NAMES), head=st.binary(max_size=300))
def test_any_bytes_get_a_verdict(name: str, head: bytes) -> None:
    assert isinstance(sniff(head, None, name), FormatVerdict)


def test_length_of_the_fastest_voices_is_the_minimum() -> None:
    text = "mistrust " * 20  # 160 letters, of which each usually takes 75 ms

    assert is_long_enough(text, 7.45)
    assert not is_long_enough(text, 7.43)
    assert is_long_enough(text, 3.73, speed=2.0)
    assert is_long_enough(text, 7.45, speed=0.5), "some vendors ignore the speed"


def test_endless_audio_exceeds_the_longest_plausible() -> None:
    assert longest_plausible("a" * 100) == 130.0
    assert longest_plausible("a" * 100, speed=2.0) == 70.0
    assert longest_plausible("") == 10.0, "a short text may be drawn out"


@pytest.mark.parametrize(
    "message",
    [
        b'{"detail":{"status":"internal_server_error"}}',
        b'{"detail": "the server failed"}\n',
        b"<html><body>502 Bad Gateway</body></html>\r\n",
    ],
)
@pytest.mark.parametrize("name", FORMAT_OF_EACH_CODEC)
def test_error_message_at_the_end_is_found(name: str, message: bytes) -> None:
    assert ends_with_message((encoded_hum(name, 0.1) + message)[-512:])
    assert not ends_with_message(encoded_hum(name, 0.1)[-512:])


def test_tag_at_the_end_is_no_message() -> None:
    assert not ends_with_message(b"\xff\xfb" + b"TAG" + b"Good morning".ljust(124, b"\0") + b"\x0c")
    assert not ends_with_message(b"{}")


def test_short_text_has_no_minimum() -> None:
    assert is_long_enough("bad" * 13, 0.0)
    assert not is_long_enough("bad " * 14, 0.0)
    assert is_long_enough("-" * 1000, 0.0)
