"""Silence in any format: of the right length, a second at a time."""

from __future__ import annotations

from array import array
from itertools import islice

import pytest

from steadyvoice.audio.conversion import silence
from steadyvoice.audio.framing import AudioMeter
from steadyvoice.speech.format import FORMAT_NAMES, AudioFormat

from ..samples import FORMAT_OF_EACH_CODEC, decoded_samples, frame_seconds


@pytest.mark.parametrize("name", FORMAT_NAMES)
@pytest.mark.parametrize("seconds", [0.05, 2.5])
def test_silence_has_the_requested_length(name: str, seconds: float) -> None:
    meter = AudioMeter(AudioFormat.parse(name))

    for chunk in silence(meter.format, seconds):
        meter.feed(chunk)

    assert meter.seconds == pytest.approx(seconds, abs=frame_seconds(name))


@pytest.mark.parametrize("name", FORMAT_OF_EACH_CODEC)
def test_silence_is_silent(name: str) -> None:
    samples = decoded_samples(b"".join(silence(AudioFormat.parse(name), 1.2)), name)

    assert max(map(abs, samples), default=0) <= 8  # A-law knows no zero


@pytest.mark.parametrize("name", FORMAT_OF_EACH_CODEC)
def test_year_of_silence_starts_at_once(name: str) -> None:
    chunks = list(islice(silence(AudioFormat.parse(name), 365 * 86400.0), 3))

    assert all(0 < len(chunk) < 200_000 for chunk in chunks)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_zero_seconds_are_a_valid_empty_file(seconds: float) -> None:
    assert b"".join(silence(AudioFormat.parse("pcm_24000"), seconds)) == b""
    assert b"".join(silence(AudioFormat.parse("wav_24000"), seconds))[:4] == b"RIFF"
    assert array("h", b"".join(silence(AudioFormat.parse("pcm_8000"), 0.001))) == array("h", [0] * 8)
