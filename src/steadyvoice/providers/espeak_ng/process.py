"""Child process of eSpeak NG: starts it, queues jobs in front of it, and replaces it when it dies.

It is reached over a blocking pipe by one thread, not by asyncio's subprocesses: this works under any event loop, in any
thread and on any platform, and several loops can share one child.
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

_EXIT_TIMEOUT = 1.0  # seconds for a child to exit after its stdin is closed


@dataclass(frozen=True, slots=True)
class EspeakRequest:
    """Text of one job, and how to speak it. The child holds all of its audio at once, so keep it short."""

    text: str
    voice: str
    words_per_minute: int
    pitch: int
    pause_after: bool


@dataclass(frozen=True, slots=True)
class EspeakSpeech:
    """Audio of one job: signed 16-bit samples, and for each word its first character and its start in seconds."""

    samples: bytes
    words: tuple[tuple[int, float], ...]

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / 2 / worker.SAMPLE_RATE


class EspeakProcess:
    """Child process and its queue. A child that has died is replaced for the next job.

    After `os.fork()`, the forked process starts a child of its own; the parent's child continues to serve the parent.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]], *, name: str) -> None:
        self._start = start
        self._name = name
        self._child: subprocess.Popen[bytes] | None = None
        self._reset()
        register_fork_aware(self)

    def _reset(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        self._lock = threading.Lock()
        self.fork_lock = threading.Lock()
        """Held while a child starts: a fork in the middle would inherit pipes that no object owns."""
        self._running: EspeakJob | None = None
        self._unfinished = 0  # jobs that were submitted and are not finished
        self._waiting: OrderedDict[EspeakJob, float] = OrderedDict()  # queued jobs, and when they came
        self._stopped: Future[str] | None = None

    def after_fork(self) -> None:
        """Close the copies of the pipes to the parent's child: it exits only when no process holds one."""
        child, self._child = self._child, None
        if child is not None:
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
            child.returncode = 0  # keeps its finalizer from waiting for a process that is not a child of this one
        self._reset()

    @property
    def process_id(self) -> int | None:
        """Process id of the child; None until it has started."""
        return child.pid if (child := self._child) else None

    @property
    def queue_wait(self) -> float:
        """Seconds for which the next job has waited; 0.0 when the queue is empty."""
        with self._lock:
            return time.monotonic() - next(iter(self._waiting.values())) if self._waiting else 0.0

    async def speak(self, request: EspeakRequest) -> EspeakSpeech:
        """Queue a job and return its audio.

        Raises TTSLocalCrashError when the child dies, TTSVoiceUnknownError when it has no such voice.
        """
        job = self.submit(request)
        try:
            return await job.result()
        except asyncio.CancelledError:
            job.abandon()
            raise

    def submit(self, request: EspeakRequest) -> EspeakJob:
        """Queue a job, which has to be awaited or abandoned."""
        with self._lock:
            job = EspeakJob(self, request, waits=self._unfinished > 0)
            self._unfinished += 1
            self._waiting[job] = time.monotonic()
        try:
            job.done = self._thread.submit(self._run, job)
        except BaseException:
            self._finish(job)
            raise
        return job

    async def aclose(self) -> None:
        """End the child and wait until it has exited. The running job fails. No more jobs can be submitted."""
        if self._stopped is None:
            self._stopped = self._thread.submit(self._stop)
            self._thread.shutdown(wait=False)
        if job := self._running:
            self._kill_for(job)
        await asyncio.wrap_future(self._stopped)

    def _kill_for(self, job: EspeakJob) -> None:
        """Kill the child if it is running this job: the rest of its reply must not be read as that to the next job."""
        # A stuck child ends in the same way, once its caller times out.

        with self._lock:
            job.abandoned = True
            if self._running is job and (child := self._child):
                child.kill()

    def _finish(self, job: EspeakJob) -> None:
        """Count a job as finished, whether or not it started."""
        with self._lock:
            self._unfinished -= 1
            self._waiting.pop(job, None)
        if not job.started.done():
            job.started.set_result(None)

    def _run(self, job: EspeakJob) -> EspeakSpeech:
        try:
            return self._speak(job)
        finally:
            self._finish(job)
            del job  # the job holds the error, whose traceback holds this frame: a cycle

    def _speak(self, job: EspeakJob) -> EspeakSpeech:
        try:
            child = self._running_child()
        except OSError as error:
            raise TTSLocalCrashError(f"child process does not start: {error}", provider=self._name) from error
        with self._lock:
            if job.abandoned:
                return EspeakSpeech(b"", ())  # its caller has left
            self._running = job
            self._waiting.pop(job, None)
        job.started.set_result(None)
        try:
            return self._exchange(child, job.request)
        except (OSError, EOFError) as error:
            raise TTSLocalCrashError(f"child process died ({self._stop()})", provider=self._name) from error
        finally:
            with self._lock:
                self._running, killed = None, job.abandoned
            del job
            if killed:
                # A child that was killed as its reply ended still looks alive for a moment. About once in a thousand
                # abandoned jobs, the next one wrote to it and failed.
                self._stop()

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child and self._child.poll() is not None:
            self._stop()  # it died between two jobs: none has failed
        if not self._child:
            with self.fork_lock:
                self._child = self._start()
        return self._child

    def _exchange(self, child: subprocess.Popen[bytes], request: EspeakRequest) -> EspeakSpeech:
        requests, replies = cast(IO[bytes], child.stdin), cast(IO[bytes], child.stdout)
        _write(requests, _encode_request(request))
        succeeded, words, size = worker.REPLY.unpack(_read(replies, worker.REPLY.size))
        entries = _read(replies, words * worker.WORD.size)
        samples = _read(replies, size)
        if not succeeded:
            raise TTSVoiceUnknownError(f"espeak has no voice {request.voice!r}", provider=self._name)
        starts = ((place, sample / worker.SAMPLE_RATE) for place, sample in worker.WORD.iter_unpack(entries))
        return EspeakSpeech(samples, tuple(starts))

    def _stop(self) -> str:
        """Close the child's stdin, wait or kill it, and return how it ended."""
        child = self._child
        if child is None:
            return "not started"
        try:
            _, stderr = child.communicate(timeout=_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            _, stderr = child.communicate()
        finally:
            self._child = None  # not sooner: a process forked meanwhile has to find the pipes
        lines = stderr.decode(errors="replace").strip().splitlines()
        return ": ".join([_exit_cause(child.returncode), *lines[-1:]])


class EspeakJob:
    """Job in the queue of the child. It `waits` when there are others before it."""

    def __init__(self, process: EspeakProcess, request: EspeakRequest, *, waits: bool) -> None:
        self.request, self.waits = request, waits
        self.abandoned = False
        self.started: Future[None] = Future()
        self.started.set_running_or_notify_cancel()  # keeps a cancelled caller from cancelling the future
        self.done: Future[EspeakSpeech]
        self._process = process

    async def wait_until_started(self) -> None:
        """Wait until the job runs, or is dropped."""
        await asyncio.wrap_future(self.started)

    async def result(self) -> EspeakSpeech:
        """Wait for the audio, once. Raises TTSLocalCrashError and TTSVoiceUnknownError."""
        done = asyncio.wrap_future(self.done)
        try:
            return await done
        finally:
            if not done.cancelled():
                self.done = _FINISHED  # an error's traceback holds its readers, and they hold this job: a cycle
            del done

    def abandon(self) -> None:
        """Leave the queue, or kill the child that runs the job. Does nothing once it is finished."""
        if self.done.cancel() and not self.abandoned:
            self._process._finish(self)
        self._process._kill_for(self)


_FINISHED: Future[EspeakSpeech] = Future()
_FINISHED.set_result(EspeakSpeech(b"", ()))


def _encode_request(request: EspeakRequest) -> bytes:
    voice = request.voice.encode()
    text = request.text.encode(errors="replace")  # a lone surrogate becomes "?", which is one character, too
    pace = (request.words_per_minute, request.pitch, request.pause_after)
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
    """Start a child with three pipes. It exits when its stdin is closed. Raises OSError."""
    # Ctrl-C at the terminal does not reach a session of its own. The pipes are unbuffered: closing a buffered one in a
    # forked process would write the contents of the parent's buffer.
    pipe = subprocess.PIPE
    return subprocess.Popen(  # noqa: S603 - no part of the command comes from a caller
        command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )


def worker_command(files: EspeakFiles) -> list[str]:
    """Return the command that runs the worker by its path, isolated: it needs neither steadyvoice nor site-packages."""
    paths = (str(path.absolute()) for path in (files.library, files.data))
    return [sys.executable, "-I", "-S", worker.__file__, *paths]
