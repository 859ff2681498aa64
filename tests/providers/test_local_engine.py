"""Queue in front of the child process, with children that die, hang or write too much in place of eSpeak NG."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any, cast

import pytest

from steadyvoice.providers.espeak import EspeakRequest
from steadyvoice.providers.espeak_ng import worker
from steadyvoice.providers.local_engine import EngineJob, EngineProcess, start_child
from steadyvoice.speech.errors import TTSError, TTSLocalCrashError, TTSVoiceUnknownError

HELLO = EspeakRequest("hello", "en", 175, 50, pause_after=False)
HANG = EspeakRequest("hang", "en", 175, 50, pause_after=False)
DIE = EspeakRequest("die", "en", 175, 50, pause_after=False)
DIE_HALFWAY = EspeakRequest("die halfway", "en", 175, 50, pause_after=False)
UNKNOWN = EspeakRequest("hello", "nobody", 175, 50, pause_after=False)

# Echoes the text as if it were samples, unless it is told to misbehave. Two named pipes tell that it hangs, and end it.
CHILD = f"""
import os, signal, struct, sys
request, reply = struct.Struct("{worker.REQUEST.format}"), struct.Struct("{worker.REPLY.format}")
hanging, release, farewell = sys.argv[1:]
signal.alarm(30)  # a test that fails shall not hang as well
while len(header := sys.stdin.buffer.read(request.size)) == request.size:
    *_, voice_size, text_size = request.unpack(header)
    voice, text = sys.stdin.buffer.read(voice_size), sys.stdin.buffer.read(text_size)
    if text == b"hang":
        open(hanging, "wb").close()
        open(release, "rb").close()
    if text == b"die":
        sys.exit("out of breath")
    sys.stdout.buffer.write(reply.pack(voice != b"nobody", 0, len(text)))
    if text == b"die halfway":
        sys.stdout.buffer.write(text[:3])
        sys.stdout.buffer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
open(farewell, "wb").close()
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes")


class ProcessWithFakeChild:
    """EngineProcess with misbehaving children, a signal when one hangs, and a way to end it."""

    def __init__(self, folder: Path, *, patience: float = 0.0) -> None:
        self._hanging, self._release, self._farewell = (folder / name for name in ("hanging", "release", "bye"))
        os.mkfifo(self._hanging)
        os.mkfifo(self._release)
        self.curtain = threading.Event()  # no child starts before it rises
        self.curtain.set()
        self.starting = threading.Event()
        self.process = EngineProcess(self._start, name="espeak", sample_rate=22_050, patience=patience)

    def _start(self) -> subprocess.Popen[bytes]:
        self.starting.set()
        self.curtain.wait()
        paths = (self._hanging, self._release, self._farewell)
        return start_child([sys.executable, "-c", CHILD, *map(str, paths)])

    async def wait_for_a_hanging_job(self) -> None:
        await asyncio.to_thread(self._hanging.read_bytes)

    async def release(self) -> None:
        await asyncio.to_thread(self._release.write_bytes, b"")

    @property
    def was_terminated(self) -> bool:
        return self._farewell.exists()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[ProcessWithFakeChild]:
    stage = ProcessWithFakeChild(tmp_path)
    yield stage
    await stage.process.aclose()


async def test_job_returns_its_audio(stage: ProcessWithFakeChild) -> None:
    assert (await stage.process.speak(HELLO)).samples == b"hello"


async def test_child_that_dies_raises_with_its_last_line(stage: ProcessWithFakeChild) -> None:
    with pytest.raises(
        TTSLocalCrashError, match=re.escape("espeak: child process died (exit status 1: out of breath)")
    ):
        await stage.process.speak(DIE)


async def test_incomplete_reply_is_an_error(stage: ProcessWithFakeChild) -> None:
    with pytest.raises(TTSLocalCrashError, match="SIGKILL"):
        await stage.process.speak(DIE_HALFWAY)


@pytest.mark.parametrize("passage", [DIE, DIE_HALFWAY, UNKNOWN])
async def test_failed_job_leaves_no_garbage(stage: ProcessWithFakeChild, passage: EspeakRequest) -> None:
    async def failed() -> weakref.ref[EngineJob]:
        turn = stage.process.submit(passage)
        try:
            await turn.result()
        except TTSError:
            return weakref.ref(turn)
        raise AssertionError("nothing failed")

    gc.disable()
    try:
        turn = await failed()
        await stage.process.speak(HELLO)  # the thread has let go of the turn before it takes the next
        assert turn() is None
    finally:
        gc.enable()


