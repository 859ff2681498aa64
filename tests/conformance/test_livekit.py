"""LiveKit's ElevenLabs plugin at the multi-context websocket, as voice agents use it.

Run by `make long` only, because it brings 400 MB of packages along: the first run creates a virtual environment for it
in pytest's cache folder, which takes a minute or two.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steadyvoice.simulator import words_in
from steadyvoice.wire.elevenlabs.catalog import VOICES

from .background_simulator import background_simulator

pytestmark = [pytest.mark.timeout(600), pytest.mark.long]

HERE = Path(__file__).parent / "livekit"
TEXT = "Good evening, this is the news. It is read to you by somebody."
WORDS = TEXT.split()
HARMLESS = ("absolute-times", "big-frame", "other-spelling;style=mixed")
FATAL = ("refuse;code=invalid_api_key", "restart", "final-without-audio")

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results(pytestconfig: pytest.Config) -> Results:
    python = installed(pytestconfig.cache.mkdir("livekit"))
    with background_simulator() as sim:
        command = [str(python), str(HERE / "plugin.py"), sim.url, VOICES["George"], TEXT, *HARMLESS, *FATAL]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    seen: Results = json.loads(done.stdout)
    return seen


def installed(folder: Path) -> Path:
    """Create the virtual environment of `livekit/requirements.txt`, unless it exists."""
    requirements, stamp, python = (
        (HERE / "requirements.txt").read_text("utf-8"),
        folder / "installed.txt",
        folder / "bin/python",
    )
    if not stamp.exists() or stamp.read_text("utf-8") != requirements:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / "requirements.txt")]
        subprocess.run(pip, check=True)
        stamp.write_text(requirements, "utf-8")
    return python


def words(audio: str) -> list[str]:
    return words_in(base64.b64decode(audio), "pcm_16000")


def test_two_utterances_on_one_connection_keep_their_words_and_times(results: Results) -> None:
    first, second = results["two on one connection"]["value"]
    assert (words(first["audio"]), first["timed"]) == (WORDS, WORDS)
    assert words(second["audio"]) == second["timed"] == [word.upper() for word in WORDS]


def test_text_in_small_pieces_is_complete(results: Results) -> None:
    (speech,) = results["in small pieces"]["value"]
    assert words(speech["audio"]) == speech["timed"] == WORDS


def test_other_modes_of_the_plugin_work(results: Results) -> None:
    assert words(results["whole"]["value"]) == WORDS
    assert results["voices"]["value"] == list(VOICES.values())


@pytest.mark.parametrize("fault", HARMLESS)
def test_harmless_faults_are_tolerated(results: Results, fault: str) -> None:
    (speech,) = results[fault]["value"]
    assert words(speech["audio"]) == WORDS


def test_restart_is_an_error_with_its_code(results: Results) -> None:
    assert results["restart"]["error"] == {"class": "APIStatusError", "status": 1012}


def test_refusal_is_an_error_or_times_out_if_sent_before_the_plugin_listens(results: Results) -> None:
    """Check a refusal. The plugin registers an utterance after connecting, and misses a close that comes before."""
    refused = results["refuse;code=invalid_api_key"]["error"]
    assert (refused["class"], refused["status"]) in (("APIStatusError", 1008), ("TimeoutError", None))


def test_end_without_audio_is_an_error(results: Results) -> None:
    assert results["final-without-audio"]["error"]["class"] == "APIError"
