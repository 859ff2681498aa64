"""Neural voice: what it speaks, when its words are heard, and what happens to its child process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import (
    AsyncTTSService,
    CircuitBreakerConfig,
    Espeak,
    Neural,
    TimeoutConfig,
    Tone,
    TTSError,
    TTSTimeoutError,
)
from steadyvoice.providers import espeak
from steadyvoice.providers.neural import is_installed
from steadyvoice.providers.neural_worker import word_places
from steadyvoice.speech.alignment import Alignment, Word
from tests.required_tools import require_tool
from tests.simulator.client import until

require_tool(is_installed(), "hibari-tts")

NEVER_OPENS = CircuitBreakerConfig(window_size=100, minimum_calls=100)
RATE = 24_000
HOUR_TEXTS = (
    "Good morning. Your appointment with the doctor is on Monday at ten o'clock, and you have asked for it",
    "The train to the airport leaves from platform four in twenty minutes, as it did before",
    "Thank you for your patience! Your order of $12.50 will arrive on 3 May, said the clerk",
)
PATIENT = TimeoutConfig(first_audio_timeout=30.0, total_timeout=50.0)  # a child loads for seconds on a busy machine


@pytest.fixture(scope="module")
def neural() -> Iterator[Neural]:
    """One child for all tests: it takes a second or two to load."""
    provider = Neural()
    yield provider
    asyncio.run(provider.aclose())


async def speak(provider: Neural, text: str, *, speed: float = 1.0) -> tuple[bytes, list[Word]]:
    """Return samples and words, as a service delivers them."""
    service = AsyncTTSService(providers=[provider], timeouts=PATIENT, muted=False)
    speech = await service.synthesize(text, format="pcm_24000", speed=speed)
    (_, alignment), *_ = speech.report.times
    assert isinstance(alignment, Alignment)
    return speech.audio, alignment.words()


def loudness(samples: bytes, begin: float, end: float) -> int:
    """Return the highest sample between two seconds."""
    values = array("h", samples)[round(begin * RATE) : round(end * RATE)]
    return max(map(abs, values), default=0)


@pytest.mark.slow
async def test_sentences_begin_and_end_where_their_times_say(neural: Neural) -> None:
    samples, words = await speak(neural, "Please hold the line. Somebody will be with you.")

    assert [word.text for word in words] == ["Please", "hold", "the", "line.", "Somebody", "will", "be", "with", "you."]
    assert all(word.exact for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)
    second = words[4].start
    assert loudness(samples, second - 0.15, second - 0.01) < 500 < 2_000 < loudness(samples, second, second + 0.4)
    assert loudness(samples, words[1].start, words[1].stop) > 2_000
    assert words[-1].stop == pytest.approx(len(samples) / 2 / RATE)


@pytest.mark.slow
async def test_words_behind_a_group_that_is_spoken_otherwise_have_their_own_times(neural: Neural) -> None:
    samples, words = await speak(neural, "It leaves at 7:30 pm, from here.")

    assert [word.text for word in words] == ["It", "leaves", "at", "7:30", "pm,", "from", "here."]
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert words[5].start > words[3].start + 0.7, "seven thirty P.M."
    assert words[-1].stop == pytest.approx(len(samples) / 2 / RATE)


@pytest.mark.slow
async def test_same_text_is_the_same_audio_and_speed_changes_its_length(neural: Neural) -> None:
    text = "How are you today, and where have you been?"
    usual, _ = await speak(neural, text)
    assert (await speak(neural, text))[0] == usual
    faster, _ = await speak(neural, text, speed=1.2)
    assert 0.7 < len(faster) / len(usual) < 0.95


@pytest.mark.slow
@pytest.mark.skipif(not espeak.is_installed(), reason="espeakng-loader is not installed")
async def test_other_languages_and_scripts_go_to_the_next_voice(neural: Neural) -> None:
    service = AsyncTTSService(providers=[neural, Espeak()], timeouts=PATIENT)
    try:
        for text, language, expected in (
            ("Good morning.", None, "neural"),
            ("Good morning.", "en-GB", "neural"),
            ("Guten Morgen.", "de", "espeak"),
            ("Привет, мир.", None, "espeak"),
        ):
            speech = await service.synthesize(text, format="pcm_24000", language=language)
            assert speech.report.spans[0].provider == expected, text
    finally:
        await service.aclose()


@pytest.mark.slow
async def test_child_is_started_on_demand_and_replaced_once_it_has_died() -> None:
    provider = Neural(prewarm=False)
    service = AsyncTTSService(providers=[provider], timeouts=PATIENT, muted=False)
    try:
        assert provider.process_id is None
        await service.synthesize("Good morning.")
        killed = provider.process_id
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await asyncio.to_thread(os.waitid, os.P_PID, killed, os.WEXITED | os.WNOWAIT)
        await service.synthesize("Good evening.")
        assert provider.process_id not in {killed, None}
    finally:
        await service.aclose()


@pytest.mark.slow
async def test_child_is_started_by_the_first_request_of_another_provider() -> None:
    provider = Neural()
    service = AsyncTTSService(providers=[Tone(), provider])
    try:
        assert provider.process_id is None
        assert (await service.synthesize("Good morning.")).report.spans[0].provider == "tone"
        await until(lambda: provider.process_id is not None)
    finally:
        await service.aclose()


async def test_settings_that_are_not_english_are_refused_before_anything_is_sent(neural: Neural) -> None:
    service = AsyncTTSService(providers=[neural], muted=False)
    with pytest.raises(TTSError, match="speaks English only, not 'fr'"):
        await service.synthesize("Bonjour.", language="fr")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({"hibari/__init__.py": b""}, "hibari-tts has no model", id="no model"),
        pytest.param(
            {"hibari/__init__.py": b"", "hibari/assets/hibari.onnx": b"other"},
            "the model of hibari-tts is not that of version 0.2.1",
            id="other model",
        ),
    ],
)
def test_other_installation_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert message in failed_start(f"sys.path.insert(0, {str(tmp_path)!r})")


def test_missing_installation_is_refused_with_the_command_that_mends_it() -> None:
    error = failed_start("sys.modules['hibari'] = None")
    assert 'hibari-tts is not installed: pip install "steadyvoice[neural]"' in error


def failed_start(preparation: str) -> str:
    script = f"import sys; {preparation}; from steadyvoice import Neural; Neural()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


WORDS = st.lists(st.sampled_from(["at", "7:30", "pm", "in", "May", "5"]), min_size=1, max_size=12)


@given(WORDS, WORDS)
def test_places_of_words_rise_and_begin_written_words(written: list[str], spoken: list[str]) -> None:
    placed = [(10 * index, word) for index, word in enumerate(written)]
    places = word_places(placed, spoken)

    found = [place for place in places if place is not None]
    assert len(places) == len(spoken)
    assert found == sorted(set(found))
    assert set(found) <= {place for place, _ in placed}
    if written == spoken:
        assert found == [place for place, _ in placed]


def test_group_of_words_that_is_spoken_otherwise_is_placed_by_its_beginning() -> None:
    written = [(0, "at"), (3, "7:30"), (8, "pm"), (11, "now")]
    assert word_places(written, ["at", "seven", "thirty", "P.M.", "now"]) == [0, 3, None, None, 11]
    assert word_places([(0, "Dr."), (4, "Who")], ["Doctor", "Who"]) == [0, 4]
    assert word_places([(0, "in"), (3, "5km")], ["in", "five", "kilometers"]) == [0, 3, None]


@pytest.mark.slow
async def test_child_that_is_stopped_costs_a_timeout_and_is_replaced() -> None:
    provider = Neural()
    impatient = TimeoutConfig(first_audio_timeout=4.0, total_timeout=50.0)
    service = AsyncTTSService([provider, Tone()], timeouts=impatient, circuit=NEVER_OPENS, muted=False)
    try:
        while (await service.synthesize("Good morning.")).provider != "neural":
            pass  # a busy machine may take longer than that to load it
        stopped = provider.process_id
        assert stopped is not None
        os.kill(stopped, signal.SIGSTOP)
        speech = await service.synthesize("Good evening.")
        assert isinstance(speech.attempts[0].error, TTSTimeoutError)
        assert speech.outcome in {"spoken", "substituted"}, "the new child, or the next voice"
        while (speech := await service.synthesize("Good night.")).provider != "neural":
            pass
        assert provider.process_id not in {stopped, None}
    finally:
        await service.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)


@pytest.mark.slow
async def test_forked_process_starts_a_child_of_its_own() -> None:
    script = """
