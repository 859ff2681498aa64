"""The command in a process of its own, in a directory of its own, without API keys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .command_server import CommandServer

COMMAND = (sys.executable, "-m", "steadyvoice")
TERMINAL = "terminal"


@dataclass(frozen=True)
class Ended:
    """Result of a process."""

    status: int
    out: bytes
    err: str


class Shell:
    """Runner of `steadyvoice` in one directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Nothing is inherited: an API key or a proxy of the developer would change the results.
        self.environ: dict[str, str] = {"PATH": str(folder / "bin"), "COLUMNS": "100", "HOME": str(folder)}

    def run(self, *arguments: str | bytes, stdin: bytes = b"") -> Ended:
        status, out, error = _command_server().run(arguments, self.folder, self.environ, stdin)
        return Ended(status, out, error.decode())

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environ,
        )

    def on_a_terminal(self, *arguments: str) -> Ended:
        """Run with a terminal as standard output and error; both are returned in `err`."""
        ours, theirs = os.openpty()
        with subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            cwd=self.folder,
            env={**self.environ, "TERM": "xterm"},
        ) as process:
            # Only the process holds it now, so reading ends when the process does.
            os.close(theirs)
            shown = _read_all(ours)
        os.close(ours)
        return Ended(process.returncode, b"", shown.decode())

    def write(self, name: str, content: str) -> str:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return name

    def install(self, program: str, script: str) -> None:
        """Put a program on the PATH."""
        self.write(f"bin/{program}", f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        (self.folder / "bin" / program).chmod(0o755)

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.is_file()}


@cache
def _command_server() -> CommandServer:
    return CommandServer.start({"PATH": "", "COLUMNS": "100", "HOME": os.devnull})


def stopped(process: subprocess.Popen[bytes], with_signal: signal.Signals) -> Ended:
    """Send a signal, and return the result of the process."""
    process.send_signal(with_signal)
    out, err = process.communicate(timeout=30)
    return Ended(process.returncode, out, err.decode())


def one_provider(*, base_url: str, extra: Mapping[str, str] | None = None) -> str:
    """Return a configuration with a single vendor."""
    lines = [*(f"[{table}]\n{line}\n" for table, line in (extra or {}).items())]
    vendor = '[[providers]]\nkind = "elevenlabs"\napi_key = "sk_a_secret"'
    return "\n".join([*lines, vendor, f'base_url = "{base_url}"'])


def _read_all(terminal: int) -> bytes:
    """Read to the end. Linux reports a terminal whose other side is closed as an error."""
    shown = b""
    try:
        while data := os.read(terminal, 65536):
            shown += data
    except OSError:
        pass
    return shown
