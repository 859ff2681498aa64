"""Standard streams: open whatever the shell closed, bounded where they are read, and quiet when they fail at the end.

`2>&-` starts a program without a standard error: Python has None in its place, `print(file=None)` writes to standard
output, and the next file or socket that is opened gets the number 2.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

MOST_TEXT = 64 * 1024 * 1024  # bytes of standard input

_CLOSED: set[int] = set()


def open_closed_streams() -> None:
    """Put the null device in the place of each closed standard stream. To be called before anything is opened."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            _CLOSED.add(number)
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            _CLOSED.add(number)
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115


def is_closed(number: int) -> bool:
    """Whether the command was started without this stream: 0 is standard input, 1 output, 2 error."""
    return number in _CLOSED


def read_text() -> bytes:
    """Read standard input to its end, or one byte more than is taken."""
    return sys.stdin.buffer.read(MOST_TEXT + 1)


def tell(text: str) -> None:
    """Write to standard error; that it cannot be written to is nothing that could be told."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def silence(number: int) -> None:
    """Let what the interpreter flushes last go nowhere: https://docs.python.org/3/library/signal.html#note-on-sigpipe."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def flush_errors() -> None:
    """Write what is left for standard error, or drop it: the interpreter would fail over it and exit with 120."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        silence(2)