async def test_abandoned_job_leaves_no_garbage(stage: ProcessWithFakeChild) -> None:
    gc.disable()
    try:
        stuck = stage.process.submit(HANG)
        await stage.wait_for_a_hanging_job()
        stuck.abandon()
        turn = weakref.ref(stuck)
        del stuck
        await stage.process.speak(HELLO)
        assert turn() is None
    finally:
        gc.enable()


async def test_queue_reports_waiting_jobs_and_their_start(stage: ProcessWithFakeChild) -> None:
    first = stage.process.submit(HANG)
    await stage.wait_for_a_hanging_job()
    second, third = stage.process.submit(HELLO), stage.process.submit(HELLO)
    assert (first.waits, second.waits, third.waits) == (False, True, True)
    await first.wait_until_started()
    assert stage.process.queue_wait > 0
    assert not second.started.done()

    third.abandon()
    await stage.release()
    await second.wait_until_started()
    assert (await second.result()).samples == b"hello"
    assert stage.process.queue_wait == 0
    assert not stage.process.submit(HELLO).waits, "nobody is counted twice"


async def test_dropped_job_counts_as_started(stage: ProcessWithFakeChild) -> None:
    stage.process.submit(HANG)
    await stage.wait_for_a_hanging_job()
    waiting = stage.process.submit(HELLO)
    waiting.abandon()
    await waiting.wait_until_started()
    assert stage.process.queue_wait == 0
    await stage.release()


async def test_job_after_a_crash_gets_a_new_child(stage: ProcessWithFakeChild) -> None:
    died, spoken = await asyncio.gather(stage.process.speak(DIE), stage.process.speak(HELLO), return_exceptions=True)

    assert isinstance(died, TTSLocalCrashError)
    assert not isinstance(spoken, BaseException)
    assert spoken.samples == b"hello"


async def test_unknown_voice_is_not_a_crash(stage: ProcessWithFakeChild) -> None:
    await stage.process.speak(HELLO)
    child = stage.process.process_id
    with pytest.raises(TTSVoiceUnknownError, match="espeak has no voice 'nobody'"):
        await stage.process.speak(UNKNOWN)

    assert (await stage.process.speak(HELLO)).samples == b"hello"
    assert stage.process.process_id == child


async def test_abandoning_a_stuck_job_frees_the_queue(stage: ProcessWithFakeChild) -> None:
    stuck = asyncio.create_task(stage.process.speak(HANG))
    await stage.wait_for_a_hanging_job()
    waiting = asyncio.create_task(stage.process.speak(HELLO))
    stuck.cancel()

    assert (await waiting).samples == b"hello"
    with pytest.raises(asyncio.CancelledError):
        await stuck


