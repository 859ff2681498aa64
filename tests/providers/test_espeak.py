"""eSpeak NG provider, with the real engine."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import pytest

from steadyvoice.providers.base import AudioChunk
from steadyvoice.providers.espeak import Espeak, is_installed
from steadyvoice.providers.espeak_ng.voices import EspeakFiles
from steadyvoice.speech.errors import TTSConfigurationError, TTSLocalCrashError
from tests.providers.synthesis import SynthesisResult, pcm_request, synthesize
from tests.required_tools import require_tool

require_tool(is_installed(), "espeakng-loader")

SENTENCE = "The quick brown fox jumps over the lazy dog."


@pytest.fixture
async def espeak() -> AsyncIterator[Espeak]:
    voice = Espeak()
    yield voice
    await voice.aclose()


def same_audio(one: SynthesisResult, other: SynthesisResult) -> bool:
    """Return whether two are the same utterance. eSpeak's timing varies by some milliseconds between runs."""
    return one.alignment.text == other.alignment.text and one.alignment.starts == pytest.approx(
        other.alignment.starts, rel=0.01, abs=0.02
    )


async def test_espeak_speaks(espeak: Espeak) -> None:
    heard = await synthesize(espeak, SENTENCE)

    assert 2.0 < heard.seconds < 4.0
    assert max(heard.samples) > 5_000
    assert heard.rate == 22_050


async def test_word_times_are_in_order_and_within_the_audio(espeak: Espeak) -> None:
    heard = await synthesize(espeak, SENTENCE)
    words = heard.alignment.words()

    assert [word.text for word in words] == SENTENCE.split()
    assert [word.start for word in words] == sorted({word.start for word in words})
    assert words[0].start == 0.0
    assert words[-1].stop == pytest.approx(heard.seconds)
    # A long word in the middle: neither the times nor the letters are just spread over the whole.
    assert words[2].stop - words[0].start < heard.seconds * 0.45


async def test_pause_between_sentences_belongs_to_no_word(espeak: Espeak) -> None:
    heard = await synthesize(espeak, "Stop. Go.")
    go = heard.alignment.words()[1]
    silent = heard.samples[int((go.start - 0.05) * heard.rate) : int((go.start - 0.01) * heard.rate)]

    assert max(map(abs, silent)) < 500


async def test_alignment_has_every_character_of_any_script(espeak: Espeak) -> None:
    for text in (
        "Zoë paid $1,234.50 🙂 — “really”?",
        "Привет, мир",
        "日本語テスト",
        "[[hi]] <b>bold</b> &amp; a\tb\n\nc",
    ):
        heard = await synthesize(espeak, text)
        assert heard.alignment.text == text
        assert list(heard.alignment.starts) == sorted(heard.alignment.starts)
        assert heard.seconds > 0.3


async def test_markup_and_phoneme_codes_are_read_aloud(espeak: Espeak) -> None:
    bare = await synthesize(espeak, "bold")
    assert (await synthesize(espeak, "<b>bold</b>")).seconds > bare.seconds + 0.2
    assert (await synthesize(espeak, "[[bold]]")).seconds > bare.seconds - 0.05


async def test_text_without_words_is_short_silence(espeak: Espeak) -> None:
    heard = await synthesize(espeak, "...")

    assert heard.seconds < 0.1
    assert heard.alignment.text == "..."


async def test_unpronounceable_characters_are_harmless(espeak: Espeak) -> None:
    heard = await synthesize(espeak, "one\0two \ud800 three")

    assert heard.alignment.text == "one\0two \ud800 three"
    assert heard.seconds > (await synthesize(espeak, "one two")).seconds + 0.2


async def test_speed_multiplies_words_per_minute(espeak: Espeak) -> None:
    usual, fast, slow = [(await synthesize(espeak, SENTENCE, speed=speed)).seconds for speed in (1.0, 2.0, 0.5)]

    assert fast == pytest.approx(usual / 2, rel=0.2)
    assert slow == pytest.approx(usual * 2, rel=0.2)


async def test_extreme_speeds_are_speech(espeak: Espeak) -> None:
    fastest, slowest = [(await synthesize(espeak, SENTENCE, speed=speed)).seconds for speed in (4.0, 0.25)]

    assert 0.3 < fastest < slowest < 15


