"""Files of a journal: settings, rotation within a bound, and the thread that writes them.

Nothing here can delay or fail speech: lines are left in a bounded queue, and what cannot be written is counted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steadyvoice._option_rules import Number
from steadyvoice.service.journal.records import SUFFIX, JournalLine, encode_line
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.option_validation import validate_option

_log = logging.getLogger("steadyvoice.journal")

BATCH_SECONDS = 0.25
"""Seconds in which lines are collected before they are written together."""

MAX_WAITING = 20_000
"""Lines that wait to be written, some ten megabytes; more are lost, and counted."""

MIN_FILE_BYTES = 50_000
"""Bytes of a file at least, so that there is room behind the settings that each begins with."""

_SETTINGS = b'{"line":"settings"'

_RETRY_SECONDS = 10.0  # between two attempts at a folder that cannot be written
_CLOSE_SECONDS = 5.0  # for the last lines at the end


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """Journal settings: folder, its size in megabytes, and the number of files that each process divides that into.

    Raises TTSConfigurationError.
    """

    path: str | os.PathLike[str] = "~/.local/state/steadyvoice/journal"  # folder, which is made if it is missing
    max_megabytes: float = 64.0  # size limit of the folder, in megabytes
    files: int = 8  # number of files of each process; the oldest is deleted first

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not os.fspath(self.path):
            raise TTSConfigurationError(f"path: must name a folder, got {self.path!r}")
        validate_option("max_megabytes", self.max_megabytes, Number("megabytes", minimum=0.1))
        validate_option("files", self.files, Number(integer=True, minimum=2))
        if self.file_bytes < MIN_FILE_BYTES:
            raise TTSConfigurationError(
                f"files: {self.files} in {self.max_megabytes:g} MB are too small; each needs {MIN_FILE_BYTES} bytes"
            )

    @property
    def folder(self) -> Path:
        """Folder of the journal, with `~` expanded."""
        return Path(self.path).expanduser()

    @property
    def max_bytes(self) -> int:
        """Bytes of all files in the folder."""
        return int(self.max_megabytes * 1_000_000)

    @property
    def file_bytes(self) -> int:
        """Bytes of one file."""
        return self.max_bytes // self.files


def parse_journal_config(journal: Any) -> JournalConfig | None:
    """Return the configuration for a folder or a configuration; None for no journal. Raises TTSConfigurationError."""
    if journal is None or isinstance(journal, JournalConfig):
        return journal
    if isinstance(journal, str | os.PathLike):
        return JournalConfig(journal)
    raise TTSConfigurationError(f"journal: must be a JournalConfig or the path of a folder, got {journal!r}")


class JournalFiles:
    """Files of one run in the journal's folder: `<run>.<part>.jsonl`, with mode 0600.

    `header` returns the first line of a part; the last settings that were written follow it. Before a file is begun,
    the oldest ones in the folder are deleted until it fits, whichever process wrote them.
    """

    def __init__(self, config: JournalConfig, run: str, header: Callable[[int], bytes]) -> None:
        self._config, self._run, self._header = config, run, header
        self._settings = b""
        self._file: int | None = None  # descriptor
        self._size = self._part = 0

    def write(self, lines: Sequence[bytes]) -> int:
        """Append lines; return the number of those that no file has room for. Raises OSError."""
        if self._file is not None and not os.fstat(self._file).st_nlink:  # the file or its folder was removed
            self.close()
        room = self._config.file_bytes - self._size if self._file is not None else 0
        too_long, pending = 0, bytearray()
        for line in lines:
            if len(line) > room - len(pending):
                self._append(pending)
                pending = bytearray()
                self._begin()
                room = self._config.file_bytes - self._size
                if len(line) > room:
                    too_long += 1
                    continue
            pending += line
            if line.startswith(_SETTINGS):
                self._settings = line
        self._append(pending)
        return too_long

    def close(self) -> None:
        """Close the file."""
        file, self._file, self._size = self._file, None, 0
        if file is not None:
            os.close(file)

    def _append(self, data: bytearray) -> None:
        if not data:
            return
        assert self._file is not None  # noqa: S101 - there was room in it
        written = os.write(self._file, data)
        self._size += written
        if written < len(data):  # the disk is full: the last line is cut, and a reader says so
            raise OSError(28, "no space left on device")

    def _begin(self) -> None:
        """Begin the next file, in a folder with room for it."""
        self.close()
        folder = self._config.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(folder)
        path = folder / f"{self._run}.{self._part:04d}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)
        self._part += 1
        head = bytearray(self._header(self._part - 1))
        if len(head) + len(self._settings) <= self._config.file_bytes:
            head += self._settings
        self._append(head)

    def _make_room(self, folder: Path) -> None:
        files = []
        for path in folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another process deletes as well
                status = path.stat()
                files.append((status.st_mtime_ns, path.name, status.st_size, path))
        total = sum(size for _, _, size, _ in files)
        for _, _, size, path in sorted(files):
            if total + self._config.file_bytes <= self._config.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


class JournalWriter:
    """Writer of one process's journal: takes lines without waiting, and writes them in a thread of its own.

    The thread begins with the first line. `wall_clock` is only asked when writing has failed, to try again later.
    """

    def __init__(self, files: JournalFiles, folder: Path) -> None:
        self._files, self.folder = files, folder
        self._waiting: deque[JournalLine] = deque()
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed_at: float | None = None
        self.written = self.lost = 0
        self.error: str | None = None

    def put(self, lines: Sequence[JournalLine]) -> None:
        """Have lines written soon. Never blocks; may be called by any thread."""
        if len(self._waiting) + len(lines) > MAX_WAITING or self._closing.is_set():
            self.lost += len(lines)
            return
        self._waiting.extend(lines)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="steadyvoice-journal", daemon=True)
            self._thread.start()
        self._wanted.set()

    def state(self) -> dict[str, Any]:
        """Return the state as a JSON-ready value: folder, lines written and lost, and what is wrong, if anything."""
        return {"path": str(self.folder), "written": self.written, "lost": self.lost, "error": self.error}

    def close(self) -> None:
        """Write what is left, and close the file. Waits for some seconds at most."""
        self._closing.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
            self._thread = None

    def leave_behind(self) -> None:
        """Forget what a forked child has of its parent: the thread does not exist there, and the lines are not its own.

        The parent's file is closed in the child only.
        """
        with suppress(OSError):
            self._files.close()
        self._waiting.clear()
        self._thread, self._failed_at, self.error = None, None, None
        self.written = self.lost = 0

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._closing.wait(BATCH_SECONDS)  # so that lines are written together
            self._wanted.clear()
            self.flush()
            if self._closing.is_set() and not self._waiting:
                break
        with suppress(OSError):
            self._files.close()

    def flush(self) -> None:
        """Write all lines that wait. Called by the thread."""
        lines = []
        while self._waiting:
            lines.append(self._waiting.popleft())
        if not lines:
            return
        if self._failed_at is not None and time.monotonic() - self._failed_at < _RETRY_SECONDS:
            self.lost += len(lines)
            return
        try:
            lost = self._files.write([encode_line(line) + b"\n" for line in lines])
        except Exception as error:
            self._fail(error, len(lines))
            return
        self.lost += lost
        self.written += len(lines) - lost
        if self.error:
            _log.info("journal %s: written again, after %d lines were lost", self.folder, self.lost)
        self._failed_at = self.error = None

    def _fail(self, error: Exception, lines: int) -> None:
        with suppress(OSError):
            self._files.close()
        self.lost += lines
        self._failed_at = time.monotonic()
        reason = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"
        if self.error is None:  # once, until it works again
            _log.warning("journal %s: cannot be written: %s; speech goes on without it", self.folder, reason)
        self.error = reason