async def test_abandoning_a_queued_job_affects_no_other(stage: ProcessWithFakeChild) -> None:
    slow = asyncio.create_task(stage.process.speak(HANG))
    await stage.wait_for_a_hanging_job()
    impatient = asyncio.create_task(stage.process.speak(DIE))
    await asyncio.wait([impatient], timeout=0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    await stage.release()

    assert (await slow).samples == b"hang"
    assert (await stage.process.speak(HELLO)).samples == b"hello"  # and not the death of DIE


class ChildThatDiesSlowly(subprocess.Popen[bytes]):
    """Child that still looks alive after it was killed, as any does for a moment, and reports its last output."""

    def __init__(self, folder: Path, last_word: Callable[[], object]) -> None:
        command = [sys.executable, "-c", CHILD, *(str(folder / name) for name in ("hanging", "release", "bye"))]
        pipe = subprocess.PIPE
        super().__init__(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        assert self.stdout
        self.stdout = cast("IO[bytes]", ObservedPipe(self.stdout, last_word))
        self.killed = False

    def kill(self) -> None:
        self.killed = True
        super().kill()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)  # so that the next question always comes too late

    def poll(self) -> int | None:
        return None if self.killed else super().poll()


class ObservedPipe:
    """Pipe that calls back when "hello" was read from it."""

    def __init__(self, pipe: IO[bytes], last_word: Callable[[], object]) -> None:
        self._pipe, self._last_word = pipe, last_word

    def readinto(self, buffer: memoryview) -> int:
        count: int = self._pipe.readinto(buffer)  # type: ignore[attr-defined]
        if bytes(buffer[:count]) == b"hello":
            self._last_word()
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


async def test_abandoning_a_job_as_it_ends_does_not_fail_the_next(tmp_path: Path) -> None:
    entered, given_up = threading.Event(), list[EngineJob]()

    def give_up() -> None:
        entered.wait()
        if given_up:
            given_up.pop().abandon()

    process = EngineProcess(lambda: ChildThatDiesSlowly(tmp_path, give_up), name="espeak", sample_rate=22_050)
    given_up.append(process.submit(HELLO))
    entered.set()

    assert (await process.speak(HELLO)).samples == b"hello"
    await process.aclose()


async def test_patient_queue_discards_an_abandoned_job_and_keeps_its_child(tmp_path: Path) -> None:
    stage = ProcessWithFakeChild(tmp_path, patience=60.0)
    hanging = asyncio.create_task(stage.process.speak(HANG))
    await stage.wait_for_a_hanging_job()
    child = stage.process.process_id
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging

    following = asyncio.create_task(stage.process.speak(HELLO))
    await stage.release()
    assert (await following).samples == b"hello"
    assert stage.process.process_id == child
    await stage.process.aclose()


async def test_warming_up_starts_the_child_once_and_waits_for_nothing(stage: ProcessWithFakeChild) -> None:
    stage.curtain.clear()
    stage.process.warm_up()
    stage.process.warm_up()
    await asyncio.to_thread(stage.starting.wait)
    assert stage.process.process_id is None
    stage.curtain.set()
    assert (await stage.process.speak(HELLO)).samples == b"hello"


async def test_child_that_cannot_be_warmed_up_fails_its_first_job() -> None:
    process = EngineProcess(lambda: start_child(["/nowhere/python"]), name="espeak", sample_rate=22_050)
    process.warm_up()
    with pytest.raises(TTSLocalCrashError, match="child process does not start"):
        await process.speak(HELLO)
    await process.aclose()


async def test_abandoning_a_job_while_the_child_starts_keeps_the_child(stage: ProcessWithFakeChild) -> None:
    stage.curtain.clear()
    early = asyncio.create_task(stage.process.speak(HANG))
    await asyncio.to_thread(stage.starting.wait)
    early.cancel()
    with pytest.raises(asyncio.CancelledError):
        await early
    stage.curtain.set()

    async with asyncio.timeout(20):  # for ever, if HANG were spoken with nobody waiting for it
        assert (await stage.process.speak(HELLO)).samples == b"hello"


async def test_idle_child_exits_normally(stage: ProcessWithFakeChild) -> None:
    await stage.process.speak(HELLO)
    await stage.process.aclose()

    assert stage.was_terminated


async def test_ctrl_c_at_the_terminal_does_not_reach_the_child(stage: ProcessWithFakeChild) -> None:
    await stage.process.speak(HELLO)
    child = stage.process.process_id

    assert child is not None
    assert os.getpgid(child) != os.getpgid(0)


async def test_closing_does_not_wait_for_a_stuck_child(stage: ProcessWithFakeChild) -> None:
    stuck = asyncio.create_task(stage.process.speak(HANG))
    await stage.wait_for_a_hanging_job()
    await stage.process.aclose()

    with pytest.raises(TTSLocalCrashError):
        await stuck
    assert stage.process.process_id is None


async def test_queued_jobs_are_answered_on_closing_and_leave_no_child(stage: ProcessWithFakeChild) -> None:
    stuck = asyncio.create_task(stage.process.speak(HANG))
    await stage.wait_for_a_hanging_job()
    waiting = asyncio.create_task(stage.process.speak(HELLO))
    await asyncio.wait([waiting], timeout=0)
    await stage.process.aclose()

    assert (await waiting).samples == b"hello"
    assert stage.process.process_id is None
    with pytest.raises(TTSLocalCrashError):
        await stuck


async def test_child_that_dies_before_reading_the_request_is_a_crash() -> None:
    process = EngineProcess(
        lambda: start_child([sys.executable, "-c", "import sys; sys.exit('no voice')"]),
        name="espeak",
        sample_rate=22_050,
    )
    more_than_a_pipe_holds = EspeakRequest("a" * 1_000_000, "en", 175, 50, pause_after=False)
    with pytest.raises(TTSLocalCrashError, match="exit status 1: no voice"):
        await process.speak(more_than_a_pipe_holds)
    await process.aclose()


async def test_missing_program_is_a_crash_that_names_it() -> None:
    process = EngineProcess(lambda: start_child(["/nowhere/python"]), name="espeak", sample_rate=22_050)
    with pytest.raises(TTSLocalCrashError, match=r"espeak: child process does not start: .*No such file"):
        await process.speak(HELLO)
    await process.aclose()
