"""Audio formats: names, file extensions, media types and bytes per second."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from steadyvoice.speech.errors import TTSUnsupportedFormatError
from steadyvoice.speech.format import DEFAULT_FORMATS, ELEVENLABS_FORMAT_NAMES, FORMAT_NAMES, AudioFormat, Codec


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_parsed_format_has_the_same_name(name: str) -> None:
    form = AudioFormat.parse(name)
    assert form.name == str(form) == name
    assert AudioFormat.parse(form.name) == form


@pytest.mark.parametrize("name", DEFAULT_FORMATS)
def test_bare_codec_means_its_default_format(name: str) -> None:
    assert AudioFormat.parse(name).name == DEFAULT_FORMATS[name]
    assert AudioFormat.parse(name).codec.value == name


def test_every_codec_has_a_format() -> None:
    assert {AudioFormat.parse(name).codec for name in FORMAT_NAMES} == set(Codec)
    assert set(DEFAULT_FORMATS) == {codec.value for codec in Codec}


def test_no_format_has_two_names() -> None:
    assert len({AudioFormat.parse(name) for name in FORMAT_NAMES}) == len(FORMAT_NAMES)
    assert set(ELEVENLABS_FORMAT_NAMES) < set(FORMAT_NAMES)


@pytest.mark.parametrize("name", ["", "mp3_44100", "mp3_44100_129", "MP3_44100_128", "pcm_24000_16", "midi", " mp3"])
def test_error_for_an_unknown_format_lists_the_known_ones(name: str) -> None:
    with pytest.raises(TTSUnsupportedFormatError, match=r"unknown audio format .*mp3_44100_128") as caught:
        AudioFormat.parse(name)
    assert all(known in str(caught.value) for known in FORMAT_NAMES)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_extension_of_a_format_leads_back_to_its_codec(name: str) -> None:
    form = AudioFormat.parse(name)
    assert AudioFormat.of_file(f"out/speech.{form.extension}").codec is form.codec


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("speech.wav", "wav_24000"),
        ("speech.MP3", "mp3_44100_128"),
        ("my.speech.ogg", "opus_48000_64"),
        ("speech.opus", "opus_48000_64"),
        ("speech.raw", "pcm_24000"),
        ("speech.ul", "ulaw_8000"),
        (PurePosixPath("a/b.flac"), "flac_24000"),
    ],
)
def test_file_extension_selects_a_format(path: str | PurePosixPath, name: str) -> None:
    assert AudioFormat.of_file(path).name == name


@pytest.mark.parametrize("path", ["speech", "speech.txt", "wav", "speech.", "a.wav/speech"])
def test_error_for_an_unknown_extension_lists_the_known_ones(path: str) -> None:
    with pytest.raises(TTSUnsupportedFormatError, match=r"use \.mp3, \.wav"):
        AudioFormat.of_file(path)


@pytest.mark.parametrize(
    ("name", "rate"),
    [("pcm_24000", 48000.0), ("wav_8000", 16000.0), ("ulaw_8000", 8000.0), ("alaw_8000", 8000.0), ("mp3", None)],
)
def test_bytes_per_second_are_known_for_raw_samples(name: str, rate: float | None) -> None:
    assert AudioFormat.parse(name).bytes_per_second == rate


@pytest.mark.parametrize("codec", Codec)
def test_formats_without_header_or_with_independent_frames_are_concatenable(codec: Codec) -> None:
    assert AudioFormat.parse(codec.value).is_concatenable == (codec not in (Codec.WAV, Codec.OPUS, Codec.FLAC))


def test_opus_is_named_after_its_container() -> None:
    assert AudioFormat.parse("opus").extension == "ogg"


@pytest.mark.parametrize("codec", Codec)
def test_every_codec_has_a_content_type(codec: Codec) -> None:
    assert AudioFormat.parse(codec.value).mime_type.startswith("audio/")
