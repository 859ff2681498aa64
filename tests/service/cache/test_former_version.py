"""Cache file of another version: the former one is read, a later one is left alone with one line in the log."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from steadyvoice import AsyncTTSService, Tone
from steadyvoice.service.cache.store import FILE_NAME

FORMER_FILE = Path(__file__).with_name("former_cache.sqlite3")
"""Cache that the former version wrote on 29 November 2025: "Hi." by the tone, in ulaw_8000."""

DAY_AFTER = 1764374400.0 + 86_400


def service(folder: Path) -> AsyncTTSService:
    return AsyncTTSService([Tone()], cache=folder, wall_clock=lambda: DAY_AFTER)


async def test_recording_of_the_former_version_is_played(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(FORMER_FILE.read_bytes())
    async with service(tmp_path) as tts:
        recorded = await tts.synthesize("Hi.", format="ulaw_8000")
        assert recorded.outcome == "cached"
        spoken = await tts.synthesize("Hi.", format="ulaw_8000", cache=False)
    assert (recorded.audio, recorded.alignment) == (spoken.audio, spoken.alignment)


async def test_cache_of_a_later_version_is_not_opened_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(FORMER_FILE.read_bytes())
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    before = file.read_bytes()
    async with service(tmp_path) as tts:
        for _ in range(2):
            assert (await tts.synthesize("Hi.", format="ulaw_8000")).outcome == "spoken"
        assert "layout of another version" in tts.get_error_state()["cache"]["error"]
    lines = [record.getMessage() for record in caplog.records if record.name == "steadyvoice.cache"]
    (line,) = lines
    assert line.endswith("the file has the layout of another version; synthesis continues without it")
    assert file.read_bytes() == before
