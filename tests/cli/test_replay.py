"""`steadyvoice replay` in a terminal and in a pipe."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steadyvoice.cli.app import app
from steadyvoice.service.journal.records import (
    AttemptLine,
    HeaderLine,
    JournalLine,
    ProviderSettings,
    SettingsLine,
    UtteranceLine,
    encode_line,
)

run = CliRunner()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Folder of a journal: a provider that fails for a minute, and one that always speaks."""
    circuit = {"window_size": 4, "success_threshold": 1, "cooldown_period": 20.0}
    providers = [ProviderSettings(name=name, local=False, circuit=circuit, timeouts={}) for name in ("first", "second")]
    lines: list[JournalLine] = [
        HeaderLine(format=1, steadyvoice="0", run="run", part=0, wall_time=1.7e9, clock=0.0),
        SettingsLine(at=0.0, providers=providers, retry={"max_attempts": 1}),
    ]
    for number in range(1, 30):
        began, is_down = 3.0 * number, 20 <= 3 * number < 60
        outcome, end = ("server_error", began + 0.1) if is_down else ("ok", began + 0.5)
        lines.append(attempt(number, "first", outcome, began, end))
        if is_down:
            lines.append(attempt(number, "second", "ok", end, end + 0.5))
        speaker, ended = ("second", end + 0.5) if is_down else ("first", end)
        lines.append(
            UtteranceLine(
                number=number, wall_time=1.7e9 + began, began=began, ended=ended, characters=20, audio=1.0,
                outcome="substituted" if is_down else "spoken", provider=speaker, first_audio=ended - began - 0.2,
            )
        )  # fmt: skip
    (tmp_path / "run.0000.jsonl").write_bytes(b"".join(encode_line(line) + b"\n" for line in lines) + b'{"line":')
    return tmp_path


def attempt(number: int, provider: str, outcome: str, began: float, ended: float) -> AttemptLine:
    first = began + 0.3 if outcome == "ok" else None
    return AttemptLine(
        utterance=number, provider=provider, wall_time=1.7e9 + began, outcome=outcome, began=began, first=first,
        settled=ended, ended=ended, end=20, charge="billed" if outcome == "ok" else "refused",
        characters=20.0 if outcome == "ok" else 0.0,
    )  # fmt: skip


def test_table_shows_what_happened_and_each_alternative_beside_it(journal: Path) -> None:
    several = "first.circuit.consecutive_failures=1 retry.max_attempts=2"
    changes = ["--set", "circuit.cooldown_period=5", "--set", several]
    result = run.invoke(app, ["replay", str(journal), *changes])
    assert result.exit_code == 0, result.output
    rows = {line[:28].strip(): line[28:].split() for line in result.output.splitlines()}
    assert re.search("happened +recorded +A +B", result.output)
    assert rows["callers"] == ["29"] * 4
    assert rows["heard another voice"][0] == "13"
    remarks = " ".join(result.output.split())
    # The circuit of this journal never opened, as it would have under the settings that it states.
    assert re.search(r"meets [12]\d of 29 utterances call for call, and 0 of 0 transitions", remarks)
    assert "A, circuit.cooldown_period=5: " in remarks
    assert f"B, {several}: " in remarks
    assert "the provider nearest in time" in remarks
    assert "Left out: lines that cannot be read: 1. run.0000.jsonl:74: cut off" in remarks


def test_json_is_the_report(journal: Path) -> None:
    result = run.invoke(app, ["replay", str(journal), "--json", "--slow", "0.4", "--set", "circuit.preset=production"])
    report = json.loads(result.stdout)
    assert list(report) == ["journal", "happened", "fidelity", "replays"]
    assert list(report["replays"]) == ["recorded settings", "circuit.preset=production"]
    assert report["happened"]["slow"] == 0.4
    assert report["happened"]["waited"] == 13
    assert report["journal"]["damaged_lines"] == 1


def test_configuration_file_is_tried(journal: Path, tmp_path: Path) -> None:
    config = tmp_path / "new.toml"
    config.write_text(
        """
[retry]
max_attempts = 1

[circuit]
preset = "consecutive"
consecutive_failures = 1

[[providers]]
kind = "tone"
name = "second"

[[providers]]
kind = "tone"
name = "first"
"""
    )
    result = run.invoke(app, ["replay", str(journal / "run.0000.jsonl"), "--config", str(config), "--json"])
    tried = json.loads(result.stdout)["replays"]["new.toml"]
    # The order of the file: the provider that never fails comes first.
    assert (tried["failed"], tried["openings"], tried["outcomes"]) == (0, 0, {"spoken": 29})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere/journal"], "/nowhere/journal: cannot be read: No such file or directory"),
        (["."], "no utterances of a journal in 0 files"),
        (["JOURNAL", "--set", "circuit.colour=1"], "circuit.colour: unknown key"),
        (["JOURNAL", "--set", "third.circuit.window_size=1"], "the journal has no provider 'third'"),
        (["JOURNAL", "--circuit", "[]"], "--circuit: must be a JSON object with provider and circuits"),
        (["JOURNAL", "--seconds", "0"], "the replay takes longer than 0 s"),
    ],
)
def test_mistakes_are_usage_errors(
    journal: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    result = run.invoke(app, ["replay", *(str(journal) if each == "JOURNAL" else each for each in arguments)])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_page_shows_the_rows_of_the_table(journal: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "journal.md").read_text("utf-8")
    shown = page.partition("```console\n$ steadyvoice replay")[2].partition("```")[0]
    printed = run.invoke(app, ["replay", str(journal), "--set", "circuit.cooldown_period=5"]).stdout
    rows = re.compile(r"^ *(\S.*?)  +[\d.,]+ ", re.MULTILINE)
    assert rows.findall(shown) == rows.findall(printed)