import os
from steadyvoice import Neural, TimeoutConfig, TTSService

neural = Neural()
tts = TTSService([neural], timeouts=TimeoutConfig(first_audio_timeout=30.0, total_timeout=50.0), muted=False)
before, engine = tts.synthesize("Good morning.").audio, neural.process_id
reader, writer = os.pipe()
if (pid := os.fork()) == 0:
    own = tts.synthesize("Good morning.").audio
    tts.close()
    os.write(writer, b"same" if own == before and neural.process_id != engine else b"differs")
    os._exit(0)
os.waitpid(pid, 0)
assert os.read(reader, 10) == b"same"
assert tts.synthesize("Good morning.").audio == before
assert neural.process_id == engine
assert "onnxruntime" not in __import__("sys").modules, "it never loads in the caller's process"
tts.close()
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=55
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
async def test_sixteen_streams_at_once_are_all_whole(neural: Neural) -> None:
    text = "Please hold the line. Somebody will be with you in a moment."
    alone, _ = await speak(neural, text)
    service = AsyncTTSService([neural], timeouts=PATIENT, muted=False)
    together = await asyncio.gather(*(service.synthesize(text, format="pcm_24000") for _ in range(16)))
    assert {speech.outcome for speech in together} == {"spoken"}
    assert all(speech.audio == alone for speech in together)


@pytest.mark.long
@pytest.mark.timeout(1_800)
async def test_memory_stays_flat_over_an_hour_of_speech(neural: Neural) -> None:
    service = AsyncTTSService([neural], timeouts=PATIENT, muted=False)
    seconds, memory = 0.0, list[tuple[float, int, int]]()
    while seconds < 3_600.0:
        for text in HOUR_TEXTS:
            seconds += (await service.synthesize(f"{text} {len(memory)} times.", format="pcm_24000")).duration
        assert neural.process_id is not None
        memory.append((seconds, resident(neural.process_id), resident(os.getpid())))
    print("; ".join(f"{each[0]:.0f} s: {each[1]} MB, {each[2]} MB" for each in memory[:: len(memory) // 6]))
    warm = next(index for index, each in enumerate(memory) if each[0] > 300.0)
    for which in (1, 2):
        assert max(each[which] for each in memory[warm:]) <= memory[warm][which] + 24


def resident(process: int) -> int:
    """Return the resident memory of a process in MB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096 >> 20
