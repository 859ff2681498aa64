"""Detection of silence, with and without decoding."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.audio.conversion import convert, silence
from steadyvoice.audio.frames import Coding, Frame
from steadyvoice.audio.framing import framer_for
from steadyvoice.audio.validation import SILENCE_PEAK, peak_level, surely_audible, trailing_silence
from steadyvoice.audio.word_tones import synthesize_tones
from steadyvoice.speech.format import FORMAT_NAMES, AudioFormat, Codec

from .samples import FORMAT_OF_EACH_CODEC, PCM, encoded_hum, hum


def is_audible_sample(audio: bytes, name: str) -> bool:
    framer = framer_for(AudioFormat.parse(name))
    return surely_audible(framer.feed(audio) + framer.finish())


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_silence_is_detected_in_every_format(name: str) -> None:
    format_ = AudioFormat.parse(name)
    audio = b"".join(silence(format_, 1.0))

    assert not is_audible_sample(audio, name)
    assert peak_level(audio, format_) <= SILENCE_PEAK


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_hum_is_audible_in_every_format_without_decoding(name: str) -> None:
    assert is_audible_sample(encoded_hum(name, 0.3), name)
    assert peak_level(encoded_hum(name, 0.3), AudioFormat.parse(name)) > 7000


@pytest.mark.parametrize("name", FORMAT_OF_EACH_CODEC)
def test_word_after_a_pause_is_audible(name: str) -> None:
    audio = convert(bytes(2 * 24000) + hum(0.2, 24000), PCM, AudioFormat.parse(name))

    assert is_audible_sample(audio, name)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50))
def test_peak_level_decides_what_is_silent(samples: list[int]) -> None:
    pcm = array("h", samples).tobytes()

    assert peak_level(pcm, PCM) == max(map(abs, samples))
    assert is_audible_sample(pcm, "pcm_24000") == (max(map(abs, samples)) > SILENCE_PEAK)


@pytest.mark.parametrize("name", ["ulaw_8000", "alaw_8000"])
@pytest.mark.parametrize("code", range(256))
def test_telephone_samples_are_silent_where_they_decode_to_little(name: str, code: int) -> None:
    codec = {"ulaw_8000": "pcm_mulaw", "alaw_8000": "pcm_alaw"}[name]
    level = peak_level(bytes([code]), AudioFormat.parse(name))

    assert surely_audible([Frame(bytes([code]), 1, Coding(codec, 8000))]) == (level > SILENCE_PEAK)


def test_faintest_encoded_noise_is_not_silence() -> None:
    assert not is_audible_sample(array("h", [SILENCE_PEAK, -SILENCE_PEAK]).tobytes(), "pcm_24000")
    assert is_audible_sample(array("h", [0, -SILENCE_PEAK - 1]).tobytes(), "pcm_24000")


def test_incomplete_sample_is_ignored() -> None:
    assert not surely_audible([Frame(b"\x01\x00\x7f", 1, Coding("pcm_s16le", 8000))])
    assert peak_level(b"", PCM) == 0


@pytest.mark.parametrize("name", ["pcm_8000", "wav_8000", "ulaw_8000", "alaw_8000", "mp3_22050_32"])
def test_trailing_silence_is_measured_without_decoding(name: str) -> None:
    form = AudioFormat.parse(name)
    voice, _ = synthesize_tones("We", sample_rate=form.sample_rate)
    audio = convert(voice + bytes(2 * form.sample_rate), AudioFormat(Codec.PCM, form.sample_rate), form)
    framer = framer_for(form)
    quiet = trailing_silence(framer.feed(audio) + framer.finish())
    assert quiet == pytest.approx(1.0, abs=0.1)


def test_audio_without_sound_has_no_end_of_sound() -> None:
    assert trailing_silence(framer_for(AudioFormat.parse("pcm_8000")).feed(bytes(1000))) is None
    assert trailing_silence([]) is None
