"""Memory limit of one request: documented, configurable, and enforced."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path

import pytest

from steadyvoice import AudioChunk, AudioFormat, RetryConfig, TTSConfigurationError, TTSStreamInterruptedError
from steadyvoice.service.cache.coalescing import CoalescedStream
from steadyvoice.service.config_file import load_arguments
from steadyvoice.service.pipeline.audio_limits import MAX_AUDIO_BYTES, MIN_AUDIO_BYTES, collect_audio, fits
from steadyvoice.speech.errors import TTSTextTooLongError, TTSTooLongError

from ..conftest import MakeService
from ..scripted_provider import ScriptedProvider, pcm
from .test_unbounded_answers import AlwaysReady, tone

MOST = MIN_AUDIO_BYTES
SENTENCE = "The quick brown fox jumps over the lazy dog. "
ONCE = RetryConfig(max_attempts=1)


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Measure the peak_memory of bytes held within the block, beyond those held before."""
    found = [0]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield found
        found[0] = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


async def test_text_with_too_large_audio_is_rejected_before_any_request(
    make_service: MakeService,
) -> None:
    vendor = ScriptedProvider()
    async with make_service(vendor) as tts:
        with pytest.raises(TTSTextTooLongError, match=r"pcm_48000.*max_audio_bytes.*stream\(\)") as failed:
            await tts.synthesize(SENTENCE * 2220, format="pcm_48000")
        assert str(MAX_AUDIO_BYTES) in str(failed.value)
        assert tts.circuits["scripted"].snapshot().calls == 0
    assert vendor.requests == []


@pytest.mark.slow
async def test_same_text_may_be_streamed_or_the_limit_raised(make_service: MakeService) -> None:
    text = SENTENCE * 60  # 2.6 MB
    async with make_service(ScriptedProvider(), max_audio_bytes=MOST) as tts:
        with pytest.raises(TTSTextTooLongError):
            await tts.synthesize(text, format="pcm_8000")
        assert sum([len(data) async for data in tts.stream(text, format="pcm_8000")]) > 2 * MOST
        await tts.reconfigure(max_audio_bytes=8 * MOST)
        assert tts.settings["max_audio_bytes"] == 8 * MOST
        assert len((await tts.synthesize(text, format="pcm_8000")).audio) > 2 * MOST


@pytest.mark.parametrize("bad", [0, -1, MOST - 1, 1e9, "64", True])
async def test_invalid_limit_is_rejected(bad: object, make_service: MakeService) -> None:
    with pytest.raises(TTSConfigurationError, match="max_audio_bytes: must be a whole number of bytes"):
        make_service(ScriptedProvider(), max_audio_bytes=bad)


def test_limit_can_be_set_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "steadyvoice.toml"
    file.write_text('[server]\nmax_answer_bytes = 2000000\n[[providers]]\nkind = "tone"\n')
    assert load_arguments(file, {})["max_audio_bytes"] == 2_000_000
    file.write_text('[server]\nmax_answer_bytes = 1000\n[[providers]]\nkind = "tone"\n')
    with pytest.raises(TTSConfigurationError, match=r"server\.max_answer_bytes"):
        load_arguments(file, {})


HELD = {  # what the vendor sends, and what is asked for
    "as it came": ("pcm_24000", "pcm_24000"),
    "a WAV": ("wav_24000", "wav_24000"),
    "as samples": ("pcm_24000", "mp3_24000_48"),
    "decoded": ("flac_24000", "pcm_24000"),
}


@pytest.mark.parametrize("how", HELD)
async def test_voice_that_does_not_stop_ends_at_the_limit(how: str, make_service: MakeService) -> None:
    sent, asked = HELD[how]
    text = "Good morning, how are you?"  # two seconds, and forty that are believed
    audio = tone(200.0, sent)
    vendor = AlwaysReady(lambda: repeat(audio), sent)
    async with make_service(vendor, muted=False, max_audio_bytes=MOST, retry=ONCE) as tts:
        with peak_memory() as held, pytest.raises(TTSTooLongError) as failed:
            await tts.synthesize(text, format=asked, on_midstream="error")
        assert tts.circuits["always-ready"].snapshot().failures == 1
    assert failed.value.provider == "always-ready"
    assert held[0] < 4 * MOST


