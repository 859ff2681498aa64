"""Pseudo-terminal that runs the command: its screen, its input, and its state at the end."""

from __future__ import annotations

import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from typing import Any

OTHER_SCREEN, FIRST_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_HOME = "\x1b[H"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PATIENCE = 30.0

# The terminal becomes the one that Ctrl-C is typed at; then the command takes this program's place.
_AT_IT = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "steadyvoice", *sys.argv[1:]])
"""


class Terminal:
    """Terminal in which a process runs."""

    def __init__(self, arguments: tuple[str, ...], environ: dict[str, str], rows: int, columns: int) -> None:
        self._ours, self._theirs = os.openpty()
        self.resize(rows, columns)
        self.settings: list[Any] = termios.tcgetattr(self._theirs)
        self.all = ""  # that was ever written to it
        self._rest = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AT_IT, *arguments],
            # A session of its own has no terminal yet, and so can take this one.
            stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, start_new_session=True,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", **environ},
        )  # fmt: skip

    def resize(self, rows: int, columns: int) -> None:
        """Resize the terminal. The process gets SIGWINCH, as from any terminal."""
        self.rows = rows
        ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    @property
    def screen(self) -> list[str]:
        """Lines of the screen, as they were drawn last."""
        return _COLOURS.sub("", self.all.rpartition(_HOME)[2]).replace("\r", "").split("\n")

    def until(self, *words: str, without: str | None = None) -> list[str]:
        """Wait until the screen is drawn completely and has all of these words, and return it."""
        end = time.monotonic() + _PATIENCE
        while not self._shows(screen := self.screen, words, without):
            assert time.monotonic() < end, f"{words} never came; there was:\n" + "\n".join(screen)
            assert self._read(), f"it ended before {words} came:\n{self.all}"
        return screen

    def ended(self) -> int:
        """Wait for the end, and return the exit status."""
        while self._read():
            pass
        return self.process.wait(timeout=_PATIENCE)

    @property
    def settings_now(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def _shows(self, screen: list[str], words: tuple[str, ...], without: str | None) -> bool:
        text = "\n".join(screen)
        wrong = without is not None and without in text
        return len(screen) == self.rows and not wrong and all(word in text for word in words)

    def _read(self) -> bool:
        """Read the output; returns False at its end."""
        # With a limit: this side holds the other end open as well, so reading alone would not notice the end.
        ready, _, _ = select.select([self._ours], [], [], 0.1)
        if ready:
            # A character may be split between two reads; its first bytes wait for the rest.
            self._rest += os.read(self._ours, 65536)
            self.all += (whole := self._rest.decode("utf-8", "ignore"))
            self._rest = self._rest[len(whole.encode()) :]
        return bool(ready) or self.process.poll() is None


@contextmanager
def terminal(*arguments: str, rows: int = 40, columns: int = 120, **environ: str) -> Iterator[Terminal]:
    """Run `steadyvoice` in a terminal."""
    opened = Terminal(arguments, environ, rows, columns)
    try:
        yield opened
    finally:
        opened.close()