async def test_pitch_changes_the_sound() -> None:
    low, high = Espeak(pitch=10), Espeak(pitch=90)
    try:
        assert (await synthesize(low, "Hello")).samples != (await synthesize(high, "Hello")).samples
    finally:
        await low.aclose()
        await high.aclose()


async def test_long_text_streams_before_it_is_finished(espeak: Espeak) -> None:
    request = pcm_request((SENTENCE + " ") * 2_300)  # 100,000 characters, two hours
    async with aclosing(espeak.speak(request, espeak.offer(request), connection_timeout=10)) as speech:
        await anext(speech)
        first = await anext(speech)
        # Two hours are 300 MB; the child has been asked for half a minute so far.
        assert isinstance(first, AudioChunk)
        assert len(first.data) == 44_100
        shared = await synthesize(espeak, "Hello")
    assert 0.3 < shared.seconds < 1.0


async def test_text_of_several_jobs_has_one_continuous_alignment(espeak: Espeak) -> None:
    text = (SENTENCE + " ") * 40
    heard = await synthesize(espeak, text)

    assert heard.alignment.text == text
    assert list(heard.alignment.starts) == sorted(heard.alignment.starts)
    assert heard.alignment.ends[-1] == pytest.approx(heard.seconds)
    alone = await synthesize(espeak, SENTENCE)
    # Where one turn ends and the next begins, the pause between sentences is the same as elsewhere.
    starts = [word.start for word in heard.alignment.words() if word.text == "The"]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert max(gaps) - min(gaps) < 0.05
    assert min(gaps) > alone.seconds


async def test_each_second_has_the_characters_that_begin_in_it(espeak: Espeak) -> None:
    heard = await synthesize(espeak, SENTENCE * 3)
    edge = 0.0
    for chunk in heard.chunks[:-1]:
        assert chunk.alignment is not None
        assert all(edge <= start < edge + 1 for start in chunk.alignment.starts)
        edge += 1


async def test_fifty_concurrent_callers_share_one_process(espeak: Espeak) -> None:
    one, other = await synthesize(espeak, "Number one."), await synthesize(espeak, "And this is the other text.")
    first = espeak.process_id

    texts = ["Number one.", "And this is the other text."] * 25
    all_heard = await asyncio.gather(*(synthesize(espeak, text) for text in texts))

    assert all(same_audio(heard, one) for heard in all_heard[::2])
    assert all(same_audio(heard, other) for heard in all_heard[1::2])
    assert espeak.process_id == first


async def test_stream_closed_early_does_not_affect_the_next(espeak: Espeak) -> None:
    expected = await synthesize(espeak, "Something else.")
    first = espeak.process_id
    request = pcm_request(SENTENCE * 100)
    speech = espeak.speak(request, espeak.offer(request), connection_timeout=10)
    async for _ in speech:
        break
    await speech.aclose()

    assert same_audio(await synthesize(espeak, "Something else."), expected)
    assert espeak.process_id == first


async def test_cancelled_caller_does_not_affect_the_next(espeak: Espeak) -> None:
    expected = await synthesize(espeak, "Something else.")
    leavers = [asyncio.create_task(synthesize(espeak, SENTENCE * 100)) for _ in range(3)]
    await synthesize(espeak, "Hi")  # by then they are at their second turn
    for leaver in leavers:
        leaver.cancel()
    await asyncio.gather(*leavers, return_exceptions=True)

    assert same_audio(await synthesize(espeak, "Something else."), expected)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
async def test_child_killed_between_two_jobs_is_replaced(espeak: Espeak) -> None:
    expected = await synthesize(espeak, SENTENCE * 20)
    request = pcm_request(SENTENCE * 20)
    heard = SynthesisResult(rate=22_050)
    killed = espeak.process_id
    assert killed is not None
    async for piece in espeak.speak(request, espeak.offer(request), connection_timeout=10):
        if isinstance(piece, AudioChunk):
            heard.chunks.append(piece)
            if len(heard.chunks) == 1:
                os.kill(killed, signal.SIGKILL)
                await asyncio.to_thread(os.waitid, os.P_PID, killed, os.WEXITED | os.WNOWAIT)

    assert same_audio(heard, expected)
    assert espeak.process_id not in (None, killed)


async def test_provider_starts_a_new_child_after_closing(espeak: Espeak) -> None:
    await synthesize(espeak, "Hello")
    child = espeak.process_id
    assert child is not None
    await espeak.aclose()

    assert espeak.process_id is None
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert (await synthesize(espeak, "Hello")).seconds > 0.3


