"""`steadyvoice demo` as a whole, over real sockets, which takes ten seconds."""

from __future__ import annotations

import signal
import wave
import xml.etree.ElementTree as ET
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steadyvoice.cli.app import app
from steadyvoice.cli.demo.command import AUDIO, CAPTIONS, TIMELINE, demo
from steadyvoice.cli.demo.scenario import Scenario
from steadyvoice.cli.errors import ExitStatus, MachineError

from .shell import Shell

SCALE = 0.5


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the demo once, and return its directory and its output."""
    out = tmp_path_factory.mktemp("demo") / "new" / "out"
    with pytest.MonkeyPatch.context() as patch:
        printed = StringIO()
        patch.setattr("sys.stdout", printed)
        assert demo(out, scenario=Scenario.usual(SCALE)) is ExitStatus.SPOKEN
    return out, printed.getvalue()


def test_demo_writes_audio_captions_and_timeline(output: tuple[Path, str]) -> None:
    out, _ = output
    assert sorted(path.name for path in out.iterdir()) == sorted([AUDIO, CAPTIONS, TIMELINE])


def test_audio_file_is_playable(output: tuple[Path, str]) -> None:
    out, _ = output
    with wave.open(str(out / AUDIO)) as audio:
        assert (audio.getnchannels(), audio.getsampwidth()) == (1, 2)
        seconds = audio.getnframes() / audio.getframerate()
        samples = audio.readframes(audio.getnframes())
    assert 20 < seconds < 120
    assert any(samples[:48000]), "the first second is speech"


def test_muted_sentence_is_silence(output: tuple[Path, str]) -> None:
    out, _ = output
    with wave.open(str(out / AUDIO)) as audio:
        samples = audio.readframes(audio.getnframes())
    assert bytes(2 * 24000 * 3) in samples


def test_captions_have_every_word(output: tuple[Path, str]) -> None:
    out, _ = output
    captions = (out / CAPTIONS).read_text()
    assert captions.startswith("WEBVTT")
    for word in {word for line in Scenario.usual().utterances for word in line.text.split()}:
        assert word in captions


def test_timeline_shows_the_outage(output: tuple[Path, str]) -> None:
    out, _ = output
    picture = ET.fromstring((out / TIMELINE).read_text())
    labels = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert labels.count("open") == 2
    assert labels.count("half-open") == 2


def test_events_are_printed_in_order(output: tuple[Path, str]) -> None:
    _, printed = output
    for line in Scenario.usual().utterances:
        assert line.text in printed
    beats = [
        "spoken by elevenlabs",
        "elevenlabs cuts answers short",
        "substituted by backup",
        "elevenlabs answers 503",
        "closed → open, because",
        "elevenlabs hangs",
        "open → half-open, because the cooldown is over",
        "half-open → open, because",
        "backup is unavailable",
        "muted with silence",
        "elevenlabs has recovered",
        "half-open → closed, because",
        "spoken by elevenlabs",
        "Results",
        "Each utterance was also requested",
    ]
    found = -1
    for beat in beats:
        found = printed.find(beat, found + 1)
        assert found >= 0, f"{beat!r} comes in its place"


def test_direct_client_has_all_three_failures(output: tuple[Path, str]) -> None:
    _, printed = output
    rows = {row.split("│")[0].strip(): [cell.strip() for cell in row.split("│")[1:]] for row in printed.splitlines()}
    assert rows["complete"] == ["14 of 15", "7 of 15"]
    assert rows["cut short, reported as success"] == ["0", "1"]
    assert rows["failed"] == ["0", "3"]
    assert rows["still waiting at the end"] == ["0", "4"]
    assert rows["muted, and reported"] == ["1", "0"]


def test_scenario_without_an_outage_fails(tmp_path: Path) -> None:
    usual = Scenario.usual(0.01)
    uneventful = replace(usual, utterances=usual.utterances[:1], incidents=(), timeouts=Scenario.usual().timeouts)
    with pytest.raises(MachineError, match="circuit opens"):
        demo(tmp_path / "out", scenario=uneventful)


def test_unwritable_directory_is_reported_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "file" / "out")])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "--out" in result.stderr


def test_closed_pipe_ends_the_demo(shell: Shell) -> None:
    process = shell.start("demo", "--out", "out")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=30) == 141
    assert not (shell.folder / "out").exists()


def test_interrupted_demo_leaves_no_directory(shell: Shell) -> None:
    process = shell.start("demo", "--out", "out")
    assert process.stdout is not None
    while b"Good morning" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")
    assert not (shell.folder / "out").exists()
