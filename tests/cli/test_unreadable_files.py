"""Files that are not text, too large, too deeply nested, or not regular files: one line names them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from steadyvoice.service.config_file import parse_file
from steadyvoice.simulator import ScriptError, load_script
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.wire.text_file import MAX_FILE_BYTES, UnreadableFileError, read_text_file

from .shell import Shell

TONE = '[[providers]]\nkind = "tone"\n'


def made(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


BAD: dict[str, Callable[[Path], object]] = {
    "nested lists": made(b"x = " + b"[" * 100_000 + b"]" * 100_000),
    "nested tables": made(b"x = " + b"{a=" * 50_000 + b"1" + b"}" * 50_000),
    "nested lists that end somewhere": made(b"providers = " + b"[" * 900 + b"]" * 900),
    "a long key": made(b"[" + b"a." * 30_000 + b"a]\nb = 1\n"),
    "a long dotted key": made(b"a." * 30_000 + b"a = 1\n"),
    "a huge number": made(b"x = " + b"9" * 10_000),
    "NUL": made(TONE.encode() + b"\0"),
    "NULs": made(bytes(5000)),
    "Latin-1": made(TONE.encode() + b"# \xe9\n"),
    "UTF-16": made(TONE.encode("utf-16")),
    "half a surrogate pair": made(TONE.encode() + b"# \xed\xa0\x80\n"),
    "binary": made(bytes(range(256)) * 100),
    "too large": made(b"#" * (MAX_FILE_BYTES + 1)),
    "no TOML": made(b'{"json": true}'),
    "half a string": made(b'x = "'),
    "a directory": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path),
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "missing": lambda path: None,
    "empty": made(b""),
}


@pytest.mark.parametrize("kind", BAD)
def test_unreadable_configuration_is_a_usage_error_that_names_the_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "voice.toml"
    BAD[kind](path)
    if kind == "empty":  # for which defaults hold, but of providers
        return
    with pytest.raises(TTSConfigurationError, match=r"voice\.toml|providers") as refused:
        parse_file(path, {})
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("kind", BAD)
def test_unreadable_script_is_reported(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    BAD[kind](path)
    if kind == "empty":  # fair weather
        assert load_script(path).faults == ()
        return
    with pytest.raises((ScriptError, OSError)) as refused:
        load_script(path)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("kind", ["nested lists", "a long key", "NUL", "UTF-16", "too large", "a directory"])
def test_every_command_reports_it_in_one_line(kind: str, shell: Shell) -> None:
    BAD[kind](shell.folder / "bad.toml")
    for command in (["say", "Hi", "-o", "a.wav", "--config"], ["serve", "--config"], ["sim", "--script"]):
        ended = shell.run(*command, "bad.toml")
        assert (ended.status, "bad.toml" in ended.err) == (2, True), ended
        assert ended.err.startswith("usage error: ")
        assert "Traceback" not in ended.err


def test_pipe_is_read_and_a_silent_one_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, TONE.encode())
    os.close(writing)
    try:
        assert read_text_file(Path(f"/dev/fd/{reading}")) == TONE, "as `--config <(...)` of a shell has it"
    finally:
        os.close(reading)
    os.mkfifo(fifo := tmp_path / "fifo")
    monkeypatch.setattr("steadyvoice.wire.text_file._PIPE_TIMEOUT", 0.05)
    with pytest.raises(UnreadableFileError, match="no regular file"):
        read_text_file(fifo)
    with pytest.raises(TTSConfigurationError, match="fifo"):
        parse_file(fifo, {})


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf" + TONE.encode())
    assert len(parse_file(tmp_path / "a.toml", {}).providers) == 1
