"""Seconds and last sound of an answer: counted by runs of frames where it is sound, frame by frame elsewhere."""

from __future__ import annotations

from functools import cache
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyvoice.audio.conversion import convert
from steadyvoice.audio.frames import Frame
from steadyvoice.audio.framing import AudioMeter
from steadyvoice.audio.validation import surely_audible, trailing_silence
from steadyvoice.service.pipeline.audio_validation import AudioValidator
from steadyvoice.speech.errors import TTSError, TTSWrongFormatError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest
from tests.audio.samples import PCM, hum

FORMATS = ["mp3_44100_128", "mp3_22050_32", "mp3_44100_192", "pcm_16000", "ulaw_8000", "alaw_8000", "wav_24000"]
PIECES = st.lists(st.tuples(st.booleans(), st.sampled_from([0.03, 0.1, 0.4])), min_size=1, max_size=3)
"""Pieces of sound and silence, with their seconds."""


@cache
def encoded(name: str, pieces: tuple[tuple[bool, float], ...]) -> bytes:
    samples = b"".join(hum(seconds, 24000) if sound else bytes(48 * round(1000 * seconds)) for sound, seconds in pieces)
    return convert(samples, PCM, AudioFormat.parse(name))


def validator_of(name: str) -> AudioValidator:
    request = SpeechRequest(text="A few words.", format=AudioFormat.parse(name), timestamps=True)
    return AudioValidator(request, request.format, lambda kind, message: kind(message, provider="vendor"))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(FORMATS),
    pieces=PIECES,
    sizes=st.lists(st.integers(333, 4000), min_size=1, max_size=5),
    stray=st.sampled_from([b"", b"noise", bytes(900), b"\xff\xfb\x90\x64" * 3]),
    where=st.floats(0, 1),
)
def test_last_sound_is_that_of_the_single_frames(
    name: str, pieces: list[tuple[bool, float]], sizes: list[int], stray: bytes, where: float
) -> None:
    audio = encoded(name, tuple(pieces))
    if name.startswith("mp3"):
        offset = round(where * len(audio))
        audio = audio[:offset] + stray + audio[offset:]
    # A false header counts until the next one is missing. The validator looks for sound in blocks of this size, so both
    # have to look at the same places to see the same.
    sizes = [min(size, 512) for size in sizes] if stray.startswith(b"\xff\xfb") else sizes
    validator, meter, frames, begin = validator_of(name), AudioMeter(AudioFormat.parse(name)), list[Frame](), 0
    for size in cycle(sizes):
        piece, begin = audio[begin : begin + size], begin + size
        seconds = meter.feed(piece)
        frames += meter.frames
        silence = trailing_silence(frames)
        heard = seconds - silence if silence is not None and surely_audible(frames) else 0.0
        if meter.format_mismatch:
            with pytest.raises(TTSWrongFormatError):
                validator.take(piece)
            return
        validator.take(piece)

        assert validator.seconds == pytest.approx(seconds)
        if heard:  # before that, a last sound is of no use
            assert validator.last_sound == pytest.approx(heard, abs=1e-6)
        if begin >= len(audio):
            break


def test_audio_of_another_rate_in_the_middle_is_refused() -> None:
    validator = validator_of("mp3_44100_128")
    validator.take(encoded("mp3_44100_128", ((True, 0.4),)))
    with pytest.raises(TTSError, match="22050 Hz"):
        validator.take(encoded("mp3_22050_32", ((True, 0.4),)))
