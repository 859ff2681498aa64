"""Standard streams: reopened when closed, bounded when read, and silent when they fail at the end.

`2>&-` starts a program without a standard error: Python has None in its place, `print(file=None)` writes to standard
output, and the next file or socket that is opened gets the number 2.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

MAX_STDIN_BYTES = 64 * 1024 * 1024  # bytes of standard input

_CLOSED_AT_START: set[int] = set()


def open_closed_streams() -> None:
    """Open the null device in place of each closed standard stream. Call it before anything else is opened."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            _CLOSED_AT_START.add(number)
            # `os.open` returns the lowest free descriptor, which is the closed stream's.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            _CLOSED_AT_START.add(number)
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115


def was_closed(number: int) -> bool:
    """Return whether the command was started without this stream: 0 is standard input, 1 output, 2 error."""
    return number in _CLOSED_AT_START


def read_stdin() -> bytes:
    """Read standard input to its end, or to one byte more than the limit."""
    return sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)


def print_error(text: str) -> None:
    """Write a line to standard error. A failure is ignored, because it cannot be reported anywhere."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def redirect_to_null(number: int) -> None:
    """Redirect a stream to the null device, so that the interpreter's last flush cannot fail.

    See https://docs.python.org/3/library/signal.html#note-on-sigpipe.
    """
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)


def flush_stderr() -> None:
    """Flush standard error, or drop its buffer: the interpreter would exit with 120 if its own flush failed."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        redirect_to_null(2)
