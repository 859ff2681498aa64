"""The caller's end of the pipe to the espeak child: starts it, takes turns at it, replaces it when it dies.

A blocking pipe and one thread rather than asyncio's subprocesses: these work under any event loop, in any thread, on
any platform, and several loops can share one child.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, cast

from steadyvoice.breaker.fork_safety import register_fork_aware
from steadyvoice.providers.espeak_ng import worker
from steadyvoice.providers.espeak_ng.voices import EspeakFiles
from steadyvoice.speech.errors import TTSLocalCrashError, TTSVoiceUnknownError

_EXIT_TIMEOUT = 1.0  # seconds for a child to notice that its stdin is closed


@dataclass(frozen=True, slots=True)
class EspeakRequest:
    """What to say in one turn, and how. The child holds all of its audio at once, so keep it short."""

    text: str
    voice: str
    words_per_minute: int
    pitch: int
    pause_after: bool


@dataclass(frozen=True, slots=True)
class EspeakSpeech:
    """Signed 16-bit samples, and for each word its first character and when it starts, in seconds."""

    samples: bytes
    words: tuple[tuple[int, float], ...]

    @property
    def duration(self) -> float:
        """In seconds."""
        return len(self.samples) / 2 / worker.SAMPLE_RATE


class EspeakProcess:
    """One child and its queue. A child that died is replaced when the next passage is due.

    After `os.fork()` the forked process starts an espeak child of its own; the parent's goes on answering the parent.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]], *, name: str) -> None:
        self._start = start
        self._name = name
        self._child: subprocess.Popen[bytes] | None = None
        self._begin()
        register_fork_aware(self)

    def _begin(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        self._lock = threading.Lock()
        self.fork_lock = threading.Lock()
        """Held while a child starts: a fork in the middle would inherit pipes that nothing knows of."""
        self._turn: EspeakJob | None = None
        self._unfinished = 0  # turns that were entered
        self._waiting: OrderedDict[EspeakJob, float] = OrderedDict()  # those that have not begun, and since when
        self._stopped: Future[str] | None = None

    def after_fork(self) -> None:
        """Leave the parent's child alone, and close our copies of its pipes: it ends when no process holds one."""
        child, self._child = self._child, None
        if child is not None:
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
            child.returncode = 0  # so that its finaliser neither waits for it nor complains
        self._begin()

    @property
    def process_id(self) -> int | None:
        """The child's, once there is one."""
        return child.pid if (child := self._child) else None

    @property
    def queue_wait(self) -> float:
        """Seconds for which the turn that is next has waited; 0.0 when none waits."""
        with self._lock:
            return time.monotonic() - next(iter(self._waiting.values())) if self._waiting else 0.0

    async def speak(self, passage: EspeakRequest) -> EspeakSpeech:
        """Wait for a turn and speak.

        Raises TTSLocalCrashError when the child dies over it, TTSVoiceUnknownError when it has no such voice.
        """
        turn = self.submit(passage)
        try:
            return await turn.spoken()
        except asyncio.CancelledError:
            turn.abandon()
            raise

    def submit(self, passage: EspeakRequest) -> EspeakJob:
        """Queue for a turn, which has to be awaited or abandoned."""
        with self._lock:
            turn = EspeakJob(self, passage, waits=self._unfinished > 0)
            self._unfinished += 1
            self._waiting[turn] = time.monotonic()
        try:
            turn.done = self._thread.submit(self._take, turn)
        except BaseException:
            self._leave(turn)
            raise
        return turn

    async def aclose(self) -> None:
        """End the child and wait until it is gone. What is being spoken fails; this object is used up."""
        if self._stopped is None:
            self._stopped = self._thread.submit(self._stop)
            self._thread.shutdown(wait=False)
        if turn := self._turn:
            self._abandon(turn)
        await asyncio.wrap_future(self._stopped)

    def _abandon(self, turn: EspeakJob) -> None:
        """Kill the child if it is busy with this: half an answer must not meet the next question.

        A stuck child is got rid of in the same way, for sooner or later somebody gives up waiting.
        """
        with self._lock:
            turn.abandoned = True
            if self._turn is turn and (child := self._child):
                child.kill()

    def _leave(self, turn: EspeakJob) -> None:
        """Count a turn as over, whether or not it began."""
        with self._lock:
            self._unfinished -= 1
            self._waiting.pop(turn, None)
        if not turn.started.done():
            turn.started.set_result(None)

    def _take(self, turn: EspeakJob) -> EspeakSpeech:
        try:
            return self._speak(turn)
        finally:
            self._leave(turn)
            del turn  # which holds the error whose traceback holds this frame

    def _speak(self, turn: EspeakJob) -> EspeakSpeech:
        try:
            child = self._running_child()
        except OSError as error:
            raise TTSLocalCrashError(f"its process does not start: {error}", provider=self._name) from error
        with self._lock:
            if turn.abandoned:
                return EspeakSpeech(b"", ())  # nobody waits for it any more
            self._turn = turn
            self._waiting.pop(turn, None)
        turn.started.set_result(None)
        try:
            return self._exchange(child, turn.passage)
        except (OSError, EOFError) as error:
            raise TTSLocalCrashError(f"its process died ({self._stop()})", provider=self._name) from error
        finally:
            with self._lock:
                self._turn, killed = None, turn.abandoned
            del turn
            if killed:
                self._stop()  # perhaps just as its answer ended: for a moment it still looks alive to the next turn

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child and self._child.poll() is not None:
            self._stop()  # it died between two turns: nobody has lost anything
        if not self._child:
            with self.fork_lock:
                self._child = self._start()
        return self._child

    def _exchange(self, child: subprocess.Popen[bytes], passage: EspeakRequest) -> EspeakSpeech:
        questions, answers = cast(IO[bytes], child.stdin), cast(IO[bytes], child.stdout)
        _write(questions, _encode_request(passage))
        understood, words, size = worker.REPLY.unpack(_read(answers, worker.REPLY.size))
        entries = _read(answers, words * worker.WORD.size)
        samples = _read(answers, size)
        if not understood:
            raise TTSVoiceUnknownError(f"espeak has no voice {passage.voice!r}", provider=self._name)
        starts = ((place, sample / worker.SAMPLE_RATE) for place, sample in worker.WORD.iter_unpack(entries))
        return EspeakSpeech(samples, tuple(starts))

    def _stop(self) -> str:
        """Close the child's stdin, see to it that it is gone, and say what it died of."""
        child = self._child
        if child is None:
            return "not started"
        try:
            _, last_words = child.communicate(timeout=_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            _, last_words = child.communicate()
        finally:
            self._child = None  # not sooner: a process forked meanwhile has to find the pipes
        lines = last_words.decode(errors="replace").strip().splitlines()
        return ": ".join([_exit_cause(child.returncode), *lines[-1:]])


class EspeakJob:
    """One passage in the queue of the child. It `waits` when others were there before."""

    def __init__(self, process: EspeakProcess, passage: EspeakRequest, *, waits: bool) -> None:
        self.passage, self.waits = passage, waits
        self.abandoned = False
        self.started: Future[None] = Future()
        self.started.set_running_or_notify_cancel()  # so that nobody who waits for it can cancel it
        self.done: Future[EspeakSpeech]
        self._process = process

    async def begun(self) -> None:
        """Wait until the child is asked, or will not be."""
        await asyncio.wrap_future(self.started)

    async def spoken(self) -> EspeakSpeech:
        """Wait for the audio, once. Raises TTSLocalCrashError and TTSVoiceUnknownError."""
        done = asyncio.wrap_future(self.done)
        try:
            return await done
        finally:
            if not done.cancelled():
                self.done = _FINISHED  # an error's traceback holds its readers, and they hold this turn
            del done

    def abandon(self) -> None:
        """Leave the queue, or interrupt the child over it. Once it is over, this changes nothing."""
        if self.done.cancel() and not self.abandoned:
            self._process._leave(self)
        self._process._abandon(self)


_FINISHED: Future[EspeakSpeech] = Future()
_FINISHED.set_result(EspeakSpeech(b"", ()))


def _encode_request(passage: EspeakRequest) -> bytes:
    voice = passage.voice.encode()
    text = passage.text.encode(errors="replace")  # a lone surrogate has no bytes: "?", still one character
    pace = (passage.words_per_minute, passage.pitch, passage.pause_after)
    return worker.REQUEST.pack(*pace, len(voice), len(text)) + voice + text


def _write(pipe: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest) :]


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        count: int = pipe.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise EOFError(f"{size - len(rest)} bytes of {size}")
        rest = rest[count:]
    return bytes(data)


def _exit_cause(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def start_child(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a child with its three pipes. In a session of its own, Ctrl-C at the terminal does not reach it: it ends
    when its stdin does. Raises OSError.

    The pipes are unbuffered: closing a buffered one in a forked process would write what the parent had in its buffer.
    """
    pipe = subprocess.PIPE
    return subprocess.Popen(  # noqa: S603 - the command is ours, no word of it the caller's
        command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )


def worker_command(files: EspeakFiles) -> list[str]:
    """Run the worker by its path, isolated: it needs neither steadyvoice nor site-packages."""
    paths = (str(path.absolute()) for path in (files.library, files.data))
    return [sys.executable, "-I", "-S", worker.__file__, *paths]
