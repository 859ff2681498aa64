"""Cache on a failing disk, in another process, or killed: synthesis continues, and nothing partial is stored."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from steadyvoice import Tone, TTSService
from steadyvoice.service.cache.store import FILE_NAME

from ..scripted_provider import Say, ScriptedProvider
from .cached_service import TEXT, caching_service


def file_instead_of_folder(folder: Path) -> Path:
    (folder / "file").write_text("no folder")
    return folder / "file"


def read_only(folder: Path) -> Path:
    return Path("/proc/steadyvoice")


def database_of_another_program(folder: Path) -> Path:
    with sqlite3.connect(folder / FILE_NAME) as theirs:
        theirs.execute("CREATE TABLE recipes (name TEXT)")
    theirs.close()
    return folder


@pytest.mark.looptime
@pytest.mark.parametrize("place", [file_instead_of_folder, read_only, database_of_another_program])
async def test_failing_disk_is_logged_once_and_speech_continues(
    tmp_path: Path, place: Any, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = ScriptedProvider()
    async with caching_service(place(tmp_path), vendor) as tts:
        for _ in range(5):
            assert (await tts.synthesize(TEXT)).outcome == "spoken"
            await asyncio.sleep(120)
        assert tts.get_error_state()["cache"]["error"]
    records = [record for record in caplog.records if record.name == "steadyvoice.cache"]
    assert [record.levelno for record in records] == [logging.WARNING]
    assert "synthesis continues without it" in records[0].getMessage()


@pytest.mark.looptime
async def test_failed_cache_is_tried_again(tmp_path: Path) -> None:
    place = file_instead_of_folder(tmp_path)
    async with caching_service(place, ScriptedProvider()) as tts:
        await tts.synthesize(TEXT)
        place.unlink()
        assert (await tts.synthesize(TEXT)).outcome == "spoken"
        await asyncio.sleep(61)
        await tts.synthesize(TEXT)
        assert (await tts.synthesize(TEXT)).outcome == "cached"
        assert tts.get_error_state()["cache"]["error"] is None


@pytest.mark.parametrize("pieces", range(4))
def test_killed_process_leaves_no_partial_recording(tmp_path: Path, pieces: int) -> None:
    class Deadly(ScriptedProvider):
        async def speak(self, *given: Any, **named: Any) -> Any:
            count = 0
            async for event in super().speak(*given, **named):
                if count > pieces:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
                yield event

    def speak(*providers: Any) -> Any:
        with TTSService(list(providers), cache=tmp_path, on_midstream="error") as tts:
            stream = tts.stream(TEXT, format="pcm_8000")
            return b"".join(stream), stream.outcome

    child = multiprocessing.get_context("fork").Process(target=speak, args=(Deadly([Say(first_after=0.0)]),))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    audio, outcome = speak(ScriptedProvider([Say(first_after=0.0)]))
    assert (len(audio), outcome) == (round(len(TEXT) * 0.06 * 8000) * 2, "spoken")


def test_forked_child_shares_stored_recordings(tmp_path: Path) -> None:
    with TTSService([Tone()], cache=tmp_path) as tts:
        tts.synthesize(TEXT, format="pcm_8000")
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        child = context.Process(target=lambda: answers.put(tts.synthesize(TEXT, format="pcm_8000").outcome))
        child.start()
        child.join(20)
        assert answers.get(timeout=5) == "cached"
        assert tts.synthesize(TEXT, format="pcm_8000").outcome == "cached"


def test_forked_child_does_not_join_a_stream_of_its_parent(tmp_path: Path) -> None:
    with TTSService([ScriptedProvider([Say(first_after=0.0)])], cache=tmp_path, on_midstream="error") as tts:
        stream = tts.stream(TEXT, format="pcm_8000")
        next(stream)
        context = multiprocessing.get_context("fork")
        answers = context.Queue()

        def speak() -> None:
            mine = tts.stream(TEXT, format="pcm_8000")
            answers.put((sum(map(len, mine)), mine.outcome))

        child = context.Process(target=speak, daemon=True)
        child.start()
        assert answers.get(timeout=20) == (round(len(TEXT) * 0.06 * 8000) * 2, "spoken")
        child.join(20)
        stream.close()
