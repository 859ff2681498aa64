"""Reading of text files (configurations, scripts, saved state) with bounds of size and time.

A path may name anything: a directory, a pipe without a writer, /dev/zero, a file of gigabytes.
"""

from __future__ import annotations

import os
import re
import stat
import time
import tomllib
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 4 * 1024 * 1024
_PIPE_TIMEOUT = 5.0  # seconds for the data of a pipe, such as `<(...)` of a shell


class UnreadableFileError(ValueError):
    """File that is no text of a reasonable size. The message says why, without the path."""


def read_text_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> str:
    """Read a file of at most `max_bytes` bytes of UTF-8, with a byte-order mark or without.

    Raises OSError when it cannot be opened or read, UnreadableFileError when it is no such text.
    """
    # Without O_NONBLOCK, opening a pipe that has no writer would block forever.
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except ValueError as error:  # a path with a NUL in it
        raise UnreadableFileError(str(error)) from None
    try:
        data = _read(file, max_bytes)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(file)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise UnreadableFileError(f"not valid, for it is not UTF-8 text: {byte}") from None


MAX_TOML_DEPTH = 32
"""Largest depth of nested tables and lists in a TOML file. No setting needs more than a handful of levels."""

# Python's parser takes quadratic time for a dotted key of many parts: ten seconds for 60 KB of them.
_LONG_KEY = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]+\s*\.\s*){{{MAX_TOML_DEPTH}}}""")


def parse_toml(source: str) -> dict[str, Any]:
    """Parse TOML of a bounded depth. Raises UnreadableFileError, with the line if it is known."""
    too_deep = f"nested too deeply: there may be at most {MAX_TOML_DEPTH} levels of tables and lists"
    if _LONG_KEY.search(source):
        raise UnreadableFileError(too_deep)
    try:
        document = tomllib.loads(source)
    except RecursionError:
        raise UnreadableFileError(too_deep) from None
    except ValueError as error:  # TOMLDecodeError; for a number of more digits than Python converts, a plain one
        raise UnreadableFileError(f"not valid TOML: {error}") from None
    level: list[Any] = [document]
    for _ in range(MAX_TOML_DEPTH):
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        level = [each for values in inner for each in values if isinstance(each, dict | list)]
        if not level:
            return document
    raise UnreadableFileError(too_deep)


def _read(file: int, max_bytes: int) -> bytes:
    data, end = bytearray(), time.monotonic() + _PIPE_TIMEOUT
    is_pipe = stat.S_ISFIFO(os.fstat(file).st_mode)
    while len(data) <= max_bytes:
        try:
            part = os.read(file, 64 * 1024)
        except BlockingIOError:  # a pipe or a terminal without data so far
            part = None
        if part:
            data += part
        elif part is not None and (data or not is_pipe):
            return bytes(data)
        elif time.monotonic() > end:
            raise UnreadableFileError(
                f"nothing more came from it within {_PIPE_TIMEOUT:g} s, and it is no regular file"
            )
        else:
            time.sleep(0.01)
    raise UnreadableFileError(f"larger than {max_bytes} bytes")
