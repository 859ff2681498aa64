"""Preview of a circuit's settings: what the callers of the recent journal would have met with under them.

The replay runs in a process of its own: in a thread it would hold the interpreter's lock while streams run, and could
not be stopped.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from steadyvoice.breaker import CircuitBreakerConfig
from steadyvoice.gateway.admin.request import AdminRequestError
from steadyvoice.gateway.admin.views import CHANGEABLE_FIELDS

UTTERANCES = 2_000
"""Newest utterances of each run that are replayed."""

FILES = 6
"""Newest files of the journal that are read."""

TIMEOUT = 30.0
"""Seconds after which a replay is stopped."""

HOW_TO_BEGIN = (
    "no journal: with a table [journal] in the configuration file, this shows what callers would have met with"
)
"""Message of a gateway without a journal."""


class ReplayPreview:
    """Previews of one gateway, one at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def preview(
        self, folder: Path | None, provider: str, config: CircuitBreakerConfig, before: CircuitBreakerConfig
    ) -> dict[str, Any]:
        """Return what happened, and what would have happened under these settings. Raises AdminRequestError.

        `before` are the settings in force, which are replayed as well.
        """
        if folder is None:
            raise AdminRequestError(409, "no_journal", HOW_TO_BEGIN)
        if self._lock.locked():
            raise AdminRequestError(409, "busy", "another preview is being computed; try again in some seconds")
        async with self._lock:
            files = await asyncio.to_thread(newest_files, folder)
            if not files:
                raise AdminRequestError(409, "no_calls", "the journal has no calls yet")
            requested = {"provider": provider, "circuits": [_fields_of(before), _fields_of(config)]}
            return _selected(await _replayed(files, requested))


async def _replayed(files: list[Path], requested: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of `steadyvoice replay` in another process."""
    command = [
        sys.executable, "-m", "steadyvoice", "replay", *map(str, files), "--json",
        "--circuit", json.dumps(requested), "--last", str(UTTERANCES), "--seconds", str(TIMEOUT),
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    if hasattr(os, "setpriority"):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, 5)  # streams come first
    try:
        async with asyncio.timeout(TIMEOUT):
            output, message = await process.communicate()
    except TimeoutError:
        raise AdminRequestError(503, "too_slow", f"the replay took longer than {TIMEOUT:g} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        reason = message.decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
        raise AdminRequestError(409, "no_replay", reason or f"the replay failed with status {process.returncode}")
    report: dict[str, Any] = json.loads(output)
    return report


def newest_files(folder: Path, max_bytes: int = 50_000_000) -> list[Path]:
    """Return the newest files of a journal, as many as may be read at once, oldest first."""
    found = []
    for path in folder.glob("*.jsonl"):
        with suppress(FileNotFoundError):  # rotated meanwhile
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    chosen: list[Path] = []
    size = 0
    for _, length, path in sorted(found, reverse=True)[:FILES]:
        size += length
        if chosen and size > max_bytes:
            break
        chosen.append(path)
    return chosen[::-1]


def _fields_of(config: CircuitBreakerConfig) -> dict[str, Any]:
    defaults = {field.name: field.default for field in fields(CircuitBreakerConfig)}
    given = {name: getattr(config, name) for name in CHANGEABLE_FIELDS}
    return {name: value for name, value in given.items() if value != defaults[name]}


def _selected(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a preview shows of a report: the last two of its replays."""
    before, after = list(report["replays"].values())[-2:]
    return {
        "journal": {name: report["journal"][name] for name in ("utterances", "damaged_lines", "missing_files")},
        "fidelity": report["fidelity"],
        "happened": report["happened"],
        "before": before,
        "after": after,
    }