async def test_closing_twice_or_unused_is_harmless() -> None:
    espeak = Espeak()
    await espeak.aclose()
    await espeak.aclose()


def test_one_provider_serves_several_event_loops() -> None:
    espeak = Espeak()
    heard: list[SynthesisResult] = []

    def another_thread() -> None:
        heard.append(asyncio.run(synthesize(espeak, "Hello")))

    for _ in range(2):
        thread = threading.Thread(target=another_thread)
        thread.start()
        thread.join()
    child = espeak.process_id
    heard.append(asyncio.run(synthesize(espeak, "Hello")))

    assert all(same_audio(one, heard[0]) for one in heard)
    assert espeak.process_id == child
    asyncio.run(espeak.aclose())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what a process has loaded")
async def test_library_is_loaded_in_the_child_only(espeak: Espeak) -> None:
    await synthesize(espeak, "Hello")

    assert "espeak" not in libraries_of("self")
    assert "libespeak-ng" in libraries_of(espeak.process_id)


def libraries_of(process: int | str | None) -> str:
    return Path(f"/proc/{process}/maps").read_text()


def run_in_another_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


def test_missing_extra_is_named_in_the_error() -> None:
    program = """
import sys
sys.modules["espeakng_loader"] = None  # what Python does when it is not there
from steadyvoice.providers.espeak import Espeak, is_installed
print(is_installed())
Espeak()
"""
    answer = run_in_another_python(program)

    assert answer.stdout == "False\n"
    assert (
        'TTSConfigurationError: espeak: eSpeak NG is not installed: pip install "steadyvoice[local]"' in answer.stderr
    )


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux lets one wait for another's child")
def test_program_exits_without_closing_the_provider() -> None:
    program = """
import asyncio
from steadyvoice.providers.espeak import Espeak
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.request import SpeechRequest
async def main():
    request = SpeechRequest("Hello", AudioFormat.parse("pcm_24000"))
    print(len([piece async for piece in espeak.speak(request, espeak.offer(request), connection_timeout=1)]))
espeak = Espeak()
asyncio.run(main())
print(espeak.process_id)
"""
    answer = run_in_another_python(program)

    chunks, child = answer.stdout.split()
    assert int(chunks) > 1
    assert process_exits(int(child))


def process_exits(process: int) -> bool:
    """Wait for a process to exit, 30 s at most, and return whether it has."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 30)[0])
    finally:
        os.close(handle)


async def test_library_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    bundled = EspeakFiles.bundled()
    assert bundled is not None
    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"not a library")
    espeak = Espeak(files=EspeakFiles(broken, bundled.data))

    with pytest.raises(TTSLocalCrashError, match=r"espeak: child process died \(exit status 1: OSError: .*libespeak"):
        await synthesize(espeak, "Hello")
    await espeak.aclose()


async def test_data_may_have_a_path_longer_than_the_library_supports(tmp_path: Path) -> None:
    bundled = EspeakFiles.bundled()
    assert bundled is not None
    deep = tmp_path / ("d" * 100) / ("é" * 100)
    deep.mkdir(parents=True)
    (deep / "espeak-ng-data").symlink_to(bundled.data)
    espeak = Espeak(files=EspeakFiles(bundled.library, deep / "espeak-ng-data"))

    assert (await synthesize(espeak, "Hello")).seconds > 0.3
    await espeak.aclose()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"voices": {"narrator": "nobody"}}, "espeak.voices.narrator: espeak has no voice 'nobody'"),
        ({"voices": {"default": "en-us+nobody"}}, "espeak.voices.default: espeak has no voice"),
        ({"voices": {"default": 3}}, "espeak.voices.default: not a voice id: 3"),
        (
            {"words_per_minute": 20},
            "espeak.words_per_minute: must be a whole number of words a minute from 80",
        ),
        ({"pitch": 100}, "espeak.pitch: must be a whole number from 0 to 99"),
        ({"pitch": "high"}, "espeak.pitch: must be a whole number"),
        ({"files": EspeakFiles(Path("nowhere.so"), Path("nowhere"))}, "espeak.files: no eSpeak NG at nowhere.so"),
    ],
)
def test_impossible_setting_is_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(TTSConfigurationError) as refusal:
        Espeak(**settings)  # type: ignore[arg-type]
    assert str(refusal.value).startswith(complaint)
