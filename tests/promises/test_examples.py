"""The scripts in examples/ run alone, without an API key, and print and write what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

EXPECTED = {
    "fall_back.py": ["1: substituted by tone", "4: substituted by tone", "elevenlabs (refused)", "circuit open"],
    "circuit_breaker.py": ["failed: no route", "refused: "],
    "stream_captions.py": ["spoken: ", "12 words"],
    "trace_outage.py": ["utterance: resumed", "-> refused by: circuit open [5]", "circuit closed: 1 probe"],
}
# They need frameworks: tests/plugins/test_frameworks.py runs them where those are.
IN_FRAMEWORKS = {"livekit_agent.py", "pipecat_agent.py"}
WRITTEN_FILES = {
    "fall_back.py": [f"sentence-{number}.wav" for number in range(1, 5)],
    "circuit_breaker.py": [],
    "stream_captions.py": ["weather.mp3", "weather.vtt"],
    "trace_outage.py": [],
}


def test_every_example_has_an_expectation() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted({*EXPECTED, *IN_FRAMEWORKS})


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_example_prints_and_writes_what_is_expected(name: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr
    for words in EXPECTED[name]:
        assert words in ran.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(WRITTEN_FILES[name])
    assert all(path.stat().st_size for path in tmp_path.iterdir())
