"""Threads and native memory of encoders, while they work and after they are closed."""

from __future__ import annotations

import pytest

from steadyvoice.audio.codec import encoder_for
from steadyvoice.speech.format import AudioFormat
from tests.leaked_objects import live_objects, native_threads, no_garbage

pytestmark = pytest.mark.usefixtures("frozen_heap")

FORMATS = ["mp3_44100_128", "aac_44100_128", "opus_48000_64", "flac_24000", "ulaw_8000", "alaw_8000"]
SECOND = bytes(2 * 48000)


@pytest.mark.parametrize("name", FORMATS)
def test_encoder_starts_no_threads(name: str) -> None:
    before = native_threads()
    encoders = [encoder_for(AudioFormat.parse(name)) for _ in range(10)]
    for encoder in encoders:
        encoder.feed(SECOND)
    assert native_threads() <= before  # a thread of an earlier test may still be ending
    for encoder in encoders:
        encoder.close()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("end", ["finish", "close"])
def test_finished_encoder_is_freed_without_the_garbage_collector(name: str, end: str) -> None:
    def encode() -> None:
        encoder = encoder_for(AudioFormat.parse(name))
        encoder.feed(SECOND)
        getattr(encoder, end)()

    encode()
    before = live_objects()
    with no_garbage():
        encode()
        left = live_objects() - before
    assert not left


@pytest.mark.parametrize("name", FORMATS)
def test_closed_encoder_refuses_more(name: str) -> None:
    encoder = encoder_for(AudioFormat.parse(name))
    encoder.feed(SECOND)
    encoder.close()
    encoder.close()
    with pytest.raises(ValueError, match="closed"):
        encoder.feed(SECOND)
    with pytest.raises(ValueError, match="closed"):
        encoder.finish()
