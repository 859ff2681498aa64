"""Writes one file, whole or not at all, and the latest content last; in a thread, where a loop must not wait for it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

log = logging.getLogger("steadyvoice.gateway")

Content = Callable[[], Any]
"""Makes what is to be written: JSON-ready values, which no event loop changes any more."""


class Scribe:
    """One file's. Trouble with it is logged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers, self._written = count(1), 0
        self._lock = Lock()

    def write_soon(self, content: Content) -> None:
        """Write it without keeping an event loop; at once, where there is none."""
        number = next(self._numbers)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write(number, content)
        else:
            loop.run_in_executor(None, self._write, number, content)

    def write(self, content: Content) -> None:
        """Write it now: nothing that was to be written before comes after it."""
        self._write(next(self._numbers), content)

    def _write(self, number: int, content: Content) -> None:
        with self._lock:
            if number < self._written:
                return  # something newer is there already
            self._written = number
            part = self._path.with_name(f"{self._path.name}.part")
            try:
                part.write_text(json.dumps(content(), indent=1), encoding="utf-8")
                os.replace(part, self._path)
            except OSError as error:
                log.warning("state file %s: not written: %s", self._path, error.strerror)
                with suppress(OSError):
                    part.unlink()
