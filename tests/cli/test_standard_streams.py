"""Standard streams that are closed, full or not read: audio stays intact, and failures are reported."""

from __future__ import annotations

import shlex
import subprocess
import sys
import wave
from io import BytesIO
from pathlib import Path

import pytest

from .shell import COMMAND, Ended, Shell

RUN = shlex.join(COMMAND)


def run(shell: Shell, script: str, stdin: bytes = b"") -> Ended:
    """Run a shell script in which `$RUN` is the command."""
    ended = subprocess.run(
        ["/bin/sh", "-c", script.replace("$RUN", RUN)],
        input=stdin,
        capture_output=True,
        cwd=shell.folder,
        env=shell.environ,
        timeout=60,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr.decode())


def is_wav(data: bytes) -> bool:
    """Return whether data is exactly one WAV file of 16-bit samples in whole frames."""
    with wave.open(BytesIO(data)) as file:
        return file.getnframes() > 0 and data[:4] == b"RIFF" and b"spoken" not in data


def test_audio_is_intact_without_standard_error(shell: Shell) -> None:
    plain = run(shell, "$RUN say Hi --provider tone --format wav")
    for closed in ("2>&-", "<&- 2>&-", "<&-", "2>/dev/full"):
        ended = run(shell, f"$RUN say Hi --provider tone --format wav {closed}")
        assert (ended.status, is_wav(ended.out)) == (0, True), closed
        assert ended.out == plain.out, closed


def test_file_is_written_without_standard_streams(shell: Shell) -> None:
    for number, closed in enumerate((">&-", "2>&-", "<&- >&- 2>&-")):
        ended = run(shell, f"$RUN say Hi --provider tone -o {number}.wav {closed}")
        assert ended.status == 0
        assert is_wav((shell.folder / f"{number}.wav").read_bytes())


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        ("$RUN say - <&-", 2, "standard input is closed"),
        ("$RUN say - -o a.wav <&-", 2, "standard input is closed"),
        ("$RUN say Hi --provider tone >&-", 2, "standard output is closed"),
        ("$RUN say Hi --provider tone -o - >&-", 2, "standard output is closed"),
        ("$RUN say Hi --provider tone >/dev/full", 4, "No space left on device"),
        ("$RUN say Hi --provider tone -o /dev/full --format wav", 4, "No space left on device"),
        ("$RUN --version >/dev/full", 4, "No space left on device"),
        ("$RUN say --help >/dev/full", 4, "No space left on device"),
        ("$RUN say - </dev/zero", 2, "bytes of text"),
        ("$RUN say - 0>written", 4, "error"),
        ("$RUN nonsense 2>&-", 2, ""),
        ("$RUN say - <&- 2>&-", 2, ""),
        ("$RUN --version >&-", 0, ""),
        ("$RUN status --url http://127.0.0.1:9 >&-", 4, "cannot reach a gateway"),
        ("$RUN status --url http://127.0.0.1:9 2>&-", 4, ""),
        ("$RUN serve --port 1 --host 192.0.2.1 >&- 2>&-", 2, ""),
        ("$RUN sim --script nowhere.toml >&- <&-", 2, "nowhere.toml"),
    ],
)
def test_unreadable_and_unwritable_streams_are_reported_in_one_line(
    shell: Shell, script: str, status: int, message: str
) -> None:
    ended = run(shell, script)
    assert ended.status == status, ended
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert "AttributeError" not in ended.err
    assert ended.out == b""


def test_closed_output_pipe_ends_quietly(shell: Shell) -> None:
    ended = run(shell, "{ $RUN say Hi --provider tone --format wav; echo $? >status; } | head -c 1 >/dev/null")
    assert ended.err.count("error") == 0
    assert "Traceback" not in ended.err
    for arguments in ("--version", "say --help"):
        assert "Traceback" not in run(shell, f"$RUN {arguments} | true").err


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", ">/dev/full 2>/dev/full"])
def test_gateway_serves_with_any_standard_streams(shell: Shell, streams: str) -> None:
    port = free_port()
    script = f"""
        $RUN serve --port {port} {streams} & server=$!
        {sys.executable} {Path(__file__).parent / "healthcheck.py"} {port}; healthy=$?
        kill $server; wait $server; echo $? $healthy
    """
    assert run(shell, script).out.split()[-2:] == [b"0", b"0"]


def free_port() -> int:
    """Return a port without a listener."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        number: int = taken.getsockname()[1]
        return number