async def test_slightly_longer_audio_is_no_failure(
    make_service: MakeService,
) -> None:
    vendor = AlwaysReady(lambda: iter([tone(70.0, "pcm_8000")]), "pcm_8000")
    async with make_service(vendor, max_audio_bytes=MOST, retry=ONCE) as tts:
        with pytest.raises(TTSTextTooLongError, match="max_audio_bytes"):
            await tts.synthesize(SENTENCE * 15, format="pcm_8000")
        assert tts.circuits["always-ready"].snapshot().failures == 0


@pytest.mark.slow
async def test_converted_audio_is_requested_in_pieces_that_fit(
    make_service: MakeService,
) -> None:
    vendor = ScriptedProvider(format=AudioFormat.parse("pcm_8000"))
    text = SENTENCE * 40
    async with make_service(vendor, max_audio_bytes=MOST) as tts:
        speech = await tts.synthesize(text, format="mp3_44100_64")
    assert len(vendor.requests) > 5
    assert "".join(request.text for request in vendor.requests) == text.strip()
    assert speech.duration == pytest.approx(len(text.strip()) * 0.06, rel=0.01)


async def test_whole_answer_is_held_about_once(make_service: MakeService) -> None:
    pieces, block = 100, pcm(5.0)
    vendor = AlwaysReady(lambda: repeat(AudioChunk(block), pieces), "pcm_8000")
    async with make_service(vendor, muted=False) as tts:
        with peak_memory() as held:
            speech = await tts.synthesize(SENTENCE * 180, format="pcm_8000", on_midstream="error")
    assert len(speech.audio) == pieces * len(block) == 8_000_000
    assert held[0] < 1.6 * len(speech.audio)


async def test_whole_wav_has_its_true_size() -> None:
    wav = tone(1.0, "wav_8000")
    unsized = wav[:40] + b"\xff\xff\xff\xff" + wav[44:]

    for size in (44, 1000, len(wav)):
        whole = await collect_audio(in_chunks(unsized, size), AudioFormat.parse("wav_8000"), MOST)
        assert int.from_bytes(whole[40:44], "little") == len(wav) - 44
        assert whole[44:] == wav[44:]


def test_expected_size_depends_on_the_script() -> None:
    mp3 = AudioFormat.parse("mp3_44100_128")
    assert fits("a" * 10_000, mp3, 1.0, 20_000_000)
    assert not fits("语" * 10_000, mp3, 1.0, 20_000_000)
    assert not fits("a" * 10_000, mp3, 0.5, 20_000_000)


async def test_slow_consumer_is_not_waited_for_in_memory() -> None:
    async def source() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield bytes(1000)

    stream = CoalescedStream(source(), 10_000, lambda: None)  # type: ignore[arg-type]
    behind = stream.subscribe()
    await anext(behind)
    with peak_memory() as held:
        assert sum([len(data) async for data in stream.subscribe()]) == 1_000_000
    assert held[0] < 100_000
    with pytest.raises(TTSStreamInterruptedError, match="behind"):
        async for _ in behind:
            pass


async def test_stream_too_large_for_the_cache_is_not_kept(make_service: MakeService, tmp_path: Path) -> None:
    block = pcm(5.0)
    vendor = AlwaysReady(lambda: repeat(AudioChunk(block), 100), "pcm_8000")
    async with make_service(vendor, muted=False, cache=tmp_path, max_audio_bytes=MOST) as tts:
        with peak_memory() as held:
            async for _ in tts.stream(SENTENCE * 180, format="pcm_8000", on_midstream="error"):
                pass
    assert held[0] < 3 * MOST


async def in_chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for offset in range(0, len(data), size):
        yield data[offset : offset + size]
